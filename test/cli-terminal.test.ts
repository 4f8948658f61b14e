/** The command line on a real terminal: what a person reads there, and what a pipe gets in its place. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { describe, test } from 'node:test';
import { BARE_ENVIRONMENT } from './support/server.ts';
import { CTRL_C, noTerminal, startOnTerminal } from './support/terminal.ts';
import { until } from './support/until.ts';

const MEMORY = { PORT: '0', STORE_URL: 'sqlite::memory:' };
const SECRET = 'a secret for tests, of 32 bytes or more';
const CLI = 'src/cli/main.ts';

describe('serve', { skip: noTerminal }, () => {
  for (const [title, args] of [
    ['npm start', ['src/main.ts']],
    ['roomcast serve', [CLI, 'serve']],
  ] as const) {
    test(`${title} shows where things are, and its log is readable`, async () => {
      const server = startOnTerminal(args, MEMORY);
      await until('the banner is there', () => server.text().includes('Access'));
      const text = server.text();
      const [, url = ''] = /^ {2}Server {3}(http:\/\/127\.0\.0\.1:\d+)$/m.exec(text) ?? [];
      assert.match(text, /^ {2}Roomcast \d+\.\d+\.\d+$/m);
      for (const page of ['console', 'docs', 'check', 'metrics']) {
        assert.ok(text.includes(`${url}/${page}`), page);
        assert.ok((await fetch(`${url}/${page}`)).ok, page);
      }
      assert.match(text, /^ {2}Log {6}sqlite::memory:$/m);
      assert.match(text, /^ {2}Access {3}no tokens needed, from this machine only/m);
      assert.doesNotMatch(text, /[{}]|Warning/);
      for (const line of text.split('\n')) assert.ok(line.length <= 80, line);
      server.type(CTRL_C);
      assert.equal(await server.ended, 0);
      assert.match(server.text(), /^\d\d:\d\d:\d\d INFO {2}draining: .* signal=SIGINT$/m);
    });
  }

  test('it warns if everybody may come in; NO_COLOR is respected; keys are named and not shown', async () => {
    const open = startOnTerminal(['src/main.ts'], { ...MEMORY, HOST: '0.0.0.0', AUTH_MODE: 'none', NO_COLOR: '1' });
    const closed = startOnTerminal(['src/main.ts'], { ...MEMORY, AUTH_MODE: 'jwt', JWT_SECRET: SECRET });
    await until('both banners are there', () => [open, closed].every(({ text }) => text().includes('AUTH_MODE=')));
    for (const server of [open, closed]) server.type(CTRL_C);
    await Promise.all([open.ended, closed.ended]);
    assert.match(open.text(), /^ {2}Server {3}http:\/\/localhost:\d+$/m);
    assert.match(open.text(), /^ {2}Warning: everybody who reaches 0\.0\.0\.0 may .*AUTH_MODE=jwt/m);
    assert.ok(!open.screen().includes('\u001b'));
    assert.match(closed.text(), /tokens, verified by JWT_SECRET \(AUTH_MODE=jwt\)/);
    assert.ok(closed.screen().includes('\u001b[1m'));
    assert.ok(!closed.screen().includes(SECRET));
  });

  test('LOG_FORMAT=json on a terminal: lines of JSON and nothing else', async () => {
    const server = startOnTerminal(['src/main.ts'], { ...MEMORY, LOG_FORMAT: 'json' });
    await until('it listens', () => server.text().includes('listening on'));
    server.type(CTRL_C);
    await server.ended;
    const lines = server.text().trim().split('\n');
    for (const line of lines) assert.equal(typeof JSON.parse(line).msg, 'string');
  });
});

test('LOG_FORMAT=pretty in a pipe: readable lines, with the address and without colours', async () => {
  const server = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', 'src/main.ts'], {
    env: { ...BARE_ENVIRONMENT, ...MEMORY, LOG_FORMAT: 'pretty' },
  });
  let output = '';
  server.stdout.setEncoding('utf8').on('data', (text) => {
    output += text;
  });
  await until('it listens', () => output.includes('listening on'));
  server.kill('SIGTERM');
  await once(server, 'close');
  assert.match(
    output,
    /^\d\d:\d\d:\d\d INFO {2}server up, listening on http:\/\/\S+ {2}url=http\S+ {2}store=sqlite::memory:$/m,
  );
  assert.ok(!output.includes('\u001b'));
});

test('a Redis that does not answer: what is awaited and until when, then one line', async () => {
  // Accepts, and never answers.
  const silent = createServer(() => {}).listen(0, '127.0.0.1');
  await once(silent, 'listening');
  const { port } = silent.address() as AddressInfo;
  const server = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', 'src/main.ts'], {
    env: { ...BARE_ENVIRONMENT, PORT: '0', STORE_URL: `redis://127.0.0.1:${port}` },
  });
  let [stdout, stderr] = ['', ''];
  server.stdout.setEncoding('utf8').on('data', (text) => {
    stdout += text;
  });
  server.stderr.setEncoding('utf8').on('data', (text) => {
    stderr += text;
  });
  try {
    await until('it says what it waits for', () => stdout.includes('waiting'));
    assert.equal(server.exitCode, null, 'it still waits');
    const waiting = /waiting until (\S+) for Redis at 127\.0\.0\.1:\d+ \(no answer yet\)/.exec(stdout);
    assert.ok(Date.parse(waiting?.[1] ?? '') > Date.now(), stdout);
    await once(server, 'close');
    assert.equal(server.exitCode, 1);
    assert.match(stderr, /^roomcast: STORE_URL: Redis at 127\.0\.0\.1:\d+ cannot be reached \(.*\)\n$/);
  } finally {
    server.kill('SIGKILL');
    silent.close();
  }
});
