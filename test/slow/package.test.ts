/**
 * Both packages as an application installs them, from what `npm pack` makes: what is in them, their types in every way that
 * they are resolved, and that they run: in a Vite + React + TypeScript project, in a page without a bundler, as an ES
 * module and with `require`. Everything but the packages is taken from the repository's node_modules.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import {
  cpSync,
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, extname, join, resolve } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { build } from 'vite';
import { BUDGETS, bundle, type Entry, sizeOf } from '../size.ts';
import { messageNew, startBridge, type TestBridge } from '../support/bridge.ts';
import { CHROMIUM, openInChromium } from '../support/browser.ts';
import { until } from '../support/until.ts';

const run = promisify(execFile);
const bin = (name: string): string => resolve('node_modules/.bin', name);
const LONGEST_MS = 60_000;
/** What `@roomcast/client` weighs on the disk, and docs/client.md says. */
const MAX_INSTALLED_BYTES = 600_000;

/** The output of a command, even if it failed. */
async function outputOf(command: string, args: readonly string[], cwd: string, env = {}): Promise<string> {
  try {
    const { stdout, stderr } = await run(command, args, { cwd, env: { ...process.env, ...env }, timeout: LONGEST_MS });
    return stdout + stderr;
  } catch (error) {
    const { stdout = '', stderr = '', message } = error as Error & { stdout?: string; stderr?: string };
    return `FAILED ${message}\n${stdout}${stderr}`;
  }
}

for (const entry of Object.keys(BUDGETS) as Entry[]) {
  test(`${entry} is under ${BUDGETS[entry]} bytes, compressed, and needs nothing of Node`, async () => {
    const { atOnce } = await sizeOf(entry);
    assert.ok(atOnce > 1000 && atOnce < BUDGETS[entry], `${atOnce} bytes`);
  });
}

test('docs/client.md says what the budgets keep', () => {
  const page = readFileSync('docs/client.md', 'utf8');
  for (const entry of ['client', 'publisher'] as const) {
    assert.ok(page.includes(`is under ${Math.ceil(BUDGETS[entry] / 1024)} KB compressed`), entry);
  }
  assert.ok(page.includes(`less than ${MAX_INSTALLED_BYTES / 1e6} MB`));
});

describe('installed from the tarballs', () => {
  const directory = mkdtempSync(join(tmpdir(), 'roomcast-package-'));
  const consumer = join(directory, 'consumer');
  const installed = (path: string): string => join(consumer, 'node_modules', path);
  const tarballs = { roomcast: '', '@roomcast/client': '' };
  const NAMES = Object.keys(tarballs) as (keyof typeof tarballs)[];

  before(async () => {
    const source = join(directory, 'source');
    mkdirSync(source);
    await run(process.execPath, ['src/dev/build.ts', join(source, 'dist')]);
    const client = join(source, 'dist/packages/client');
    await run(process.execPath, ['src/dev/build-client.ts', client]);
    for (const file of ['package.json', 'README.md', 'LICENSE']) cpSync(file, join(source, file));
    const pack = async (cwd: string): Promise<string> => {
      const args = ['pack', '--json', '--ignore-scripts', '--pack-destination', directory];
      const [packed] = Object.values(JSON.parse((await run('npm', args, { cwd })).stdout)) as { filename: string }[];
      return join(directory, packed?.filename ?? '');
    };
    tarballs.roomcast = await pack(source);
    tarballs['@roomcast/client'] = await pack(client);

    mkdirSync(consumer);
    writeFileSync(join(consumer, 'package.json'), '{ "type": "module" }');
    // It has no dependency, so npm needs no registry.
    await run('npm', ['install', '--offline', '--no-audit', '--no-fund', tarballs['@roomcast/client']], {
      cwd: consumer,
    });
    // The bridge has dependencies, of which its copy of the client needs one.
    mkdirSync(installed('roomcast'));
    await run('tar', ['-xzf', tarballs.roomcast, '--strip-components=1', '-C', installed('roomcast')]);
    mkdirSync(installed('roomcast/node_modules'));
    symlinkSync(resolve('node_modules/eventsource-parser'), installed('roomcast/node_modules/eventsource-parser'));
    for (const name of ['@types', 'undici-types', 'csstype'])
      symlinkSync(resolve('node_modules', name), installed(name));
  });
  after(() => rmSync(directory, { recursive: true }));

  test('npm installs @roomcast/client and nothing else', async () => {
    const { packages } = JSON.parse(readFileSync(join(consumer, 'package-lock.json'), 'utf8')) as { packages: object };
    assert.deepEqual(Object.keys(packages), ['', 'node_modules/@roomcast/client']);
    const files = globSync('@roomcast/client/**/*', { cwd: installed('') }).map((file) => statSync(installed(file)));
    const bytes = files.reduce((sum, { size }) => sum + size, 0);
    assert.ok(bytes < MAX_INSTALLED_BYTES, `${bytes} bytes`);
  });

  test('the client is in the version of the bridge, with readme and licence', () => {
    const manifest = (name: string) => JSON.parse(readFileSync(installed(`${name}/package.json`), 'utf8'));
    assert.equal(manifest('@roomcast/client').version, manifest('roomcast').version);
    for (const name of NAMES) {
      for (const file of ['README.md', 'LICENSE'])
        assert.ok(existsSync(installed(`${name}/${file}`)), `${name}/${file}`);
    }
  });

  test('the bridge’s package does not hold the client’s a second time', () => {
    assert.ok(!existsSync(installed('roomcast/dist/packages')));
  });

  const resolutions = {
    'a browser application, bundled': {
      options: { module: 'esnext', moduleResolution: 'bundler', lib: ['ES2022', 'DOM'], types: [] },
      file: 'application.ts',
    },
    'a Node application': {
      options: { module: 'nodenext', moduleResolution: 'nodenext', lib: ['ES2022'], types: ['node'] },
      file: 'application.ts',
    },
    'a Node application of CommonJS': {
      options: { module: 'nodenext', moduleResolution: 'nodenext', lib: ['ES2022'], types: ['node'] },
      file: 'application.cts',
    },
  };
  for (const [what, { options, file }] of Object.entries(resolutions)) {
    for (const name of NAMES) {
      if (name === 'roomcast' && file.endsWith('.cts')) continue; // ES modules only
      test(`${what} with ${name} compiles in strict mode, and mistakes do not`, async () => {
        const folder = mkdtempSync(join(consumer, 'types-'));
        const config = { compilerOptions: { ...options, strict: true, noEmit: true, target: 'es2022' } };
        writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ ...config, include: [file] }));
        writeFileSync(join(folder, file), ofPackage(name, APPLICATION));
        assert.equal(await outputOf(bin('tsc'), ['-p', 'tsconfig.json'], folder), '');
      });
    }
  }

  for (const name of NAMES) {
    test(`a bundle holds only the parts of ${name} that the application uses`, async () => {
      // In one file: esbuild's chunks hold what the chunk of `share` needs, also when nothing loads it.
      const sizeOfUsing = async (text: string): Promise<number> =>
        (await bundle(ofPackage(name, text), consumer, false)).atOnce.length;
      const using = `import { connect, RoomcastError } from 'roomcast/client';
        import { createPublisher } from 'roomcast/publisher'; console.log(RoomcastError.name);`;
      assert.ok((await sizeOfUsing(using)) < 1000);
      assert.ok((await sizeOfUsing(`import { connect } from 'roomcast/client'; export const one = 1;`)) < 100);
    });
  }

  for (const name of NAMES) {
    test(`${name} loads without socket.io-client, React and Vue`, async () => {
      const script = `import { connect } from 'roomcast/client'; import { createPublisher } from 'roomcast/publisher';
        console.log(typeof connect, typeof createPublisher);`;
      const args = ['--input-type=module', '--eval', ofPackage(name, script)];
      assert.equal((await outputOf(process.execPath, args, consumer)).trim(), 'function function');
    });
  }

  test('socket.io-client is loaded when it is needed, from an ES module and from CommonJS', async () => {
    const args = ['--print', `typeof require('@roomcast/client').connect`];
    assert.equal((await outputOf(process.execPath, args, consumer)).trim(), 'function');
    for (const extension of ['js', 'cjs']) {
      const files = globSync(installed(`@roomcast/client/*.${extension}`));
      const texts = files
        .map((file) => readFileSync(file, 'utf8'))
        .filter((text) => text.includes('"socket.io-client"'));
      assert.equal(texts.length, 1);
      assert.match(texts.join(), /await import\("socket.io-client"\)/);
    }
  });

  test('the scripts of the repository are not in the package: one would write into it on import', () => {
    const scripts = globSync('src/dev/*.ts').map((file) => basename(file, '.ts'));
    assert.ok(scripts.length > 1);
    for (const name of scripts) assert.ok(!existsSync(installed(`roomcast/dist/dev/${name}.js`)), name);
  });

  test('Redis’s scripts are in the package', () => {
    const scripts = globSync('store/redis/scripts/**/*.lua', { cwd: 'src' });
    assert.ok(scripts.length > 20);
    for (const name of scripts) assert.ok(existsSync(installed(`roomcast/dist/${name}`)), name);
  });

  for (const [name, profile] of [
    ['roomcast', 'esm-only'],
    ['@roomcast/client', 'node16'],
  ] as const) {
    test(`publint finds nothing in ${name}`, async () => {
      const output = await outputOf(bin('publint'), ['run', '--strict', tarballs[name]], directory);
      assert.match(output, /All good/);
    });

    test(`arethetypeswrong finds nothing in ${name}`, async () => {
      const output = await outputOf(bin('attw'), [tarballs[name], '--profile', profile], directory);
      assert.doesNotMatch(output, /FAILED/, output);
    });
  }

  describe('with a bridge', () => {
    let bridge: TestBridge;
    let pages: Server;
    let origin = '';
    before(async () => {
      for (const name of ['socket.io-client', 'react', 'react-dom']) {
        symlinkSync(resolve('node_modules', name), installed(name));
      }
      pages = createServer((request, response) => {
        const path = join(consumer, new URL(request.url ?? '', 'http://pages').pathname);
        if (!existsSync(path)) return response.writeHead(404).end();
        response.writeHead(200, { 'content-type': extname(path) === '.html' ? 'text/html' : 'text/javascript' });
        return response.end(readFileSync(path));
      });
      await new Promise<void>((resolve) => pages.listen(0, '127.0.0.1', resolve));
      origin = `http://127.0.0.1:${(pages.address() as AddressInfo).port}`;
      bridge = await startBridge({ corsOrigins: [origin] });
    });
    after(async () => {
      pages.close();
      await bridge.close();
    });

    for (const [what, extension, importing] of [
      ['an ES module', 'mjs', (names: string, from: string) => `import ${names} from '${from}';`],
      ['CommonJS', 'cjs', (names: string, from: string) => `const ${names} = require('${from}');`],
    ] as const) {
      test(`${what} publishes, emits and listens over a websocket`, async () => {
        const imports = [
          importing('{ connect }', '@roomcast/client'),
          importing('{ createPublisher }', '@roomcast/client/publisher'),
          importing('{ createEmitter }', '@roomcast/client/emitter'),
        ];
        const file = `script.${extension}`;
        writeFileSync(join(consumer, file), `${imports.join('\n')}\n${SCRIPT}`);
        const output = await outputOf(process.execPath, [file], consumer, { BRIDGE_URL: bridge.url });
        assert.equal(output.trim(), `websocket of-${extension === 'mjs' ? 'module' : 'require'}`);
      });
    }

    test('a page without a bundler listens', { skip: CHROMIUM === null && 'chromium is not installed' }, async () => {
      const html = `<!doctype html>
        <script type="importmap">{ "imports": {
          "@roomcast/client": "/node_modules/@roomcast/client/client.js",
          "socket.io-client": "/node_modules/socket.io-client/dist/socket.io.esm.min.js"
        } }</script>
        <script type="module">
          import { connect } from '@roomcast/client';
          const live = connect({ url: '${bridge.url}', rooms: { tenantId: 'tenant-1' } });
          live.on('messages.new', ({ messageId }, { transport }) => console.log(transport, messageId));
        </script>`;
      writeFileSync(join(consumer, 'plain.html'), html);
      await hears(`${origin}/plain.html`);
    });

    test('a Vite + React + TypeScript project type-checks, builds, and its page listens', {
      skip: CHROMIUM === null && 'chromium is not installed',
    }, async () => {
      const root = join(consumer, 'vite');
      mkdirSync(root);
      writeFileSync(
        join(root, 'index.html'),
        '<!doctype html><div id="root"></div><script type="module" src="/main.tsx"></script>',
      );
      writeFileSync(join(root, 'main.tsx'), REACT.replace('BRIDGE_URL', bridge.url));
      // As `npm create vite` writes it.
      const compilerOptions = {
        target: 'es2023',
        lib: ['ES2023', 'DOM'],
        module: 'esnext',
        moduleResolution: 'bundler',
        types: [],
        skipLibCheck: true,
        allowImportingTsExtensions: true,
        verbatimModuleSyntax: true,
        moduleDetection: 'force',
        noEmit: true,
        jsx: 'react-jsx',
        strict: true,
        noUnusedLocals: true,
        erasableSyntaxOnly: true,
      };
      writeFileSync(join(root, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['.'] }));
      assert.equal(await outputOf(bin('tsc'), ['-p', 'tsconfig.json'], root), '');
      await build({ root, base: './', configFile: false, logLevel: 'warn' });
      const scripts = globSync('dist/assets/*.js', { cwd: root });
      assert.ok(scripts.length > 1, 'socket.io-client is in a chunk of its own');
      await hears(`${origin}/vite/dist/index.html`);
    });

    async function hears(page: string): Promise<void> {
      const { output, close } = await openInChromium(page);
      try {
        await until('an event arrives', async () => {
          await bridge.publish('messages.new', messageNew());
          return /^websocket msg-/m.test(output());
        });
      } catch (error) {
        throw new Error(`${error}\n${output()}`);
      } finally {
        await close();
      }
    }
  });
});

/** The same text with the other package's names. */
function ofPackage(name: string, text: string): string {
  if (name === 'roomcast') return text;
  return text.replace("'roomcast/client'", `'${name}'`).replace("'roomcast/publisher'", `'${name}/publisher'`);
}

/** The emit is sent by `close` of a publisher from another entry. */
const SCRIPT = `
const url = process.env.BRIDGE_URL;
const messageId = 'of-' + (typeof require === 'function' ? 'require' : 'module');
const live = connect({ url, rooms: { tenantId: 'tenant-1' } });
live.on('status', async ({ state }) => {
  if (state !== 'live') return;
  const publisher = createPublisher({ url });
  const payload = { tenantId: 'tenant-1', ticketId: 't', messageId, ticketStatus: 'OPEN', message: {} };
  payload.ticketUpdatedAt = new Date().toISOString();
  createEmitter(publisher).to('tenant:tenant-1').emit('messages.new', payload);
  await publisher.close();
});
live.on('messages.new', (payload, { transport }) => {
  if (payload.messageId !== messageId) return;
  console.log(transport, payload.messageId);
  live.close();
});
`;

const REACT = `
import { LiveProvider, useLive, useStatus } from '@roomcast/client/react';
import { StrictMode, useState } from 'react';
import { createRoot } from 'react-dom/client';

const options = { url: 'BRIDGE_URL', rooms: { tenantId: 'tenant-1' } };

function Inbox() {
  const [count, setCount] = useState(0);
  const { state } = useStatus();
  useLive('messages.new', ({ messageId }, { transport }) => {
    console.log(transport, messageId);
    setCount((before) => before + 1);
  });
  return <p>{state}: {count} messages</p>;
}

createRoot(document.getElementById('root') as HTMLElement).render(
  <StrictMode><LiveProvider options={options}><Inbox /></LiveProvider></StrictMode>,
);
`;

const APPLICATION = `
import { connect, type Live, type RoomcastEvents } from 'roomcast/client';
import { createEmitter, createPublisher, type Emitter, PublishError } from 'roomcast/publisher';

interface Lead { tenantId: string; score: number }
const live = connect<RoomcastEvents & { 'leads.updated': Lead }>({
  url: 'https://bridge.example',
  rooms: { tenantId: 'tenant-1', ticketId: ['a', 'b'] },
  token: async () => 'token',
  transports: ['sse', 'poll'],
  persist: { getItem: () => null, setItem() {} },
  signal: new AbortController().signal,
});
const off: () => void = live.on('messages.new', (payload, meta) => {
  const content: unknown = payload.message.content;
  const cursor: string = meta.cursor;
  console.log(content, cursor, payload.ticketUpdatedAt.length);
});
live.on('leads.updated', ({ score }) => score.toFixed());
live.on('message:created', (payload) => payload.message);
live.on('reset', ({ reason, state }) => [reason === 'expired', state?.tickets[0]?.ticketStatus]);
live.on('status', ({ state, transport, error }) => [state === 'live', transport === 'websocket', error?.message]);
off();
// @ts-expect-error there is no such event
live.on('messages.old', () => {});
// @ts-expect-error there is no such room
live.join({ roomId: 'x' });
// @ts-expect-error there is no such transport
connect({ url: '', transports: ['carrier pigeon'] });

async function all(plain: Live): Promise<void> {
  const cursor: string = await live.join({ ticketId: 'x' }, { after: 'start' });
  await live.leave({ ticketId: 'x' });
  console.log(cursor, live.cursor?.length);
  for await (const event of live) {
    if (event.event === 'leads.updated') event.payload.score.toFixed();
    else if (event.event === 'messages.updated') event.payload.messageStatus?.trim();
    else event.payload.ticketStatus?.trim();
  }
  plain.close();
  const publisher = createPublisher({ url: 'https://bridge.example', token: 'x' });
  const { id, duplicate } = await publisher.publish('messages.new', {}, { idempotencyKey: 'k' });
  await publisher.publish('leads.updated', {}, { rooms: ['user:ana'], tenantId: 1 });
  const io: Emitter = createEmitter(publisher, {
    tenantId: (event, payload, rooms) => (event === rooms[0] ? 1 : (payload.of as string)),
    onError: ({ code, message }, { event, rooms }) => console.log(code, message, event, rooms.length),
  });
  io.to('ticket:7').in(['user:ana']).emit('leads.updated', { n: 1 });
  io.emitToUser('ana', 'leads.updated', {}, { tenantId: 'tenant-1' });
  const known: boolean = duplicate;
  if (Math.random() > 2) throw new PublishError(id, String(known));
  await publisher.flush();
  await publisher.close();
}
void all;
`;
