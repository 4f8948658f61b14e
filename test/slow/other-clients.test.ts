/**
 * The table "Other clients" of docs/listening.md, and docs/recipes.md: each program in docs/examples/clients and
 * docs/examples/recipes runs as it stands, over a connection that is cut. It must print each message once and in order; the
 * messages hold a line separator (U+2028), and one of them is larger than the buffers that some clients have by default.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { after, before, describe, type TestContext, test } from 'node:test';
import { promisify } from 'node:util';
import { build } from 'esbuild';
import { chromium } from 'playwright-core';
import { io } from 'socket.io-client';
import { messageNew, startBridge, type TestBridge } from '../support/bridge.ts';
import { CHROMIUM, FLAGS } from '../support/browser.ts';
import { SECRET, token } from '../support/console.ts';
import { startCutProxy } from '../support/cut-proxy.ts';
import { programPath } from '../support/proxies.ts';
import { until } from '../support/until.ts';

const run = promisify(execFile);
const EXAMPLES = 'docs/examples';
/** A fresh machine downloads Go's and Maven's packages, and compiles Go's library. */
const BUILD_MS = 240_000;
const LARGE = 'x'.repeat(600_000);

const directory = mkdtempSync(join(tmpdir(), 'roomcast-clients-'));
for (const folder of ['clients', 'recipes'])
  cpSync(join(EXAMPLES, folder), join(directory, folder), { recursive: true });
symlinkSync(resolve('node_modules'), join(directory, 'node_modules'));
after(() => rmSync(directory, { recursive: true, force: true, maxRetries: 5 }));

interface Running {
  readonly output: () => string;
  readonly isOver: () => boolean;
  readonly stop: () => Promise<unknown>;
}

/** What stands in the program, and what takes its place. */
type Edit = readonly [was: string | RegExp, is: string];

interface Example {
  readonly file: string;
  /** A reason to skip. */
  readonly missing: () => string | null;
  /** Starts the program, with these edits. */
  readonly start: (edits: readonly Edit[]) => Promise<Running>;
}

function isMissing(...programs: string[]): string | null {
  const missing = programs.filter((program) => programPath(program) === null);
  return missing.length === 0 ? null : `${missing.join()}: not installed`;
}

/** Edits a copy of the file, in a copy of its folder. */
function placed(file: string, edits: readonly Edit[]): string {
  const folder = mkdtempSync(join(directory, 'program-'));
  cpSync(join(EXAMPLES, dirname(file)), folder, { recursive: true });
  const path = join(folder, basename(file));
  let text = readFileSync(path, 'utf8');
  for (const [was, is] of edits) {
    const edited = text.replaceAll(was, is);
    assert.notEqual(edited, text, `${file} has no ${was}`);
    text = edited;
  }
  writeFileSync(path, text);
  return path;
}

function started(command: string, args: readonly string[], cwd: string): Running {
  const child: ChildProcess = spawn(command, args, { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (chunk) => {
      output += chunk;
    });
  }
  const closed = once(child, 'close');
  return {
    output: () => output,
    isOver: () => child.exitCode !== null || child.signalCode !== null,
    stop: () => {
      child.kill('SIGKILL');
      return closed;
    },
  };
}

const inNode = (file: string): Example => ({
  file,
  missing: () => null,
  start: async (edits) => started(process.execPath, [placed(file, edits)], directory),
});

const inPython = (file: string, module: string): Example => ({
  file,
  missing: () => (spawnSync('python3', ['-c', `import ${module}`]).status === 0 ? null : `${module}: not installed`),
  start: async (edits) => started('python3', [placed(file, edits)], directory),
});

const inGo = (file: string): Example => ({
  file,
  missing: () => isMissing('go'),
  start: async (edits) => {
    const cwd = dirname(placed(file, edits));
    await run('go', ['build', '-o', 'client', '.'], { cwd, timeout: BUILD_MS });
    return started(join(cwd, 'client'), [], cwd);
  },
});

/** A program that runs for seconds is slower where Java optimises it. */
const JAVA = ['-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC'];

async function resolveClasspath(cwd: string): Promise<string> {
  const args = ['-q', '-B', 'dependency:build-classpath', '-Dmdep.outputFile=classpath'];
  await run('mvn', args, { cwd, timeout: BUILD_MS, env: { ...process.env, MAVEN_OPTS: JAVA.join(' ') } });
  return readFileSync(join(cwd, 'classpath'), 'utf8').trim();
}

let classpath: Promise<string> | undefined;
const inJava = (file: string): Example => ({
  file,
  missing: () => isMissing('javac', 'mvn'),
  start: async (edits) => {
    const path = placed(file, edits);
    classpath ??= resolveClasspath(dirname(path));
    return started('java', [...JAVA, '-cp', await classpath, path], directory);
  },
});

/** The compiler is a package of Maven's. */
const inKotlin = (file: string): Example => ({
  file,
  missing: () => isMissing('java', 'mvn'),
  start: async (edits) => {
    const cwd = dirname(placed(file, edits));
    const classes = await resolveClasspath(cwd);
    const compiler = 'org.jetbrains.kotlin.cli.jvm.K2JVMCompiler';
    const args = ['-cp', classes, compiler, '-no-stdlib', '-no-reflect', '-cp', classes, '-d', 'out', basename(file)];
    await run('java', [...JAVA, ...args], { cwd, timeout: BUILD_MS });
    return started('java', [...JAVA, '-cp', `${join(cwd, 'out')}:${classes}`, 'ListenKt'], cwd);
  },
});

const pages = createServer((_request, response) => {
  response.setHeader('content-type', 'text/html').end('<!doctype html>');
});
let origin = '';

const inChromium = (file: string): Example => ({
  file,
  missing: () => (CHROMIUM === null ? 'chromium: not installed' : null),
  start: async (edits) => {
    const { outputFiles } = await build({
      entryPoints: [placed(file, edits)],
      bundle: true,
      format: 'esm',
      write: false,
      logLevel: 'silent',
    });
    const browser = await chromium.launch({ executablePath: CHROMIUM as string, args: FLAGS });
    const page = await browser.newPage();
    let output = '';
    page.on('console', (message) => {
      output += `${message.text()}\n`;
    });
    page.on('pageerror', (error) => {
      output += `${error}\n`;
    });
    await page.goto(origin);
    await page.addScriptTag({ type: 'module', content: outputFiles[0]?.text as string });
    return { output: () => output, isOver: () => false, stop: () => browser.close() };
  },
});

const CLIENTS: readonly Example[] = [
  inChromium('clients/fetch-event-source.js'),
  inChromium('clients/event-source-polyfill.js'),
  inNode('clients/socket.io-client-3.mjs'),
  inPython('clients/with_requests.py', 'requests'),
  inPython('clients/with_aiohttp.py', 'aiohttp'),
  inGo('clients/r3labs-sse/main.go'),
  inJava('clients/java/OkHttpSse.java'),
  inJava('clients/java/SocketIo.java'),
  inPython('recipes/python/listen.py', 'httpx'),
  inGo('recipes/go/main.go'),
  inKotlin('recipes/kotlin/Listen.kt'),
];

/** A token, and patience that is short enough for a test. The edits take the token after a refusal, and the first one. */
const CAREFUL: readonly { readonly example: Example; edits(good: string, first: string): readonly Edit[] }[] = [
  {
    example: inPython('recipes/python/listen.py', 'httpx'),
    edits: (good, first) => [
      ["return 'none'", `return '${good}' if refused else '${first}'`],
      ['read=30', 'read=2'],
    ],
  },
  {
    example: inGo('recipes/go/main.go'),
    edits: (good, first) => [
      ['{ return "none" }', `{\n\tif refused {\n\t\treturn "${good}"\n\t}\n\treturn "${first}"\n}`],
      [/30 ?\* ?time/g, '2*time'],
    ],
  },
];

const blockOf = (count: number): string => `event: messages.new\nid: c${count}\ndata: {"messageId":"msg-${count}"}\n\n`;

/** The ids of the messages that it printed, in order. */
function printedBy(running: Running): string[] {
  const lines = running.output().split('\n');
  return lines.flatMap((line) => /^(?:\S+ \S+ )?messages\.new .*?\b(msg-\d+)\b/s.exec(line)?.[1] ?? []);
}

/** Publishes a message, and returns its id. `sent` has the ids of all. */
function publisherOf(bridge: TestBridge) {
  const sent: string[] = [];
  const publish = async (content: string): Promise<string> => {
    const payload = messageNew({ message: { content } });
    sent.push(payload.messageId);
    await bridge.publish('messages.new', payload);
    return payload.messageId;
  };
  return Object.assign(publish, { sent });
}

/** Several at the same time: they mostly wait. */
describe('other clients', { concurrency: 3 }, () => {
  let bridge: TestBridge;
  before(async () => {
    pages.listen(0, '127.0.0.1');
    await once(pages, 'listening');
    origin = `http://127.0.0.1:${(pages.address() as AddressInfo).port}`;
    bridge = await startBridge({ corsOrigins: [origin] });
  });
  after(async () => {
    pages.close();
    await bridge.close();
  });

  for (const { file, missing, start } of CLIENTS) {
    test(`${file} goes on after a cut`, async (t) => {
      const why = missing();
      if (why !== null) return t.skip(why);
      await goesOn(start, t);
    });
  }

  async function goesOn(start: Example['start'], t: TestContext): Promise<void> {
    const own = await startBridge({ corsOrigins: [origin], retryMs: 200 });
    t.after(own.close);
    const proxy = await startCutProxy(own.url);
    t.after(proxy.close);
    const running = await start([['localhost:4003', new URL(proxy.url).host]]);
    t.after(running.stop);
    const publish = publisherOf(own);
    const { sent } = publish;
    const printed = (): string[] => printedBy(running);
    const has = (id: string | undefined): boolean => {
      assert.ok(!running.isOver(), running.output());
      return printed().includes(id as string);
    };
    await until('it connects', () => isConnected(own, running), BUILD_MS);
    await until('it listens', async () => {
      await publish('once it listens');
      return has(sent.at(-1)) || printed().length > 0;
    });
    const first = printed()[0];
    for (const content of ['a\u2028b\u2029c\u0085d', LARGE, 'before the cut']) await publish(content);
    await until('it hears what comes before the cut', () => has(sent.at(-1)));
    for (let cuts = 0; cuts < 2; cuts++) {
      proxy.cut();
      for (const content of ['missed', `${LARGE}\u2028`, 'missed']) await publish(content);
      await until('it hears what it missed', () => has(sent.at(-1)), 30_000);
    }
    assert.deepEqual(printed(), sent.slice(sent.indexOf(first as string)), running.output());
  }

  for (const { example, edits } of CAREFUL) {
    test(`${example.file} gets a new token for one that is refused, and leaves a stream that is silent`, async (t) => {
      const why = example.missing();
      if (why !== null) return t.skip(why);
      const own = await startBridge({ authMode: 'jwt', jwtSecret: SECRET, heartbeatMs: 500, retryMs: 100 });
      t.after(own.close);
      const proxy = await startCutProxy(own.url);
      t.after(proxy.close);
      const { host } = new URL(proxy.url);
      const good = await token({ tenantId: 'tenant-1', scope: 'subscribe' });
      const expired = await token({ tenantId: 'tenant-1', scope: 'subscribe', exp: 1 });
      const running = await example.start([['localhost:4003', host], ...edits(good, expired)]);
      t.after(running.stop);
      const publish = publisherOf(own);
      await until('it listens', async () => {
        await publish('once it listens');
        return printedBy(running).length > 0;
      });
      for (let times = 0; times < 2; times++) {
        proxy.loseDownstream();
        const missed = await publish('missed');
        await until('it hears what it missed', () => printedBy(running).includes(missed), 30_000);
      }
      assert.deepEqual(printedBy(running), publish.sent.slice(publish.sent.indexOf(printedBy(running)[0] as string)));
    });

    test(`${example.file} discards an event that is cut, with its id`, async (t) => {
      const why = example.missing();
      if (why !== null) return t.skip(why);
      const cursors: (string | string[] | undefined)[] = [];
      /** Each answer has a whole event, and the next one up to here. */
      const cuts = ['event: messa', 'id: c', 'da', 'data: {"messageId":', '}', '\n', '\n\n'];
      const server = createServer((request, response) => {
        cursors.push(request.headers['last-event-id']);
        const count = cursors.length;
        const [whole, next] = [blockOf(count), blockOf(count + 1)];
        const cut = cuts[count - 1] ?? '';
        response.writeHead(200, { 'content-type': 'text/event-stream' });
        response.write(`retry: 1\n${whole}${next.slice(0, next.indexOf(cut) + cut.length)}`, () => {
          // Once it has been read: a client may drop what is still to be read when a connection is reset.
          if (count < cuts.length) setTimeout(() => response.socket?.end(), 50);
        });
      });
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      t.after(() => server.close().closeAllConnections());
      const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
      const running = await example.start([['localhost:4003', host]]);
      t.after(running.stop);
      const ids = [...cuts, ''].map((_, index) => `msg-${index + 1}`);
      await until('it hears the last one', () => printedBy(running).includes(ids.at(-1) as string), 30_000);
      assert.deepEqual(printedBy(running), ids);
      assert.deepEqual(cursors, ['now', ...ids.slice(0, -2).map((id) => id.replace('msg-', 'c'))]);
    });

    test(`${example.file} ends when it is refused for good`, async (t) => {
      const why = example.missing();
      if (why !== null) return t.skip(why);
      const own = await startBridge({ authMode: 'jwt', jwtSecret: SECRET });
      t.after(own.close);
      const elsewhere = await token({ tenantId: 'tenant-2', scope: 'subscribe' });
      const running = await example.start([['localhost:4003', new URL(own.url).host], ...edits(elsewhere, elsewhere)]);
      t.after(running.stop);
      await until('it ends', running.isOver);
      assert.match(running.output(), /403|forbidden/);
    });
  }

  async function isConnected({ url }: TestBridge, running: Running): Promise<boolean> {
    assert.ok(!running.isOver(), running.output());
    const text = await (await fetch(`${url}/metrics`)).text();
    return /^roomcast_connections\{.*\} [1-9]/m.test(text);
  }

  test('socket.io-client 2.5 is refused', async () => {
    const { default: old } = await import('socket.io-client-2' as string);
    const socket = old(bridge.url, { transports: ['websocket', 'polling'], reconnection: false });
    try {
      const [error] = await new Promise<unknown[]>((resolve) => {
        socket.on('connect_error', (...args: unknown[]) => resolve(args));
        socket.on('connect', () => resolve(['connected']));
      });
      assert.ok(error instanceof Error);
      const answer = await fetch(`${bridge.url}/socket.io/?EIO=3&transport=polling`);
      assert.equal(answer.status, 400);
    } finally {
      socket.close();
    }
  });

  test('a path in the URL of io() is a namespace, which is refused in a connect_error; with `path` it connects', async () => {
    const own = await startBridge({ socketPath: '/prefix/socket.io' });
    const wrong = io(`${bridge.url}/prefix`, { forceNew: true });
    const right = io(own.url, { forceNew: true, path: '/prefix/socket.io' });
    try {
      const [error] = (await once(wrong as never, 'connect_error')) as [Error];
      assert.equal(error.message, 'Invalid namespace');
      assert.equal((await right.emitWithAck('join-tenant', 'tenant-1')).ok, true);
    } finally {
      wrong.close();
      right.close();
      await own.close();
    }
  });
});
