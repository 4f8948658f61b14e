/**
 * The table "Other clients" of docs/listening.md: each client's program in docs/examples/clients runs as it stands, over a
 * connection that is cut. It must print each message once and in order; the messages hold a line separator (U+2028), and
 * one of them is larger than the buffers that some clients have by default.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, before, describe, type TestContext, test } from 'node:test';
import { promisify } from 'node:util';
import { build } from 'esbuild';
import { chromium } from 'playwright-core';
import { io } from 'socket.io-client';
import { messageNew, startBridge, type TestBridge } from '../support/bridge.ts';
import { CHROMIUM, FLAGS } from '../support/browser.ts';
import { startCutProxy } from '../support/cut-proxy.ts';
import { programPath } from '../support/proxies.ts';
import { until } from '../support/until.ts';

const run = promisify(execFile);
const EXAMPLES = 'docs/examples/clients';
/** A fresh machine downloads Go's and Maven's packages, and compiles Go's library. */
const BUILD_MS = 240_000;
const LARGE = 'x'.repeat(600_000);

const directory = mkdtempSync(join(tmpdir(), 'roomcast-clients-'));
cpSync(EXAMPLES, directory, { recursive: true });
symlinkSync(resolve('node_modules'), join(directory, 'node_modules'));
after(() => rmSync(directory, { recursive: true, force: true, maxRetries: 5 }));

interface Running {
  readonly output: () => string;
  readonly isOver: () => boolean;
  readonly stop: () => Promise<unknown>;
}

interface Example {
  readonly file: string;
  /** A reason to skip. */
  readonly missing: () => string | null;
  /** Starts the program, with this host in place of localhost:4003. */
  readonly start: (host: string) => Promise<Running>;
}

function isMissing(...programs: string[]): string | null {
  const missing = programs.filter((program) => programPath(program) === null);
  return missing.length === 0 ? null : `${missing.join()}: not installed`;
}

/** Puts the host into a copy of the file, under the same name. */
function placed(file: string, host: string): string {
  const path = join(directory, file);
  writeFileSync(path, readFileSync(join(EXAMPLES, file), 'utf8').replaceAll('localhost:4003', host));
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
  start: async (host) => started(process.execPath, [placed(file, host)], directory),
});

const inPython = (file: string, module: string): Example => ({
  file,
  missing: () => (spawnSync('python3', ['-c', `import ${module}`]).status === 0 ? null : `${module}: not installed`),
  start: async (host) => started('python3', [placed(file, host)], directory),
});

const inGo = (folder: string): Example => ({
  file: `${folder}/main.go`,
  missing: () => isMissing('go'),
  start: async (host) => {
    placed(`${folder}/main.go`, host);
    const cwd = join(directory, folder);
    await run('go', ['build', '-o', 'client', '.'], { cwd, timeout: BUILD_MS });
    return started(join(cwd, 'client'), [], cwd);
  },
});

let classpath: Promise<string> | undefined;
async function resolveClasspath(): Promise<string> {
  const cwd = join(directory, 'java');
  const args = ['-q', '-B', 'dependency:build-classpath', '-Dmdep.outputFile=classpath'];
  await run('mvn', args, { cwd, timeout: BUILD_MS });
  return readFileSync(join(cwd, 'classpath'), 'utf8').trim();
}

const inJava = (file: string): Example => ({
  file,
  missing: () => isMissing('javac', 'mvn'),
  start: async (host) => {
    classpath ??= resolveClasspath();
    return started('java', ['-cp', await classpath, placed(file, host)], directory);
  },
});

const pages = createServer((_request, response) => {
  response.setHeader('content-type', 'text/html').end('<!doctype html>');
});
let origin = '';

const inChromium = (file: string): Example => ({
  file,
  missing: () => (CHROMIUM === null ? 'chromium: not installed' : null),
  start: async (host) => {
    const { outputFiles } = await build({
      entryPoints: [placed(file, host)],
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
  inChromium('fetch-event-source.js'),
  inChromium('event-source-polyfill.js'),
  inNode('socket.io-client-3.mjs'),
  inPython('with_requests.py', 'requests'),
  inPython('with_httpx.py', 'httpx'),
  inPython('with_aiohttp.py', 'aiohttp'),
  inGo('r3labs-sse'),
  inJava('java/OkHttpSse.java'),
  inJava('java/SocketIo.java'),
];

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
    const own = await startBridge({ corsOrigins: [origin] });
    t.after(own.close);
    const proxy = await startCutProxy(own.url);
    t.after(proxy.close);
    const running = await start(new URL(proxy.url).host);
    t.after(running.stop);
    const sent: string[] = [];
    const publish = async (content: string): Promise<void> => {
      const payload = messageNew({ message: { content } });
      sent.push(payload.messageId);
      await own.publish('messages.new', payload);
    };
    /** Of the messages sent, in the order of the output. */
    const printed = (): string[] =>
      running
        .output()
        .split('\n')
        .flatMap((line) => /^messages\.new .*\b(msg-\d+)$/.exec(line.trim())?.[1] ?? []);
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
