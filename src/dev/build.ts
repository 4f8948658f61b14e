/** `npm run build:server`: compiles src/ and copies Redis's scripts. Takes the folder to write; default dist. */
import { execFileSync } from 'node:child_process';
import { chmodSync, cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';

const [out = 'dist'] = process.argv.slice(2);
const SCRIPTS = 'store/redis/scripts';

rmSync(out, { recursive: true, force: true });
execFileSync('node_modules/.bin/tsc', ['-p', 'tsconfig.build.json', '--outDir', out], { stdio: 'inherit' });
cpSync(join('src', SCRIPTS), join(out, SCRIPTS), { recursive: true });
chmodSync(join(out, 'cli/main.js'), 0o755);
