/** The command line on a real terminal: what a person reads there, and what a pipe gets in its place. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { startBridge, type TestBridge, ticketUpdated } from './support/bridge.ts';
import { BARE_ENVIRONMENT } from './support/server.ts';
import { CTRL_C, CTRL_D, noTerminal, startOnTerminal } from './support/terminal.ts';
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

describe('commands on a terminal', { skip: noTerminal }, () => {
  let bridge: TestBridge;
  const roomcast = (...args: string[]) => startOnTerminal([CLI, ...args], { ROOMCAST_URL: bridge.url });
  /** Clears the screen, sets the title, turns text around, ends the line. */
  const EVIL = '\u001b[2J\u009b31m\u001b]0;owned\u0007\u202egnp.exe\u2066\u2028\u007f\r\nforged';
  /** What a terminal obeys, except for the colours and line ends of the command itself. */
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the test is about them
  const OBEYED = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/;
  before(async () => {
    bridge = await startBridge({ extraEvents: ['leads.updated'] });
  });
  after(() => bridge.close());

  test('tail: an aligned line an event, in colours; --pretty: the payload; nothing that a terminal obeys', async () => {
    const ticketId = 'c8k6ictp7mxtifnlz6goff4fh';
    const ticketUpdatedAt = new Date().toISOString();
    const ticket = { subject: `Olá 世界 ${EVIL} ${'muito longo '.repeat(50)}` };
    await bridge.publish('tickets.updated', ticketUpdated({ tenantId: 'shown', ticketId, ticketUpdatedAt, ticket }));
    await bridge.publish('leads.updated', { tenantId: 'shown', [`key${EVIL}`]: EVIL });
    const from = ['tenant:shown', '--after', 'start', '--count', '2', '--quiet'];
    const [lines, pretty] = [roomcast('tail', ...from), roomcast('tail', ...from, '--pretty')];
    assert.deepEqual([await lines.ended, await pretty.ended], [0, 0]);
    assert.ok(lines.screen().includes('\u001b['), 'in colours');
    for (const run of [lines, pretty]) assert.doesNotMatch(run.text(), OBEYED);
    const [first = '', second = '', ...rest] = lines.text().trimEnd().split('\n');
    assert.deepEqual(rest, []);
    assert.match(first, /^\d\d:\d\d:\d\d {2}tickets\.updated {3}ticket:c8k6ictp7mxtif… {2}OPEN · Olá 世界 \\u001b\[2J/);
    assert.match(second, /^\d\d:\d\d:\d\d {2}leads\.updated {5}tenant:shown {12}\{"key/);
    for (const line of [first, second]) assert.ok(line.length <= 80, line);
    assert.match(pretty.text(), new RegExp(`^\\d\\d:\\d\\d:\\d\\d  tickets\\.updated  ticket:${ticketId}  `));
    assert.match(pretty.text(), /^ {4}"ticketStatus": "OPEN",$/m);
  });

  test('publish reads what is typed, after it has said so; Ctrl-C ends tail with success', async () => {
    const tail = roomcast('tail', 'tenant:typed');
    const publish = roomcast('publish', 'leads.updated');
    await until('publish says what it waits for', () =>
      publish.text().includes('roomcast: reading JSON from the terminal; end with Ctrl-D'),
    );
    await until('tail is live', () => tail.text().includes('live over'));
    publish.type('{"tenantId":"typed","name":"Ana"}\n');
    publish.type(CTRL_D);
    assert.equal(await publish.ended, 0);
    await until('it arrives', () => tail.text().includes('"name":"Ana"'));
    tail.type(CTRL_C);
    assert.equal(await tail.ended, 0);
  });

  test('connections: a table of 80 columns; close asks first', async () => {
    const tail = roomcast('tail', 'tenant:shown', 'ticket:\u200bhidden');
    await until('tail is live', () => tail.text().includes('live over'));
    const listed = roomcast('connections');
    assert.equal(await listed.ended, 0);
    const [head = '', row = ''] = listed.text().split('\n');
    assert.match(head, /^ID +BY +FOR +BEHIND +USER +ROOMS$/);
    assert.match(row, /^\S{20} +websocket +\d+[smh] +- +- +2: tenant:shown ticket:\\u/);
    assert.ok(row.length <= 80, row);
    for (const [answer, says, code] of [
      ['n', 'nothing was closed', 1],
      ['y', 'closed 1 connection', 0],
    ] as const) {
      const close = roomcast('connections', 'close', '--room', 'tenant:shown');
      await until('it asks', () => close.text().includes('Close 1 connection, of an anonymous client? [y/N]'));
      close.type(`${answer}\n`);
      assert.equal(await close.ended, code);
      assert.ok(close.text().includes(says), close.text());
    }
    tail.type(CTRL_C);
    await tail.ended;
  });
});

test('a pipe that closes ends a command quietly, standard error too', async () => {
  const bridge = await startBridge({ extraEvents: ['leads.updated'] });
  for (let count = 0; count < 200; count++)
    await bridge.publish('leads.updated', { tenantId: 't', text: 'x'.repeat(2_000) });
  const command = `"$0" --disable-warning=ExperimentalWarning ${CLI} log --limit 200 --url ${bridge.url} 2>&1 | head -n 1; echo "\${PIPESTATUS[0]}"`;
  const shell = spawn('bash', ['-c', command, process.execPath], {
    env: BARE_ENVIRONMENT,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [shell.stdout, shell.stderr]) {
    stream.setEncoding('utf8').on('data', (text) => {
      output += text;
    });
  }
  await once(shell, 'close');
  await bridge.close();
  const [first = '', status, ...rest] = output.trimEnd().split('\n');
  assert.equal(JSON.parse(first).event, 'leads.updated');
  assert.deepEqual([status, rest], ['0', []]);
});
