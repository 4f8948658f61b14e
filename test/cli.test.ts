/** The command line as people use it: its output and exit code, against a real bridge. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type JWTPayload, jwtVerify } from 'jose';
import { connections } from '../src/cli/connections.ts';
import { log } from '../src/cli/log.ts';
import { revoke } from '../src/cli/revoke.ts';
import { trigger } from '../src/cli/trigger.ts';
import { messageNew, startBridge, type TestBridge, ticketUpdated } from './support/bridge.ts';
import { startCutProxy } from './support/cut-proxy.ts';
import { freePort } from './support/ports.ts';
import { BARE_ENVIRONMENT } from './support/server.ts';
import { until } from './support/until.ts';

const COMMANDS = [
  'serve',
  'publish',
  'trigger',
  'signal',
  'tail',
  'log',
  'connections',
  'refusals',
  'revoke',
  'check',
  'token',
];
const SECRET = 'a secret for tests, of 32 bytes or more';
const directory = mkdtempSync(join(tmpdir(), 'roomcast-cli-'));
/** A test that fails leaves none behind: the run would wait for it. */
const running = new Set<ChildProcess>();
after(() => {
  for (const child of running) child.kill('SIGKILL');
  rmSync(directory, { recursive: true, force: true });
});

interface Run {
  readonly child: ChildProcess;
  readonly stdout: () => string;
  readonly stderr: () => string;
  readonly lines: () => string[];
  /** Resolves to the exit code; null if a signal ended the process. */
  readonly ended: Promise<number | null>;
}

interface Setting {
  readonly env?: Record<string, string>;
  readonly input?: string;
}

function start(args: readonly string[], { env = {}, input }: Setting = {}): Run {
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', 'src/cli/main.ts', ...args], {
    env: { ...BARE_ENVIRONMENT, ...env },
  });
  running.add(child);
  let [stdout, stderr] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (chunk) => {
    stdout += chunk;
  });
  child.stderr.setEncoding('utf8').on('data', (chunk) => {
    stderr += chunk;
  });
  child.stdin.on('error', () => {}); // the process may end before it reads everything
  child.stdin.end(input ?? '');
  const ended = once(child, 'close').then(([code]) => {
    running.delete(child);
    return code as number | null;
  });
  return {
    child,
    stdout: () => stdout,
    stderr: () => stderr,
    lines: () => stdout.split('\n').filter((line) => line !== ''),
    ended,
  };
}

async function run(args: readonly string[], setting?: Setting) {
  const running = start(args, setting);
  const code = await running.ended;
  return { code, stdout: running.stdout(), stderr: running.stderr(), lines: running.lines() };
}

describe('wrong usage: one line, exit code 2', () => {
  const secret = 'never-to-be-printed';
  for (const [args, says] of [
    [[], /^roomcast: missing command \(see roomcast --help\)$/],
    [['sing'], /unknown command "sing" \(/],
    [['conections'], /unknown command "conections"; did you mean connections\? \(see roomcast --help\)$/],
    [['help', 'tial'], /unknown command "tial"; did you mean tail\?/],
    [['tail', '--tenat', 't'], /Unknown option '--tenat'; did you mean --tenant\? \(see roomcast tail --help\)$/],
    [['tail', 'ticket:1', '--since', 'yesterday'], /--since must be an instant such as .*, not "yesterday"/],
    [['tail', 'ticket:1', '--since', '10m', '--after', 'start'], /give --since or --after, not both/],
    [['tail', 'ticket:1', '--json', '--pretty'], /give --pretty or --json, not both/],
    [['constructor'], /unknown command/],
    [['tail', '--sing'], /Unknown option '--sing' \(see roomcast tail --help\)$/],
    [['tail'], /name at least one room, such as tenant:tenant-1 or queue:a/],
    [['tail', 'tenant-1'], /a room has a kind and an id, such as ticket:123, but got "tenant-1"/],
    [['tail', 'ticket:1', 'Queue:a'], /but got "Queue:a"/],
    [['tail', 'queue:'], /but got "queue:"/],
    [['tail', '--ticket', 'two words'], /--ticket "two words" is no id: an id is 1 to 128 characters/],
    [['tail', '--tenant', 't', '--transport', 'pigeon'], /unknown --transport "pigeon": use websocket, sse, poll/],
    [['tail', '--tenant', 't', '--after', 'two words'], /--after must be a cursor, start or now/],
    [['tail', '--tenant', 't', '--count', '0'], /--count must be .*, not "0"/],
    [['tail', '--tenant', 't', '--url', `http://u:${secret}@127.0.0.1`], /--url must start with http:\/\/ or https:/],
    [['tail', '--tenant', 't', '--url', 'localhost:4003'], /--url must start/],
    [['tail', '--tenant', 't', '--token', `${secret}\nx`], /--token must hold visible ASCII/],
    [['tail', '--tenant'], /argument missing/],
    [['publish', 'a', '{}', 'c'], /unexpected argument "c"/],
    [['signal', 'tickets.typing'], /name the signal and a room, such as: tickets.typing ticket:123/],
    [['signal', 'tickets.typing', '123'], /a room has a kind and an id, such as ticket:123, but got "123"/],
    [['signal', 'tickets.typing', 'ticket:1,ticket:2'], /a signal has one room/],
    [['signal', 'tickets.typing', 'ticket:1', '--ttl', '1.5'], /--ttl must be a whole number of seconds, not "1.5"/],
    [['publish', 'a', '{}', '--room', 'ana'], /a room has a kind and an id, .*"ana"/],
    [['publish', 'a', '{}', '--room', ''], /--room is empty/],
    [['publish', 'a', '{}', '--file', 'x'], /a payload or --file, not both/],
    [['publish', 'a', '{}', '--retry', '5'], /--retry must be a time such as 30s, .* not "5"/],
    [['publish', 'a', '{}', '--idempotency-key', 'ä'], /visible ASCII/],
    [['token', '--tenant', 't'], /set JWT_SECRET or --secret/],
    [['token', '--secret', SECRET], /--tenant is required/],
    [['token', '--secret', SECRET, '--tenant', 't', '--ids', 'queue'], /--ids must be .*queue=a,b, not "queue"/],
    [['token', '--secret', SECRET, '--tenant', 't', '--ids', 'ticket=1'], /--ids must be a declared kind/],
    [['token', '--secret', SECRET, '--tenant', 't', '--ids', 'queue=two words'], /--ids "two words" is no id/],
    [['token', '--secret', SECRET, '--tenant', 't', '--ticket', 'two words'], /--ticket "two words" is no id/],
    [
      ['token', '--secret', SECRET, '--tenant', 't', '--scope', 'all'],
      /unknown --scope "all": use subscribe, publish, signal, metrics, admin/,
    ],
    [['token', '--secret', SECRET, '--tenant', 't', '--expires', 'never'], /--expires must be .*, not "never"/],
    [['token', '--secret', SECRET, '--tenant', '*', '--tenant', 't'], /--tenant '\*' excludes other tenants/],
    [['serve', '--sing'], /Unknown option '--sing'/],
  ] as const) {
    test(`roomcast ${args.join(' ').replaceAll(secret, '…').replaceAll('\n', '↵')}`, async () => {
      const { code, stdout, stderr } = await run(args);
      assert.equal(stdout, '');
      assert.match(stderr, says instanceof RegExp ? new RegExp(says.source, 'm') : says);
      assert.equal(stderr.trimEnd().split('\n').length, 1, stderr);
      assert.ok(!stderr.includes(secret));
      assert.equal(code, 2);
    });
  }
});

test('wrong usage of the commands for operators', async () => {
  const commands = { log, trigger, connections, revoke };
  for (const [[name, ...args], message] of [
    [['log', '--limit', '0'], /--limit must be a whole number from 1 to 100000, not "0"/],
    [['log', '--order', 'up'], /unknown --order "up": use asc, desc/],
    [['log', '--follow', '--until', '1m'], /--follow goes with neither/],
    [['log', '--after', 'two words'], /--after must be a cursor/],
    [['trigger', 'messages.new', '--every', '0s'], /--every must be a time/],
    [['trigger', 'messages.new', '--ticket', 'a,b'], /--ticket takes one id/],
    [['connections', 'close'], /close takes the id of a connection, or a filter such as --sub user-1/],
    [['connections', 'close', '--sub', 'u'], /close asks on a terminal; elsewhere, add --yes/],
    [['connections', 'id-1', '--sub', 'u'], /give the id of a connection or filters, not both/],
    [['connections', '--transport', 'pigeon'], /unknown --transport "pigeon": use websocket, polling, sse, longpoll/],
    [['revoke'], /give at least one of --sub, --tenant, --jti/],
    [['revoke', 'user-1'], /revoke takes list, lift or options such as --sub user-1, not "user-1"/],
    [['revoke', 'lift'], /lift takes the id of a revocation/],
    [['revoke', 'list', '--sub', 'u'], /list takes none of --sub/],
    [['revoke', '--tenant', 't'], /a whole tenant is revoked after a question on a terminal; elsewhere, add --yes/],
  ] as const) {
    await assert.rejects(commands[name](args), { name: 'UsageError', command: name, message }, args.join(' '));
  }
});

test('JSON that does not parse: its line and column, and the place shown; exit code 2', async () => {
  const text = '{\n  "tenantId": "t",\n  "ticketId" "1"\n}';
  for (const args of [
    ['publish', 'tickets.updated', text],
    ['signal', 'tickets.typing', 'ticket:1', text],
  ]) {
    const { code, stdout, stderr } = await run(args);
    assert.deepEqual([code, stdout], [2, '']);
    const [first = '', shown, mark] = stderr.split('\n');
    assert.match(first, /^roomcast: the (input|payload) is not JSON at line 3, column 14: expected a colon \(see /);
    assert.equal(shown, '    "ticketId" "1"');
    assert.equal(mark, `${' '.repeat(15)}^`);
  }
  const long = await run(['publish', 'a', `{"a":"${'x'.repeat(500)}\u001b[2J" "b":1}`]);
  const [, shown = '', mark = ''] = long.stderr.split('\n');
  assert.ok(shown.length <= 80, shown);
  assert.equal(shown.slice(mark.length - 1, mark.length), '\\', 'an escape stands for the character');
});

test('--help lists every command, and every flag of a command; --version is the package’s', async () => {
  const all = await run(['--help']);
  assert.equal(all.code, 0);
  for (const name of COMMANDS) {
    assert.match(all.stdout, new RegExp(`^  ${name} `, 'm'));
    const { code, stdout } = await run([name, '--help']);
    assert.equal(code, 0, name);
    assert.match(stdout, new RegExp(`roomcast ${name}`));
    for (const line of stdout.split('\n')) assert.ok(line.length <= 120, `${name}: ${line}`);
    // Examples come first, and exit codes are told.
    assert.match(stdout, /^.+\n\nExamples:\n {2}/);
    assert.match(stdout, /\n\nExit codes: 0 /);
    // The help names every flag of the source.
    const source = readFileSync(`src/cli/${name}.ts`, 'utf8');
    const flags = [...source.matchAll(/^ {2}'?([a-z-]+)'?: \{ type: '(?:string|boolean)'/gm)].map(([, flag]) => flag);
    for (const flag of flags) assert.ok(stdout.includes(`--${flag}`), `${name} --${flag}`);
  }
  assert.equal((await run(['help', 'tail'])).stdout, (await run(['tail', '--help'])).stdout);
  assert.deepEqual(await run(['doctor', '--help']), await run(['check', '--help']), 'the older name');
  const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
  assert.equal((await run(['--version'])).stdout, `${version}\n`);
});

test('a bridge that is not there: what to start, on every command', async () => {
  const url = `http://127.0.0.1:${await freePort()}`;
  const says = `roomcast: cannot connect to ${url}; is the server running? start it with npx roomcast serve\n`;
  for (const [args, code] of [
    [['connections'], 1],
    [['refusals'], 1],
    [['revoke', 'list'], 1],
    [['log'], 1],
    [['trigger'], 1],
    [['trigger', 'messages.new'], 1],
    [['check', url, '--idle', '0'], 2],
  ] as const) {
    const result = await run(args, { env: { ROOMCAST_URL: url } });
    assert.deepEqual([result.code, result.stderr], [code, says], args.join(' '));
  }
  const tail = start(['tail', 'ticket:1'], { env: { ROOMCAST_URL: url } });
  await until('it says so, and retries', () => tail.stderr() === says.replace('\n', '; retrying\n'));
  tail.child.kill('SIGTERM');
  await tail.ended;
});

describe('with a bridge', () => {
  let bridge: TestBridge;
  let env: Record<string, string>;
  before(async () => {
    bridge = await startBridge({ basePath: '/rt', extraEvents: ['leads.updated'], signals: ['tickets.typing'] });
    env = { ROOMCAST_URL: bridge.url };
  });
  after(() => bridge.close());

  test('publish: from arguments', async () => {
    const payload = JSON.stringify(ticketUpdated({ ticketId: 'from-arguments' }));
    const { code, stdout, stderr } = await run(['publish', 'tickets.updated', payload, '--json'], { env });
    assert.equal(code, 0, stderr);
    const answer = JSON.parse(stdout) as { id: string; rooms: string[]; duplicate: boolean };
    assert.equal(answer.duplicate, false);
    assert.ok(answer.rooms.includes('ticket:from-arguments'));
  });

  test('publish: a document of several lines, with the name as an argument', async () => {
    const input = JSON.stringify(ticketUpdated(), null, 2);
    const { code, lines, stderr } = await run(['publish', 'tickets.updated'], { env, input });
    assert.equal(code, 0, stderr);
    assert.equal(lines.length, 1);
  });

  test('publish: NDJSON keeps its order, and a refused event is reported with its line and field', async () => {
    // A line separator does not end a line.
    const texts = ['first', 'second \u2028 \u2029', 'third'];
    const events = texts.map((content) =>
      JSON.stringify({ event: 'messages.new', payload: messageNew({ tenantId: 'order', message: { content } }) }),
    );
    const bad = JSON.stringify({ event: 'messages.new', payload: messageNew({ ticketId: '' }) });
    const input = [events[0], '', bad, events[1], 'not json', '{"event":1}', events[2]].join('\r\n');
    const { code, lines, stderr } = await run(['publish', '--file', '-'], { env, input });
    assert.equal(code, 1);
    assert.match(stderr, /^roomcast: line 3: invalid_payload:\n {2}\/payload\/ticketId: must be/m);
    assert.match(stderr, /^roomcast: line 5: not JSON at column 1: expected a value\n {2}not json\n {2}\^$/m);
    assert.match(stderr, /^roomcast: line 6: not of the form \{"event": …, "payload": …\}/m);
    const answer = await fetch(`${bridge.url}/events?tenantId=order`);
    const page = (await answer.json()) as { events: { id: string; payload: { message: { content: string } } }[] };
    assert.deepEqual(
      page.events.map(({ id }) => id),
      lines,
    );
    assert.deepEqual(
      page.events.map(({ payload }) => payload.message.content),
      texts,
    );
  });

  test('publish: a byte order mark is ignored, and a broken first line is reported', async () => {
    const event = JSON.stringify({ event: 'leads.updated', payload: { tenantId: 'mark', name: 'Zoë' } });
    const marked = await run(['publish'], { env, input: `\uFEFF${event}\r\n${event}\r\n` });
    assert.equal(marked.code, 0, marked.stderr);
    assert.equal(marked.lines.length, 2);
    const broken = await run(['publish'], { env, input: `${event.slice(1)}\n${event}\n` });
    assert.deepEqual([broken.code, broken.stdout], [1, '']);
    assert.match(broken.stderr, /the input is not JSON at line 1, column 8: expected the end of the text/);
  });

  test('publish: the example of the help works', async () => {
    const { stdout } = await run(['publish', '--help']);
    const [, event, payload] = /^ {2}roomcast publish (\S+) '([^']+)'/m.exec(stdout) ?? [];
    const { code, stderr } = await run(['publish', event as string, payload as string], { env });
    assert.equal(code, 0, stderr);
  });

  test('publish: a file that is published again under the same key writes nothing twice', async () => {
    const file = join(directory, 'events.ndjson');
    const lead = (score: number) => JSON.stringify({ event: 'leads.updated', payload: { tenantId: 'keys', score } });
    writeFileSync(file, [1, 2, 3].map(lead).join('\n'));
    const args = ['publish', '--file', file, '--idempotency-key', 'import-7'];
    const first = await run(args, { env });
    const second = await run(args, { env });
    assert.equal(first.lines.length, 3);
    assert.deepEqual(second.lines, first.lines);
    assert.equal((await run(['publish', 'leads.updated', '{"tenantId":"keys"}', ...args.slice(3)], { env })).code, 1);
  });

  test('publish: it stops if the bridge cannot be reached, without a stack trace', async () => {
    const url = `http://127.0.0.1:${await freePort()}`;
    const input = `${JSON.stringify({ event: 'leads.updated', payload: { tenantId: 't' } })}\n`.repeat(3);
    const { code, stdout, stderr } = await run(['publish', '--url', url, '--retry', '1s'], { input });
    assert.deepEqual([code, stdout], [1, '']);
    assert.ok(stderr.includes(`cannot connect to ${url}; is the server running? start it with npx roomcast serve\n`));
    assert.match(stderr, /stopped; the remaining events were not published/);
    assert.doesNotMatch(stderr, / {4}at /);
  });

  test('publish: a missing file is one line', async () => {
    const { code, stderr } = await run(['publish', '--file', join(directory, 'none')], { env });
    assert.equal(code, 1);
    assert.match(stderr, /^roomcast: ENOENT: no such file or directory[^\n]*\n$/);
  });

  test('signal: others in the room get it until it ends, and nothing of it is in the log', async () => {
    const active = async () => {
      const answer = await fetch(`${bridge.url}/signals?ticketId=cli`);
      return ((await answer.json()) as { signals: { event: string; sender: string; payload: object }[] }).signals;
    };
    const args = ['signal', 'tickets.typing', 'ticket:cli'];
    const sent = await run([...args, '{"name":"Ana"}', '--client', 'shell'], { env });
    assert.deepEqual([sent.stderr, sent.stdout, sent.code], ['', '0\n', 0]);
    const [signal] = await active();
    assert.deepEqual([signal?.event, signal?.payload], ['tickets.typing', { name: 'Ana' }]);
    assert.match(signal?.sender ?? '', /\.shell$/);
    assert.equal((await run([...args, '--ttl', '0', '--client', 'shell'], { env })).code, 0);
    assert.deepEqual(await active(), []);
    const { events } = (await (await fetch(`${bridge.url}/events?ticketId=cli&after=start`)).json()) as { events: [] };
    assert.deepEqual(events, []);
  });

  test('tail --signals: what begins and ends, which no reader takes for an event', async () => {
    const args = ['signal', 'tickets.typing', 'ticket:watched', '{"name":"Ana"}', '--client', 'shell'];
    const room = ['tail', 'ticket:watched', 'tenant:watched', '--json'];
    const watching = start([...room, '--signals'], { env });
    const plain = start(room, { env });
    const other = await startBridge({ extraEvents: ['leads.updated'] });
    try {
      await until('both are live', () => [watching, plain].every(({ stderr }) => stderr().includes('live over')));
      await run(args, { env });
      await until('it begins', () => watching.lines().length === 1);
      await run([...args, '--ttl', '5'], { env });
      await run([...args, '--ttl', '0'], { env });
      await until('it ends', () => watching.lines().length === 2);
      await bridge.publish('leads.updated', { tenantId: 'watched' });
      await until('both have the event', () => watching.lines().length === 3 && plain.lines().length === 1);
      const [begins, ends, event] = watching.lines().map((line) => JSON.parse(line));
      const signal = { signal: 'tickets.typing', room: 'ticket:watched', from: null, payload: { name: 'Ana' } };
      assert.match(begins.sender, /\.shell$/);
      assert.deepEqual(begins, { ...signal, sender: begins.sender, active: true });
      assert.deepEqual(ends, { ...begins, active: false });
      assert.deepEqual(JSON.parse(plain.lines()[0] as string), event);
      // The event is published, and a line that is none is reported.
      const copied = await run(['publish', '--url', other.url], { input: watching.stdout() });
      assert.deepEqual([copied.code, copied.lines.length], [1, 1]);
      assert.match(copied.stderr, /line 1: not of the form/);
    } finally {
      watching.child.kill('SIGKILL');
      plain.child.kill('SIGKILL');
      await other.close();
    }
  });

  test('signal: a refusal names the fields, and no retry hides that the bridge cannot be reached', async () => {
    const refused = await run(['signal', 'tickets.typing', 'ticket:1', '[]', '--ttl', '121'], { env });
    assert.equal(refused.code, 1);
    assert.equal(refused.stdout, '');
    assert.match(refused.stderr, /^roomcast: invalid_signal: /);
    assert.match(refused.stderr, /^ {2}\/ttlSeconds: must be .*120/m);
    assert.match(refused.stderr, /^ {2}\/payload: must be a JSON object/m);
    const misspelt = await run(['signal', 'tickets.typping', 'ticket:1'], { env });
    assert.match(misspelt.stderr, /^roomcast: unknown_event: .*tickets\.typing/);
    assert.equal(misspelt.code, 1);
    const url = `http://127.0.0.1:${await freePort()}`;
    const lost = await run(['signal', 'tickets.typing', 'ticket:1', '--url', url]);
    assert.match(
      lost.stderr,
      /^roomcast: cannot connect to http:.*; is the server running\? start it with npx roomcast serve\n$/,
    );
    assert.equal(lost.code, 1);
    const other = createServer((_, response) => response.setHeader('content-type', 'application/json').end('null'));
    await once(other.listen(0, '127.0.0.1'), 'listening');
    const { port } = other.address() as AddressInfo;
    const strange = await run(['signal', 'tickets.typing', 'ticket:1', '--url', `http://127.0.0.1:${port}`]);
    other.close();
    assert.deepEqual([strange.stdout, strange.code], ['', 1]);
    assert.match(strange.stderr, /^roomcast: unreachable: This is not the bridge/);
  });

  test('trigger: what the bridge accepts, and samples that it takes, one dialogue in order', async () => {
    const listed = await run(['trigger'], { env });
    assert.equal(listed.code, 0, listed.stderr);
    const names = listed.lines.map((line) => line.split(' ')[0] as string);
    assert.deepEqual(names, [
      'tickets.updated',
      'messages.new',
      'messages.updated',
      'messages.deleted',
      'leads.updated',
    ]);
    const ids = ['--tenant', 'samples', '--ticket', 'c8k6ictp7mxtifnlz6goff4fh', '--agreement', 'a-1'];
    for (const name of names) {
      const { code, lines, stderr } = await run(['trigger', name, ...ids, '--count', '2'], { env });
      assert.deepEqual([code, stderr, lines.length], [0, '', 2], name);
    }
    const named = await run(['trigger', 'messages.new', ...ids, '--room', 'user:ana', '--json'], { env });
    assert.deepEqual(JSON.parse(named.stdout).rooms, ['user:ana']);
    const answer = await fetch(`${bridge.url}/events?agreementId=a-1&after=start`);
    type Sample = Record<'messageId' | 'providerMessageId', string> & { message: Record<string, string> };
    const { events } = (await answer.json()) as { events: { event: string; payload: Sample }[] };
    const [first, second] = events.filter(({ event }) => event === 'messages.new').map(({ payload }) => payload);
    assert.match(first?.messageId ?? '', /^c[a-z0-9]{24}$/);
    assert.match(first?.providerMessageId ?? '', /^wamid\./);
    assert.deepEqual([first?.message.direction, second?.message.direction], ['INBOUND', 'OUTBOUND']);
  });

  test('trigger: a name that the bridge does not accept, and --every until it is stopped', async () => {
    const unknown = await run(['trigger', 'mesages.new'], { env });
    assert.deepEqual([unknown.code, unknown.stdout], [1, '']);
    assert.match(unknown.stderr, /did you mean messages\.new\?\n$/);
    assert.equal(unknown.stderr.match(/did you mean/g)?.length, 1, 'once');
    const every = start(['trigger', 'leads.updated', '--tenant', 'every', '--every', '1s'], { env });
    await until('two are there', () => every.lines().length === 2);
    every.child.kill('SIGINT');
    assert.equal(await every.ended, 0);
  });

  test('connections and refusals: JSON lines in a pipe; close by id and by filter', async () => {
    const rooms = ['tenant:who', 'ticket:who'];
    const tails = ['websocket', 'sse'].map((one) => start(['tail', ...rooms, '--transport', one], { env }));
    try {
      await until('both are live', () => tails.every(({ stderr }) => stderr().includes('live over')));
      const all = await run(['connections', '--room', 'ticket:who'], { env });
      assert.equal(all.code, 0, all.stderr);
      const items = all.lines.map((line) => JSON.parse(line) as { id: string; transport: string; rooms: string[] });
      assert.deepEqual(items.map(({ transport }) => transport).sort(), ['sse', 'websocket']);
      assert.deepEqual(items[0]?.rooms.sort(), [...rooms].sort());
      const one = await run(['connections', items[0]?.id as string], { env });
      assert.equal(JSON.parse(one.stdout).id, items[0]?.id);
      const limited = await run(['connections', '--room', 'ticket:who', '--limit', '1'], { env });
      assert.equal(limited.lines.length, 1);
      assert.match(limited.stderr, /there are more than 1; --limit N prints more/);
      const closed = await run(['connections', 'close', items[0]?.id as string, '--yes'], { env });
      assert.deepEqual([closed.code, closed.stdout, closed.stderr], [0, '1\n', 'roomcast: closed 1 connection\n']);
      await until('both are live again', async () => {
        const { lines } = await run(['connections', '--room', 'ticket:who'], { env });
        return lines.length === 2 && !lines.some((line) => line.includes(items[0]?.id as string));
      });
      const both = await run(['connections', 'close', '--room', 'ticket:who', '--yes'], { env });
      assert.equal(both.stdout, '2\n');
      const nobody = await run(['connections', 'close', '-an-id-with-a-dash-0', '--yes'], { env });
      assert.deepEqual([nobody.code, nobody.stdout], [1, '']);
      assert.match(nobody.stderr, /^roomcast: not_found: /);
      await run(['tail', 'kueue:who'], { env });
      const refused = await run(['refusals', '--limit', '1'], { env });
      assert.match(JSON.parse(refused.stdout).message, /kueueId/);
    } finally {
      for (const { child } of tails) child.kill('SIGKILL');
    }
  });

  test('log: the newest, oldest first, page by page; its filters; and what comes with --follow', async () => {
    const publish = async (score: number) =>
      (await bridge.publish('leads.updated', { tenantId: 'logged', ticketId: 'l1', score, name: `Zoë ${score}` })).id;
    const ids: string[] = [];
    for (let score = 1; score <= 5; score++) ids.push(await publish(score));
    const read = async (...args: string[]) => {
      const { code, lines, stderr } = await run(['log', 'ticket:l1', ...args], { env });
      assert.equal(code, 0, stderr);
      return { stderr, ids: lines.map((line) => (JSON.parse(line) as { id: string }).id) };
    };
    assert.deepEqual(await read(), { ids, stderr: '' });
    const newest = await read('--limit', '2');
    assert.deepEqual(newest.ids, ids.slice(-2));
    assert.match(newest.stderr, /there are more than 2; --limit N prints more/);
    assert.deepEqual((await read('--order', 'desc', '--limit', '2')).ids, ids.slice(-2).reverse());
    assert.deepEqual((await read('--order', 'asc', '--limit', '2')).ids, ids.slice(0, 2));
    const between = ['--after', ids[0] as string, '--before', ids[4] as string];
    assert.deepEqual((await read(...between, '--contains', 'zoë 3', '--event', 'leads.updated')).ids, [ids[2]]);
    assert.deepEqual((await read('--tenant', 'logged', '--since', '1h')).ids, ids);
    assert.deepEqual((await read('--until', '1h')).ids, []);
    const follow = start(['log', '--tenant', 'logged', '--limit', '1', '--follow'], { env });
    await until('the newest is there', () => follow.lines().length === 1);
    ids.push(await publish(6), await publish(7));
    await until('the rest comes', () => follow.lines().length === 3);
    follow.child.kill('SIGINT');
    assert.equal(await follow.ended, 0);
    assert.deepEqual(
      follow.lines().map((line) => (JSON.parse(line) as { id: string }).id),
      ids.slice(-3),
    );
  });

  test('tail --since: from the instant of the acceptance', async () => {
    await bridge.publish('leads.updated', { tenantId: 'since', score: 1 });
    // The clock of the log has milliseconds.
    await new Promise((resolve) => setTimeout(resolve, 5));
    const since = new Date().toISOString();
    await bridge.publish('leads.updated', { tenantId: 'since', score: 2 });
    const { code, lines, stderr } = await run(['tail', 'tenant:since', '--since', since, '--count', '1'], { env });
    assert.equal(code, 0, stderr);
    assert.match(lines[0] ?? '', /"score":2/);
    const hour = await run(['tail', 'tenant:since', '--since', '1h', '--count', '2'], { env });
    assert.equal(hour.lines.length, 2, hour.stderr);
  });

  test('publish reads the output of tail --json', async () => {
    await bridge.publish('leads.updated', { tenantId: 'copied', score: 1 });
    await bridge.publish('leads.updated', { tenantId: 'copied', score: 2 });
    const other = await startBridge({ extraEvents: ['leads.updated'] });
    try {
      const args = ['tail', '--tenant', 'copied', '--after', 'start', '--count', '2', '--json'];
      const { stdout } = await run(args, { env });
      const copied = await run(['publish', '--url', other.url], { input: stdout });
      assert.equal(copied.code, 0, copied.stderr);
      const answer = await fetch(`${other.url}/events?tenantId=copied`);
      const { events } = (await answer.json()) as { events: { payload: unknown }[] };
      assert.deepEqual(
        events.map(({ payload }) => payload),
        [
          { tenantId: 'copied', score: 1 },
          { tenantId: 'copied', score: 2 },
        ],
      );
    } finally {
      await other.close();
    }
  });

  for (const transport of ['websocket', 'sse', 'poll']) {
    test(`tail over ${transport}: each event once and in order, even across a cut, until SIGINT`, async () => {
      const proxy = await startCutProxy(bridge.url);
      const room = `cut-${transport}`;
      const url = `${proxy.url}/rt`;
      const tail = start(['tail', '--url', url, '--tenant', room, '--json', '--transport', transport]);
      const ids: string[] = [];
      const publish = async () => ids.push((await bridge.publish('leads.updated', { tenantId: room })).id);
      try {
        await until('it is live', () => tail.stderr().includes(`live over ${transport}`));
        await publish();
        await until('the first is there', () => tail.lines().length === 1);
        proxy.cut();
        for (let index = 0; index < 5; index++) await publish();
        await until('the rest is there', () => tail.lines().length === ids.length);
        tail.child.kill('SIGINT');
        assert.equal(await tail.ended, 0);
        assert.deepEqual(
          tail.lines().map((line) => (JSON.parse(line) as { id: string }).id),
          ids,
        );
      } finally {
        tail.child.kill('SIGKILL');
        await proxy.close();
      }
    });
  }

  test('tail --state: the next run continues where this one ended, even if it was killed', async () => {
    const state = join(directory, 'state');
    const ids: string[] = [];
    const publish = async () => ids.push((await bridge.publish('leads.updated', { tenantId: 'state' })).id);
    const args = ['tail', '--tenant', 'state', '--after', 'start', '--state', state, '--json'];
    await publish();
    await publish();
    const first = await run([...args, '--count', '1'], { env });
    assert.equal(readFileSync(state, 'utf8'), `${ids[0]}\n`);
    const second = start(args, { env });
    await until('the second run has the second', () => second.lines().length === 1);
    await until('and keeps it', () => readFileSync(state, 'utf8') === `${ids[1]}\n`);
    second.child.kill('SIGKILL');
    await second.ended;
    await publish();
    const third = await run([...args, '--count', '1'], { env });
    const seen = [...first.lines, ...second.lines(), ...third.lines];
    assert.deepEqual(
      seen.map((line) => (JSON.parse(line) as { id: string }).id),
      ids,
    );
    assert.ok(!existsSync(`${state}.new`));
  });

  test('tail --state does not overwrite a file of another kind', async () => {
    const file = join(directory, 'letter');
    writeFileSync(file, 'Dear bridge,\nhow are you?');
    const { code, stderr } = await run(['tail', '--tenant', 't', '--state', file], { env });
    assert.equal(code, 1);
    assert.match(stderr, /does not hold a cursor: --state needs a new file, or one that tail wrote/);
    assert.equal(readFileSync(file, 'utf8'), 'Dear bridge,\nhow are you?');
  });

  test('tail: --event filters, and a cursor of another log is reported as a reset', async () => {
    await bridge.publish('tickets.updated', ticketUpdated({ tenantId: 'gap' }));
    const lead = await bridge.publish('leads.updated', { tenantId: 'gap' });
    const room = ['tail', '--tenant', 'gap', '--event', 'leads.updated,messages.new', '--count', '1', '--json'];
    const all = await run([...room, '--after', 'start'], { env });
    assert.equal((JSON.parse(all.stdout) as { id: string }).id, lead.id);
    const gap = start([...room, '--after', 'cursor-of-another-log', '--quiet'], { env });
    await until('it is told', () =>
      gap.stderr().includes('reset (unknown): the cursor cursor-of-another-log belongs to'),
    );
    await bridge.publish('leads.updated', { tenantId: 'gap' });
    assert.equal(await gap.ended, 0);
    assert.equal(gap.lines().length, 1);
  });

  test('tail: control characters are escaped, and the JSON is the same', async () => {
    const payload = { tenantId: 'terminal', text: 'a\u009b31m\u202eb\u001b[2J' };
    await bridge.publish('leads.updated', payload);
    const { stdout } = await run(['tail', '--tenant', 'terminal', '--after', 'start', '--count', '1'], { env });
    // biome-ignore lint/suspicious/noControlCharactersInRegex: the test is about them
    assert.doesNotMatch(stdout.trimEnd(), /[\u0000-\u001f\u007f-\u009f\u202a-\u202e]/);
    assert.deepEqual(JSON.parse(stdout.slice(stdout.indexOf('{'))), payload);
  });

  test('tail | head: it ends when its output is closed', async () => {
    const tail = start(['tail', '--tenant', 'head', '--after', 'start'], { env });
    await bridge.publish('leads.updated', { tenantId: 'head' });
    await until('it prints', () => tail.lines().length > 0);
    tail.child.stdout?.destroy();
    await until('it ends', async () => {
      await bridge.publish('leads.updated', { tenantId: 'head' });
      return tail.child.exitCode !== null;
    });
    assert.equal(tail.child.exitCode, 0);
    assert.doesNotMatch(tail.stderr(), /EPIPE| {4}at /);
  });
});

describe('with tokens', () => {
  let bridge: TestBridge;
  const env = { JWT_SECRET: SECRET };
  const mint = async (...args: string[]): Promise<string> => (await run(['token', ...args], { env })).stdout.trimEnd();
  before(async () => {
    bridge = await startBridge({ authMode: 'jwt', jwtSecret: SECRET });
  });
  after(() => bridge.close());

  test('token: the flags set the claims, and a warning says that the token is for tests', async () => {
    const args = [
      '--tenant',
      'a,b',
      '--sub',
      'user-1',
      '--scope',
      'subscribe',
      '--scope',
      'publish',
      '--expires',
      '2h',
    ];
    const { code, stdout, stderr } = await run(['token', ...args, '--ticket', 'x'], {
      env: { ...env, JWT_ISSUER: 'issuer', JWT_AUDIENCE: 'audience' },
    });
    assert.equal(code, 0, stderr);
    assert.match(stderr, /for tests/);
    assert.ok(!stderr.includes(stdout.trimEnd()));
    const { payload } = await jwtVerify(stdout.trimEnd(), Buffer.from(SECRET), {
      issuer: 'issuer',
      audience: 'audience',
    });
    const { exp, iat, iss: _, aud: __, ...claims } = payload as Required<JWTPayload>;
    assert.deepEqual(claims, {
      tenantId: ['a', 'b'],
      sub: 'user-1',
      scope: 'subscribe publish',
      ticketIds: ['x'],
    });
    assert.equal(exp - iat, 7_200);
  });

  test('token: a weak secret is refused as by the server, and not printed', async () => {
    const { code, stdout, stderr } = await run(['token', '--tenant', 't', '--secret', 'too short']);
    assert.deepEqual([code, stdout], [1, '']);
    assert.equal(stderr, 'roomcast: JWT_SECRET must be at least 32 bytes, but got a value of 9 bytes.\n');
  });

  test('token: a token that the server would refuse is not printed', async () => {
    const { code, stdout, stderr } = await run(['token', '--tenant', 'two words'], { env });
    assert.deepEqual([code, stdout], [1, '']);
    assert.match(stderr, /tenantId claim must be/);
  });

  test('tail --since without the right to read the log: by the times in the payloads', async () => {
    const times = ['2024-06-01T10:00:00Z', '2024-06-01T12:00:00Z', '2024-06-01T11:00:00Z'];
    for (const ticketUpdatedAt of times) {
      await bridge.publish('tickets.updated', ticketUpdated({ tenantId: 'since', ticketUpdatedAt }));
    }
    const token = await mint('--tenant', 'since');
    const args = ['tail', 'tenant:since', '--since', '2024-06-01T11:30:00Z', '--count', '2', '--json'];
    const { code, lines, stderr } = await run(args, { env: { ROOMCAST_URL: bridge.url, ROOMCAST_TOKEN: token } });
    assert.equal(code, 0, stderr);
    assert.match(stderr, /this token may not read \/log, so --since goes by the times in the payloads/);
    const seen = lines.map((line) => JSON.parse(line).payload.ticketUpdatedAt);
    assert.deepEqual(seen, times.slice(1), 'an older one that came later is not lost');
  });

  test('revoke: a user is cut off, listed, and lifted; refusals say which token is needed', async () => {
    const admin = await mint('--tenant', 'tenant-1', '--scope', 'admin');
    const ana = await mint('--tenant', 'tenant-1', '--sub', 'ana');
    const as = (token: string, ...args: string[]) =>
      run(args, { env: { ROOMCAST_URL: bridge.url, ROOMCAST_TOKEN: token } });
    const tail = start(['tail', 'tenant:tenant-1'], { env: { ROOMCAST_URL: bridge.url, ROOMCAST_TOKEN: ana } });
    await until('it is live', () => tail.stderr().includes('live over'));
    const { stdout } = await as(admin, 'connections', '--sub', 'ana');
    assert.deepEqual(JSON.parse(stdout).tenantIds, ['tenant-1']);
    const revoked = await as(admin, 'revoke', '--sub', 'ana', '--tenant', 'tenant-1');
    assert.equal(revoked.code, 0, revoked.stderr);
    const id = revoked.stdout.trim();
    assert.ok(revoked.stderr.includes(`to lift it: roomcast revoke lift ${id}\n`), revoked.stderr);
    assert.equal(await tail.ended, 1);
    assert.match(tail.stderr(), /token_revoked/);
    const [item = ''] = (await as(admin, 'revoke', 'list')).lines;
    assert.deepEqual([JSON.parse(item).id, JSON.parse(item).sub], [id, 'ana']);
    assert.equal((await as(admin, 'revoke', 'lift', id)).code, 0);
    assert.equal((await as(admin, 'revoke', 'lift', id)).code, 1);
    assert.deepEqual((await as(admin, 'revoke', 'list')).lines, []);
    for (const command of ['connections', 'refusals', 'log']) {
      const none = await as('', command);
      assert.deepEqual([none.code, none.stdout], [1, ''], command);
      assert.match(
        none.stderr,
        /^roomcast: unauthorized: .* \(this command takes a token with the scope admin, in --token or/,
      );
      const { code, stdout, stderr } = await as(ana, command);
      assert.deepEqual([code, stdout], [1, ''], command);
      assert.match(
        stderr,
        /^roomcast: forbidden: .*scope admin.* \(give another one in --token or ROOMCAST_TOKEN\)\n$/,
      );
    }
  });

  test('publish and tail with the tokens of token; a wrong token is one line', async () => {
    const publisher = await mint('--tenant', 'tenant-1', '--scope', 'publish');
    const listener = await mint('--tenant', 'tenant-1');
    const payload = JSON.stringify(ticketUpdated());
    const publish = ['publish', '--url', bridge.url, 'tickets.updated', payload];
    const tail = ['tail', '--url', bridge.url, '--tenant', 'tenant-1', '--after', 'start', '--count', '1'];
    assert.equal((await run(publish, { env: { ROOMCAST_TOKEN: publisher } })).code, 0);
    assert.equal((await run([...tail, '--token', listener])).code, 0);
    for (const [args, token, says] of [
      [publish, '', /^roomcast: unauthorized: /],
      [publish, listener, /^roomcast: forbidden: /],
      [tail, '', /^roomcast: unauthorized: /],
      [tail, publisher, /^roomcast: forbidden: /],
      [tail, 'not.a.token', /^roomcast: unauthorized: /],
    ] as const) {
      const { code, stdout, stderr } = await run(args, { env: { ROOMCAST_TOKEN: token } });
      assert.deepEqual([code, stdout], [1, ''], stderr);
      assert.match(stderr, says);
      assert.ok(token === '' || !stderr.includes(token));
      assert.doesNotMatch(stderr, / {4}at /);
    }
  });
});

describe('with rooms of declared kinds', () => {
  let bridge: TestBridge;
  const env: Record<string, string> = { JWT_SECRET: SECRET };
  const mint = async (...args: string[]): Promise<string> =>
    (await run(['token', '--tenant', 't', ...args], { env })).stdout.trimEnd();
  before(async () => {
    bridge = await startBridge({
      authMode: 'jwt',
      jwtSecret: SECRET,
      roomKinds: ['queue', 'team'],
      claimedRoomKinds: ['team'],
      extraEvents: ['notes.added'],
    });
    env.ROOMCAST_URL = bridge.url;
    env.ROOMCAST_TOKEN = await mint('--scope', 'publish');
  });
  after(() => bridge.close());

  test('publish: --room and --tenant name the audience; an event of the input keeps its own; a refusal says where', async () => {
    const args = ['--room', 'queue:a,queue:b', '--room', 'user:ana', '--tenant', 't', '--json'];
    const one = await run(['publish', 'notes.added', '{"text":"for two queues"}', ...args], { env });
    assert.equal(one.code, 0, one.stderr);
    assert.deepEqual(JSON.parse(one.stdout).rooms, ['queue:a', 'queue:b', 'user:ana']);

    const event = (more: object) => JSON.stringify({ event: 'notes.added', payload: { ticketId: '1' }, ...more });
    const input = [
      event({}),
      event({ rooms: ['ticket:1'] }),
      event({ rooms: null, tenantId: null }),
      event({ tenantId: 'foreign' }),
      event({ rooms: ['kueue:a'] }),
      event({ rooms: ['tenant:foreign'] }),
    ].join('\n');
    const many = await run(['publish', ...args], { env, input });
    assert.equal(many.code, 1);
    assert.deepEqual(
      many.lines.map((line) => JSON.parse(line).rooms),
      [['queue:a', 'queue:b', 'user:ana'], ['ticket:1'], ['queue:a', 'queue:b', 'user:ana']],
    );
    assert.match(many.stderr, /^roomcast: line 4: forbidden: /m);
    assert.match(many.stderr, /^roomcast: line 5: invalid_body:\n {2}\/rooms\/0: must be the name of a room.*queue:/m);
    assert.match(many.stderr, /^roomcast: line 6: invalid_body:\n {2}\/rooms\/0: must be of the event's tenant/m);
  });

  test('tail and token: rooms by their names, narrowed and claimed by --ids', async () => {
    const publish = async (room: string): Promise<string> => {
      const { stdout } = await run(['publish', 'notes.added', '{}', '--tenant', 't', '--room', room], { env });
      return stdout.trimEnd();
    };
    const ids = [await publish('queue:x'), await publish('team:y')];
    const tail = (token: string, ...args: string[]) =>
      run(['tail', ...args, '--after', ids[0] as string, '--count', '1'], { env: { ...env, ROOMCAST_TOKEN: token } });
    const agent = await mint('--ids', 'queue=x', '--ids', 'queue=z', '--ids', 'team=y');
    const { code, lines, stderr } = await tail(agent, 'queue:x', 'queue:z', 'team:y');
    assert.equal(code, 0, stderr);
    assert.deepEqual(
      lines.map((line) => line.split(' ').slice(0, 2)),
      [[ids[1], 'notes.added']],
    );
    for (const [token, room, says] of [
      [agent, 'queue:other', /^roomcast: forbidden: .*queue:other/m],
      [await mint(), 'team:y', /^roomcast: forbidden: /m],
      [agent, 'kueue:x', /^roomcast: unknown_parameter: .*kueueId.*queueId/m],
    ] as const) {
      const refused = await tail(token, room);
      assert.deepEqual([refused.code, refused.stdout], [1, ''], refused.stderr);
      assert.match(refused.stderr, says);
    }
  });
});

describe('serve', () => {
  async function listening(running: Run): Promise<string> {
    await until('it listens', () => running.stdout().includes('listening on') || running.child.exitCode !== null);
    return (JSON.parse(running.lines()[0] ?? running.stderr()) as { url: string }).url;
  }

  test('flags have priority over the environment; SIGTERM drains the server, exit code 0', async () => {
    const serve = start(['serve', '--port', '0', '--store', 'sqlite::memory:'], { env: { PORT: '1', STORE_URL: 'x' } });
    const url = await listening(serve);
    assert.ok((await fetch(`${url}/readyz`)).ok);
    serve.child.kill('SIGTERM');
    assert.equal(await serve.ended, 0);
    assert.match(serve.stdout(), /"msg":"stopped"/);
  });

  test('an invalid value is one line', async () => {
    const { code, stderr } = await run(['serve', '--port', 'http']);
    assert.equal(code, 1);
    assert.equal(stderr, 'roomcast: PORT must be a whole number from 0 to 65535, but got "http".\n');
  });

  test('under npx, it ends with the shell that npx starts', async (t) => {
    // Like the shell of npx, which forwards no signal.
    const script = `"$0" --disable-warning=ExperimentalWarning src/cli/main.ts serve --port 0 --store sqlite::memory:; :`;
    const shell = spawn('sh', ['-c', script, process.execPath], {
      env: { ...BARE_ENVIRONMENT, npm_command: 'exec' },
      stdio: ['ignore', 'pipe', 'inherit'],
      // A group of its own, to end both if the test fails.
      detached: true,
    });
    t.after(() => {
      if (shell.exitCode === null && shell.signalCode === null) process.kill(-(shell.pid as number), 'SIGKILL');
    });
    let output = '';
    shell.stdout.setEncoding('utf8').on('data', (chunk) => {
      output += chunk;
    });
    const closed = once(shell.stdout, 'close');
    await until('it listens', () => output.includes('listening on'));
    shell.kill('SIGTERM');
    await closed;
    assert.match(output, /"msg":"stopped"/);
  });
});
