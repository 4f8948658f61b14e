/**
 * The README and docs/ do not rot: every snippet in them is run against a real bridge, in a project that has installed
 * the packages.
 *
 * Snippets in sh, js, python and html are run as they stand; only the address they name (localhost:4003,
 * bridge.example) is replaced by the test's own. A comment right before a snippet says what it needs:
 *
 *   <!-- runs until it prints: TEXT -->   it listens for ever; events are published, and where the page declares
 *                                         signals, Ana types, until TEXT comes out
 *   <!-- goes on after a cut, printing: TEXT -->   the same; then it is cut off, and must print each event that was
 *                                         published meanwhile once and in order
 *   <!-- run in FILE: NAME -->            another test runs it, with what it needs
 *   <!-- not run: WHY -->                 a fragment, or a thing of another machine; counted and listed here
 *
 * Without a comment it must end by itself, with success. Snippets of nothing but npm's own commands and scripts of the
 * repository are for a clone, where continuous integration runs them.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  copyFileSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { after, before, describe, type TestContext, test } from 'node:test';
import { promisify } from 'node:util';
import { SignJWT } from 'jose';
import type { Config } from '../../src/config.ts';
import { messageNew, startBridge, type TestBridge, ticketUpdated } from '../support/bridge.ts';
import { CHROMIUM, openInChromium } from '../support/browser.ts';
import { startCutProxy } from '../support/cut-proxy.ts';
import { until } from '../support/until.ts';

const LANGUAGES = ['sh', 'js', 'python', 'html'] as const;
type Language = (typeof LANGUAGES)[number];
/** More than these, and somebody marks what should run. */
const MOST_NOT_RUN = 20;
/** `roomcast check` watches quiet connections for half a minute. */
const LONGEST_MS = 150_000;
const SECRET = 'a secret of the docs, of 32 bytes or more';

/** What a page supposes of the bridge that it talks of. */
const BRIDGES: Readonly<Record<string, Partial<Config>>> = {
  'README.md': { signals: ['tickets.typing'], rateSignals: 1_000 },
  'docs/cli.md': { signals: ['tickets.typing'], rateSignals: 1_000 },
  'docs/console.md': { authMode: 'jwt', jwtSecret: SECRET },
  // The tests send more than the people of the page.
  'docs/presence.md': { signals: ['tickets.viewing', 'tickets.typing', 'agents.online'], rateSignals: 1_000 },
  'docs/security.md': { authMode: 'jwt', jwtSecret: SECRET, roomKinds: ['queue'] },
};
/** What a page calls `$TOKEN`. */
const TOKEN = await new SignJWT({ tenantId: '*', scope: 'admin' })
  .setProtectedHeader({ alg: 'HS256' })
  .setExpirationTime('1h')
  .sign(Buffer.from(SECRET));

interface Snippet {
  readonly file: string;
  readonly line: number;
  readonly language: string;
  readonly text: string;
  readonly notRun: string | null;
  readonly isRunElsewhere: boolean;
  /** Null: it ends by itself. */
  readonly prints: string | null;
  readonly isCut: boolean;
}

const files = ['README.md', ...globSync('docs/*.md').sort()];
const textOf = (file: string): string => readFileSync(file, 'utf8');
const snippets = files.flatMap(snippetsOf);

function snippetsOf(file: string): Snippet[] {
  const fences =
    /^(?:<!-- (not run|run in [^:]+|runs until it prints|goes on after a cut, printing): (.+) -->\n)?```(\w*)\n([\s\S]*?)^```$/gm;
  const text = textOf(file);
  return [...text.matchAll(fences)].map((match) => {
    const [whole, marker, said = '', language = '', code = ''] = match;
    const isRunElsewhere = marker?.startsWith('run in ') ?? false;
    return {
      file,
      line: text.slice(0, match.index + whole.indexOf('```')).split('\n').length,
      language,
      text: code,
      notRun: marker === 'not run' ? said : null,
      isRunElsewhere,
      prints: marker === undefined || marker === 'not run' || isRunElsewhere ? null : said,
      isCut: marker?.startsWith('goes on') ?? false,
    };
  });
}

/** A project that has installed the package, with what the docs tell it to install beside. */
const directory = mkdtempSync(join(tmpdir(), 'roomcast-docs-'));
const project = join(directory, 'project');
/** The page's origin in the docs' browser examples. */
const pages = createServer((_request, response) => {
  response.setHeader('content-type', 'text/html').end(page);
});
let page = '';
let origin = '';

before(async () => {
  const installed = join(directory, 'roomcast');
  mkdirSync(join(project, 'node_modules', '.bin'), { recursive: true });
  mkdirSync(installed);
  const client = join(installed, 'client');
  await promisify(execFile)(process.execPath, ['src/dev/build.ts', join(installed, 'dist')]);
  await promisify(execFile)(process.execPath, ['src/dev/build-client.ts', client]);
  copyFileSync('package.json', join(installed, 'package.json'));
  symlinkSync(resolve('node_modules'), join(installed, 'node_modules'));
  symlinkSync(installed, join(project, 'node_modules', 'roomcast'));
  mkdirSync(join(project, 'node_modules', '@roomcast'));
  symlinkSync(client, join(project, 'node_modules', '@roomcast', 'client'));
  for (const name of ['socket.io-client', 'eventsource', 'jose']) {
    symlinkSync(resolve('node_modules', name), join(project, 'node_modules', name));
  }
  symlinkSync(join(installed, 'dist/cli/main.js'), join(project, 'node_modules/.bin/roomcast'));
  symlinkSync(resolve('docs'), join(project, 'docs'));
  writeFileSync(join(project, 'package.json'), '{ "type": "module" }');
  // A refusal is a failure, also where a snippet does not look.
  writeFileSync(join(project, '.curlrc'), 'fail-with-body\n');
  pages.listen(0, '127.0.0.1');
  await once(pages, 'listening');
  origin = `http://127.0.0.1:${(pages.address() as AddressInfo).port}`;
});

after(() => {
  pages.close();
  rmSync(directory, { recursive: true, force: true, maxRetries: 5 });
});

for (const file of files) {
  const runnable = snippets.filter((snippet) => snippet.file === file && isRunnable(snippet));
  if (runnable.length === 0) continue;
  describe(file, () => {
    let bridge: TestBridge;
    before(async () => {
      bridge = await startBridge({ extraEvents: ['leads.updated'], corsOrigins: [origin], ...BRIDGES[file] });
      await publishBoth(bridge);
    });
    after(() => bridge.close());

    for (const snippet of runnable) {
      test(`line ${snippet.line} (${snippet.language}) runs`, async (t) => {
        const missing = missingFor(snippet);
        if (missing !== null) return t.skip(`${missing} is not installed`);
        await run(snippet, bridge, t);
      });
    }
  });
}

function isRunnable(snippet: Snippet): boolean {
  const { language, notRun, isRunElsewhere } = snippet;
  return notRun === null && !isRunElsewhere && LANGUAGES.includes(language as Language) && !isOfClone(snippet);
}

/** Comments aside. */
function commandsOf({ text }: Snippet): string[] {
  const lines = text.split('\n').map((line) => line.replace(/(^|\s)#.*/, '').trim());
  return lines.filter((line) => line !== '');
}

function isOfClone(snippet: Snippet): boolean {
  return snippet.language === 'sh' && commandsOf(snippet).every((command) => command.startsWith('npm '));
}

async function publishBoth(bridge: TestBridge): Promise<void> {
  await bridge.publish('tickets.updated', ticketUpdated());
  await bridge.publish('messages.new', messageNew());
}

/** Another client, of the ticket that the docs have open. */
async function signalTyping({ url }: TestBridge): Promise<void> {
  const signal = { event: 'tickets.typing', room: 'ticket:ticket-123', payload: { name: 'Ana' } };
  const headers = { 'content-type': 'application/json' };
  const answer = await fetch(`${url}/signals`, { method: 'POST', headers, body: JSON.stringify(signal) });
  assert.equal(answer.status, 202, await answer.text());
}

function missingFor({ language, text }: Snippet): string | null {
  if (language === 'html') return CHROMIUM === null ? 'chromium' : null;
  if (language === 'python') {
    const modules = [...text.matchAll(/^import (\w+)/gm)].map(([, name]) => name);
    return spawnSync('python3', ['-c', `import ${modules.join()}`]).status === 0 ? null : `python3 (${modules})`;
  }
  return null;
}

async function run(snippet: Snippet, bridge: TestBridge, t: TestContext): Promise<void> {
  const proxy = await startCutProxy(bridge.url);
  t.after(proxy.close);
  const { host } = new URL(proxy.url);
  const text = snippet.text.replaceAll('localhost:4003', host).replaceAll('https://bridge.example', proxy.url);
  const running = snippet.language === 'html' ? await openPage(text) : start(snippet.language as Language, text, proxy);
  t.after(running.stop);
  const { prints } = snippet;
  if (prints === null) {
    await until('the snippet ends', () => running.exit() !== null, LONGEST_MS);
    assert.equal(running.exit(), 0, running.output());
    return;
  }
  await until('it prints', async () => {
    await publishBoth(bridge);
    if (BRIDGES[snippet.file]?.signals !== undefined) await signalTyping(bridge);
    return running.output().includes(prints) || running.exit() !== null;
  });
  assert.ok(running.output().includes(prints), `${prints} is not in:\n${running.output()}`);
  if (!snippet.isCut) return;

  proxy.cut();
  const missed = [messageNew(), messageNew(), messageNew()];
  const cursors: string[] = [];
  for (const payload of missed) cursors.push((await bridge.publish('messages.new', payload)).id);
  /** Which of them each line is about: examples print the message's id, or the cursor. The ack of a join has a cursor, too. */
  const printed = (): number[] =>
    running
      .output()
      .split('\n')
      .filter((line) => !line.startsWith('joined '))
      .flatMap((line) =>
        missed.flatMap(({ messageId }, index) => {
          const isIt = new RegExp(`\\b${messageId}\\b`).test(line) || line.includes(cursors[index] as string);
          return isIt ? [index] : [];
        }),
      );
  await until('it has the newest', () => printed().includes(2) || running.exit() !== null);
  assert.deepEqual(printed(), [0, 1, 2], running.output());
}

interface Running {
  readonly output: () => string;
  /** Null: not yet. */
  readonly exit: () => number | string | null;
  readonly stop: () => Promise<void>;
}

function start(language: Language, text: string, { url }: { readonly url: string }): Running {
  const file = join(project, `snippet.${language === 'js' ? 'mjs' : language}`);
  writeFileSync(file, text);
  const [command, args] = { sh: ['bash', ['-euo', 'pipefail']], js: [process.execPath, []], python: ['python3', []] }[
    language as Exclude<Language, 'html'>
  ] as [string, string[]];
  const child: ChildProcess = spawn(command, [...args, file], {
    cwd: project,
    // A group of its own, so that what it starts ends with it.
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      PATH: `${join(project, 'node_modules/.bin')}:${dirname(process.execPath)}:${process.env.PATH}`,
      HOME: process.env.HOME,
      CURL_HOME: project,
      ROOMCAST_URL: url,
      JWT_SECRET: SECRET,
      TOKEN,
      PORT: '0',
      STORE_URL: 'sqlite::memory:',
    },
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (chunk) => {
      output += chunk;
    });
  }
  const closed = once(child, 'close');
  return {
    output: () => output,
    exit: () => child.exitCode ?? child.signalCode,
    async stop() {
      try {
        process.kill(-(child.pid as number), 'SIGKILL');
      } catch {
        // All of the group has ended.
      }
      await closed;
    },
  };
}

async function openPage(html: string): Promise<Running> {
  page = html;
  const { output, close } = await openInChromium(origin);
  return { output, exit: () => null, stop: close };
}

test('what is not run says why, and is little', (t) => {
  const notRun = snippets.filter(({ notRun }) => notRun !== null);
  for (const { file, line, notRun: why } of notRun) t.diagnostic(`not run: ${file}:${line}: ${why}`);
  assert.ok(notRun.length <= MOST_NOT_RUN, `${notRun.length} are marked`);
  const odd = snippets.filter(
    ({ language, notRun }) => notRun === null && !LANGUAGES.includes(language as Language) && !DATA.includes(language),
  );
  assert.deepEqual(
    odd.map(({ file, line, language }) => `${file}:${line} ${language}`),
    [],
    'a language that is neither run nor data',
  );
});

/** Nothing to run: pictures made of text, answers, settings. */
const DATA = ['', 'json', 'yaml', 'text', 'nginx'];
