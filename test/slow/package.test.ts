/** The package as an application installs it: size, tree shaking, types for browsers and Node, exports. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cpSync, existsSync, globSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { BUDGET, bundle, ENTRIES, sizeOf } from '../size.ts';

const run = promisify(execFile);
const bin = (name: string): string => resolve('node_modules/.bin', name);

/** The output of a command, even if it failed. */
async function outputOf(command: string, args: readonly string[], cwd: string): Promise<string> {
  try {
    const { stdout, stderr } = await run(command, args, { cwd });
    return stdout + stderr;
  } catch (error) {
    const { stdout = '', stderr = '', message } = error as Error & { stdout?: string; stderr?: string };
    return `FAILED ${message}\n${stdout}${stderr}`;
  }
}

for (const entry of Object.keys(ENTRIES) as (keyof typeof ENTRIES)[]) {
  test(`roomcast/${entry} is under ${BUDGET} bytes, compressed, and needs nothing of Node`, async () => {
    const size = await sizeOf(entry);
    assert.ok(size < BUDGET, `${size} bytes`);
  });
}

describe('installed from the tarball', () => {
  const directory = mkdtempSync(join(tmpdir(), 'roomcast-package-'));
  const consumer = join(directory, 'consumer');
  let tarball: string;

  before(async () => {
    const source = join(directory, 'source');
    mkdirSync(source);
    await run(process.execPath, ['src/dev/build.ts', join(source, 'dist')]);
    for (const file of ['package.json', 'README.md']) cpSync(file, join(source, file));
    const { stdout } = await run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', directory], {
      cwd: source,
    });
    const [packed] = Object.values(JSON.parse(stdout)) as { filename: string }[];
    tarball = join(directory, packed?.filename ?? '');
    const installed = join(consumer, 'node_modules', 'roomcast');
    mkdirSync(installed, { recursive: true });
    await run('tar', ['-xzf', tarball, '--strip-components=1', '-C', installed]);
    symlinkSync(resolve('node_modules/@types'), join(consumer, 'node_modules', '@types'));
    symlinkSync(resolve('node_modules/undici-types'), join(consumer, 'node_modules', 'undici-types'));
    writeFileSync(join(consumer, 'package.json'), '{ "type": "module" }');
    writeFileSync(join(consumer, 'application.ts'), APPLICATION);
  });
  after(() => rmSync(directory, { recursive: true }));

  for (const [name, options] of Object.entries({
    'a browser application, bundled': {
      module: 'esnext',
      moduleResolution: 'bundler',
      lib: ['ES2022', 'DOM'],
      types: [],
    },
    'a Node application': { module: 'nodenext', moduleResolution: 'nodenext', lib: ['ES2022'], types: ['node'] },
  })) {
    test(`${name} compiles in strict mode, and mistakes do not`, async () => {
      const config = { compilerOptions: { ...options, strict: true, noEmit: true, target: 'es2022' } };
      writeFileSync(join(consumer, 'tsconfig.json'), JSON.stringify({ ...config, include: ['application.ts'] }));
      assert.equal(await outputOf(bin('tsc'), ['-p', 'tsconfig.json'], consumer), '');
    });
  }

  test('a bundle holds only the parts that the application uses', async () => {
    const text = await bundle(
      `import { connect, RoomcastError } from 'roomcast/client'; import { createPublisher } from 'roomcast/publisher';
       console.log(RoomcastError.name);`,
      consumer,
    );
    assert.ok(text.length < 1000, text);
    const unused = await bundle(`import { connect } from 'roomcast/client'; export const one = 1;`, consumer);
    assert.ok(unused.length < 100, unused);
  });

  test('it loads without socket.io-client', async () => {
    const script = `import { connect } from 'roomcast/client'; import { createPublisher } from 'roomcast/publisher';
      console.log(typeof connect, typeof createPublisher);`;
    const output = await outputOf(process.execPath, ['--input-type=module', '--eval', script], consumer);
    assert.equal(output.trim(), 'function function');
  });

  test('the scripts of the repository are not in the package: one would write into it on import', () => {
    const scripts = globSync('src/dev/*.ts').map((file) => basename(file, '.ts'));
    assert.ok(scripts.length > 1);
    for (const name of scripts) {
      assert.ok(!existsSync(join(consumer, `node_modules/roomcast/dist/dev/${name}.js`)), name);
    }
  });

  test('Redis’s scripts are in the package', () => {
    const scripts = globSync('store/redis/scripts/**/*.lua', { cwd: 'src' });
    assert.ok(scripts.length > 20);
    for (const name of scripts) assert.ok(existsSync(join(consumer, 'node_modules/roomcast/dist', name)), name);
  });

  test('publint finds nothing', async () => {
    const output = await outputOf(bin('publint'), ['run', '--strict', tarball], directory);
    assert.match(output, /All good/);
  });

  test('arethetypeswrong finds nothing', async () => {
    const output = await outputOf(bin('attw'), [tarball, '--profile', 'esm-only'], directory);
    assert.doesNotMatch(output, /FAILED/, output);
  });
});

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
