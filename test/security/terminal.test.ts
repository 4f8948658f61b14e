/** What a hostile server says to the command line: no control character of it reaches the terminal, and no line is forged. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { startBridge } from '../support/bridge.ts';
import { programPath } from '../support/proxies.ts';
import { BARE_ENVIRONMENT } from '../support/server.ts';

/** Clears the screen, sets the title, turns text around, ends the line: as C0, as C1 and as bidirectional marks. */
const EVIL = '\u001b[2J\u009b31m\u001b]0;owned\u0007\u202egnp.exe\u2066\u2028\u007f\r\nroomcast: forged';
// biome-ignore lint/suspicious/noControlCharactersInRegex: the test is about them
const OBEYED = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/;

const JSON_TYPE = 'application/json';
const PROBLEM_TYPE = 'application/problem+json';
const record = { id: `1${EVIL}`, event: `leads.updated${EVIL}`, rooms: ['tenant:t'], payload: { [EVIL]: EVIL } };
const page = JSON.stringify({ events: [record], cursor: record.id, hasMore: false });
const published = JSON.stringify({ id: EVIL, event: EVIL, rooms: [EVIL], duplicate: false });
const refusal = JSON.stringify({ code: EVIL, detail: EVIL, status: 422 });
const invalid = JSON.stringify({ code: 'invalid_payload', errors: [{ path: EVIL, message: EVIL }] });
const gone = JSON.stringify({ code: 'cursor_expired', reason: EVIL, after: EVIL, oldest: EVIL, cursor: EVIL });

/** The status, type and body of every answer. The type is sent as bytes, so that it can hold C1 controls. */
let answer: readonly [status: number, type: string, body: string];
let server: Server;
const sockets = new Set<Socket>();
let url: string;
const directory = mkdtempSync(join(tmpdir(), 'roomcast-terminal-'));

before(async () => {
  server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => socket.destroy());
    socket.once('data', () => {
      const [status, type, body] = answer;
      const head = `HTTP/1.1 ${status} X\r\nContent-Type: ${type}\r\nVia: 1.1 \u009b31m\r\nConnection: close\r\n\r\n`;
      socket.end(Buffer.concat([Buffer.from(head, 'latin1'), Buffer.from(body)]));
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});

after(() => {
  for (const socket of sockets) socket.destroy();
  server.close();
  rmSync(directory, { recursive: true });
});

const NODE = [process.execPath, '--disable-warning=ExperimentalWarning', 'src/cli/main.ts'];

/** With `patternToStop`, the command is stopped once its standard error matches. */
async function run([program, ...args]: readonly string[], patternToStop?: RegExp) {
  const child = spawn(program as string, args, {
    env: { ...BARE_ENVIRONMENT, ROOMCAST_URL: url },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const run = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text) => {
      run[name] += text;
      if (patternToStop?.test(run.stderr)) child.kill('SIGTERM');
    });
  }
  const [code] = await once(child, 'close');
  return { code, ...run };
}

const roomcast = (args: readonly string[], patternToStop?: RegExp) => run([...NODE, ...args], patternToStop);

const TAIL = ['tail', '--tenant', 't', '--after', 'start', '--transport', 'poll', '--count', '1'];
const PUBLISH = ['publish', 'leads.updated', '{"tenantId":"t"}', '--retry', '1s'];

test('tail: ids, names and payloads', async () => {
  answer = [200, JSON_TYPE, page];
  const { code, stdout, stderr } = await roomcast(TAIL);
  assert.equal(code, 0, stderr);
  assert.doesNotMatch(stdout + stderr, OBEYED);
  assert.equal(stdout.trimEnd().split('\n').length, 1);
  assert.deepEqual(JSON.parse(stdout.slice(stdout.indexOf('{'))), record.payload);
});

test('tail --json: the same bytes in a pipe, and escapes on a terminal', async (t) => {
  answer = [200, JSON_TYPE, page];
  const { id, event, payload } = record;
  const piped = await roomcast([...TAIL, '--json', '--quiet']);
  assert.equal(piped.stdout, `${JSON.stringify({ id, event, payload })}\n`);
  if (programPath('script') === null) return t.skip('script is not installed');
  const command = [...NODE, ...TAIL, '--json', '--quiet'].map((word) => `'${word}'`).join(' ');
  const { stdout } = await run(['script', '-qec', command, '/dev/null']);
  const line = stdout.trimEnd();
  assert.doesNotMatch(line, OBEYED);
  assert.deepEqual(JSON.parse(line), { id, event, payload });
});

test('tail: a refusal, a reset, and a page of another program', async () => {
  for (const [given, stop] of [
    [[422, PROBLEM_TYPE, refusal], undefined],
    [[410, PROBLEM_TYPE, gone], /reset/],
    [[200, 'text/html\u009b2J', '<html>'], /This is not the bridge: text\/html/],
    [[503, PROBLEM_TYPE, JSON.stringify({ code: 'unavailable', detail: EVIL })], /unavailable/],
  ] as const) {
    answer = given;
    const { stdout, stderr } = await roomcast(TAIL, stop);
    assert.equal(stdout, '');
    assert.doesNotMatch(stderr, OBEYED);
    assert.match(stderr, /^(roomcast: .*\n)+$/);
    assert.doesNotMatch(stderr, /^roomcast: forged/m);
  }
});

test('publish: ids, refusals, invalid fields, and a page of another program', async () => {
  for (const [given, expected] of [
    [[201, JSON_TYPE, published], 0],
    [[422, PROBLEM_TYPE, refusal], 1],
    [[422, PROBLEM_TYPE, invalid], 1],
    [[200, 'text/html\u009b2J', '<html>'], 1],
  ] as const) {
    answer = given;
    const { code, stdout, stderr } = await roomcast(PUBLISH);
    assert.equal(code, expected, stderr);
    assert.doesNotMatch(stdout + stderr, OBEYED);
    assert.doesNotMatch(stdout + stderr, /^roomcast: forged/m);
  }
  assert.match(
    (await roomcast(PUBLISH)).stderr,
    /^roomcast: unreachable: This is not the bridge: text\/html\\u009b2J at /,
  );
});

test('the commands for operators: items, refusals, and what a terminal shows of them', async (t) => {
  const at = new Date().toISOString();
  const connection = {
    id: EVIL,
    node: EVIL,
    transport: EVIL,
    since: EVIL,
    address: EVIL,
    userAgent: EVIL,
    rooms: [EVIL],
  };
  const who = { ...connection, tenantIds: [EVIL], sub: EVIL, roomCount: 1, behindMs: 0 };
  const refused = { at, node: EVIL, address: EVIL, transport: EVIL, sub: EVIL, what: EVIL, code: EVIL, message: EVIL };
  const revoked = { id: EVIL, sub: EVIL, tenantId: EVIL, jti: EVIL, before: EVIL, createdAt: at };
  const page = (item: object): string => JSON.stringify({ items: [item], nextPage: null, missing: [EVIL] });
  const logged = JSON.stringify({ events: [{ ...record, at: EVIL }], scannedThrough: EVIL, more: false });
  const commands: [args: string[], body: string][] = [
    [['connections'], page(who)],
    [['connections', 'some-id'], JSON.stringify({ [EVIL]: EVIL, ...who })],
    [['refusals'], page(refused)],
    [['revoke', 'list'], page(revoked)],
    [['revoke', '--sub', 'a'], JSON.stringify(revoked)],
    [['log'], logged],
    [['log', '--pretty'], logged],
    [['trigger', 'leads.updated'], published],
  ];
  if (programPath('script') === null) return t.skip('script is not installed');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colours are escape sequences
  const withoutColours = (text: string): string => text.replaceAll(/\u001b\[\d+m|\r/g, '');
  for (const [args, body] of commands) {
    answer = [200, JSON_TYPE, body];
    const { stdout } = await run([
      'script',
      '-qec',
      [...NODE, ...args].map((word) => `'${word}'`).join(' '),
      '/dev/null',
    ]);
    assert.ok(stdout.length > 20, args.join(' '));
    assert.doesNotMatch(withoutColours(stdout), OBEYED, args.join(' '));
    assert.doesNotMatch(stdout, /^roomcast: forged/m, args.join(' '));
  }
  for (const [args] of commands) {
    answer = [403, PROBLEM_TYPE, JSON.stringify({ code: EVIL, detail: EVIL, status: 403 })];
    const { code, stderr } = await roomcast(args);
    assert.equal(code, 1, args.join(' '));
    assert.doesNotMatch(stderr, OBEYED);
    assert.match(stderr, /^(roomcast: .*\n)+$/);
  }
});

test('check: the headers of another program', async () => {
  const facts = { roomcast: 'check', timeMs: Date.now(), heartbeatMs: 1000, socketPath: '/s', httpVersion: '1.1' };
  for (const given of [
    [200, 'text/html\u009b2J', '<html>'],
    [200, JSON_TYPE, JSON.stringify({ ...facts, ready: true, proxyHeaders: [] })],
    [200, JSON_TYPE, JSON.stringify({ ...facts, socketPath: EVIL, ready: true, proxyHeaders: [] })],
  ] as const) {
    answer = given;
    const { stdout, stderr } = await roomcast(['check', '--idle', '0', '--timeout', '1', url]);
    assert.doesNotMatch(stdout + stderr, OBEYED);
    assert.match(stdout, /^Roomcast: Connection check\n/);
  }
});

test('tail --state: only its owner may read the file, whatever was there before', async () => {
  const bridge = await startBridge({ extraEvents: ['leads.updated'] });
  try {
    await bridge.publish('leads.updated', { tenantId: 't' });
    const state = join(directory, 'state');
    const other = join(directory, 'other');
    const args = ['tail', '--tenant', 't', '--after', 'start', '--count', '1', '--state', state, '--url', bridge.url];
    assert.equal((await roomcast(args)).code, 0);
    assert.equal(statSync(state).mode & 0o777, 0o600);
    chmodSync(state, 0o644);
    writeFileSync(other, 'untouched');
    symlinkSync(other, `${state}.new`);
    await bridge.publish('leads.updated', { tenantId: 't' });
    assert.equal((await roomcast(args)).code, 0);
    assert.equal(statSync(state).mode & 0o777, 0o600);
    assert.equal(readFileSync(other, 'utf8'), 'untouched');
  } finally {
    await bridge.close();
  }
});

test('the log of the server', async () => {
  const log = (format: string) =>
    run([
      process.execPath,
      '--input-type=module-typescript',
      '--disable-warning=ExperimentalWarning',
      '-e',
      `import { createLogger } from './src/logger.ts';
       createLogger('info', '${format}').info({ origin: ${JSON.stringify(EVIL)}, err: new Error(${JSON.stringify(EVIL)}) }, 'refused');`,
    ]);
  const json = await log('json');
  assert.doesNotMatch(json.stdout, OBEYED);
  assert.equal((JSON.parse(json.stdout) as { origin: string }).origin, EVIL);
  const pretty = await log('pretty');
  assert.doesNotMatch(pretty.stdout, OBEYED);
  assert.match(pretty.stdout, /^\d\d:\d\d:\d\d INFO {2}refused: .*gnp\.exe.* origin=/m);
  assert.doesNotMatch(pretty.stdout, /^roomcast: forged/m);
});
