/**
 * `npm run build:client`: makes the package `@roomcast/client` of the files in src/client that an application imports.
 * Takes the folder to write; default dist/packages/client.
 *
 * Each entry is an ES module and CommonJS. Both are cut into the same chunks, so that entries share what they must share:
 * the class of an error, what a publisher's emitters hold. An `import()` stays one in both: it loads what an application
 * may not have, or not need.
 */
import { execFileSync } from 'node:child_process';
import { globSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build, type Plugin } from 'esbuild';

const [out = 'dist/packages/client'] = process.argv.slice(2);
const ENTRIES = ['client', 'publisher', 'emitter', 'react', 'vue'];
/** All of them are optional. */
const PEERS = { 'socket.io-client': '^4.6.0', react: '>=18', vue: '^3.3' };
const TARGET = 'es2022';

rmSync(out, { recursive: true, force: true });
const { inputs } = await buildModules();
await buildCommonJs();
buildTypes();
writeFileSync(join(out, 'package.json'), `${JSON.stringify(manifest(), null, 2)}\n`);
writeFileSync(join(out, 'README.md'), readFileSync('src/client/README.md'));
writeFileSync(join(out, 'LICENSE'), [readFileSync('LICENSE', 'utf8'), ...bundledLicenses()].join('\n'));

async function buildModules() {
  const { metafile } = await build({
    entryPoints: ENTRIES.map((name) => `src/client/${name}.ts`),
    outdir: out,
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'neutral',
    target: TARGET,
    external: Object.keys(PEERS),
    metafile: true,
  });
  return metafile;
}

/** Of the ES modules, one by one: esbuild does not split CommonJS. */
async function buildCommonJs(): Promise<void> {
  const renameChunks: Plugin = {
    name: 'rename chunks',
    setup({ onResolve }) {
      onResolve({ filter: /./ }, ({ kind, path }) =>
        kind === 'entry-point' ? null : { path: path.replace(/^(\.\/.*)\.js$/, '$1.cjs'), external: true },
      );
    },
  };
  await build({
    entryPoints: globSync(join(out, '*.js')),
    outdir: out,
    outExtension: { '.js': '.cjs' },
    bundle: true,
    format: 'cjs',
    // Lists the names of the exports, for an `import` in Node.
    platform: 'node',
    target: TARGET,
    plugins: [renameChunks],
  });
}

/** TypeScript leaves `.ts` in the names of files that declarations import. */
function buildTypes(): void {
  const arguments_ = ['-p', 'tsconfig.client.json', '--outDir', join(out, 'types')];
  execFileSync('node_modules/.bin/tsc', arguments_, { stdio: 'inherit' });
  for (const file of globSync(join(out, 'types/**/*.d.ts'))) {
    const text = readFileSync(file, 'utf8');
    const importing = (extension: string): string =>
      text.replaceAll(/(['"]\.\.?\/[^'"]+)\.ts(?=['"])/g, `$1.${extension}`);
    writeFileSync(file, importing('js'));
    writeFileSync(file.replace(/ts$/, 'cts'), importing('cjs'));
  }
}

function manifest(): object {
  const { version, license, keywords } = JSON.parse(readFileSync('package.json', 'utf8')) as Record<string, unknown>;
  const names = ENTRIES.map((name) => [name === 'client' ? '.' : `./${name}`, filesOf(name)] as const);
  const optional = Object.keys(PEERS).map((name) => [name, { optional: true }] as const);
  return {
    name: '@roomcast/client',
    version,
    description: 'The client of a Roomcast bridge: every event once and in order, over any transport that works.',
    license,
    keywords,
    type: 'module',
    sideEffects: false,
    engines: { node: '>=20' },
    // For bundlers that do not read `exports`.
    main: './client.cjs',
    module: './client.js',
    types: './types/client/client.d.cts',
    exports: { ...Object.fromEntries(names), './package.json': './package.json' },
    peerDependencies: PEERS,
    peerDependenciesMeta: Object.fromEntries(optional),
  };
}

function filesOf(entry: string): object {
  return {
    import: { types: `./types/client/${entry}.d.ts`, default: `./${entry}.js` },
    require: { types: `./types/client/${entry}.d.cts`, default: `./${entry}.cjs` },
  };
}

/** Of the packages whose code is in the bundle. */
function bundledLicenses(): string[] {
  const names = Object.keys(inputs).map((path) => /^node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1]);
  const bundled = [...new Set(names)].filter((name) => name !== undefined);
  return bundled.map((name) => `${name}:\n\n${readFileSync(`node_modules/${name}/LICENSE`, 'utf8')}`);
}
