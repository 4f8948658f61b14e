/**
 * docs/operating.md, "Back up" and "Restore", with their own commands: a backup that is made while publishers run at full
 * rate holds everything that was acknowledged before it. After its restore, clients that are not ahead of it resume and
 * miss nothing; the others get one reset, also once other records have taken the sequence numbers of the lost ones.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { backup as backUp, DatabaseSync } from 'node:sqlite';
import { type TestContext, test } from 'node:test';
import { promisify } from 'node:util';
import { SignJWT } from 'jose';
import { ids } from '../delivery/conformance.ts';
import { formatOf } from '../store/format-2.ts';
import { messageNew, ticketUpdated } from '../support/bridge.ts';
import { CLIENTS, type Client, type SocketClient } from '../support/clients.ts';
import { startCutProxy } from '../support/cut-proxy.ts';
import { missing, startRedis } from '../support/redis.ts';
import { type ServerProcess, startServer } from '../support/server.ts';
import { until } from '../support/until.ts';

const SECRET = 'a secret of the backup test, of 32 bytes or more';
const TENANT = 'tenant-1';
/** So many records that a copy takes a while. */
const RECORDS = 10_000;
const PAGE = readFileSync('docs/operating.md', 'utf8');
const BACK_TO_3 = 'take SQLite back to format 3';

/** The snippet of the page that this file runs under that name. */
function commands(name: string, ...places: readonly (readonly [string, string])[]): string {
  const fence = new RegExp(
    `^<!-- run in test/slow/backup\\.test\\.ts: ${name} -->\n\`\`\`sh\n([\\s\\S]*?)^\`\`\`$`,
    'm',
  );
  const [, text] = fence.exec(PAGE) ?? [];
  assert.ok(text, `docs/operating.md has no snippet "${name}"`);
  return places.reduce((changed, [place, value]) => {
    assert.ok(changed.includes(place), `${place} is not in "${name}"`);
    return changed.replace(place, value);
  }, text);
}

const shell = (cwd: string, text: string) => promisify(execFile)('bash', ['-euo', 'pipefail', '-c', text], { cwd });

test('this file runs every snippet that says so', () => {
  const names = [...PAGE.matchAll(/^<!-- run in test\/slow\/backup\.test\.ts: (.+) -->$/gm)].map(([, name]) => name);
  assert.deepEqual(names, ['back up SQLite', 'back up Redis', 'restore SQLite', 'restore Redis', BACK_TO_3]);
});

interface Deployment {
  readonly storeUrl: string;
  /** The folder of the commands, and of the server. */
  readonly cwd: string;
  backUp(): Promise<void>;
  /** The node is down. */
  restore(): Promise<void>;
}

function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'roomcast-backup-'));
  t.after(() => rmSync(path, { recursive: true, force: true, maxRetries: 5 }));
  return path;
}

test('a SQLite log is backed up and restored by the commands of the page', { skip: missing('sqlite3') }, async (t) => {
  const cwd = folder(t);
  await backupKeepsThePromise(t, {
    storeUrl: 'sqlite:./data/roomcast.db',
    cwd,
    async backUp() {
      const { stdout } = await shell(cwd, commands('back up SQLite'));
      assert.match(stdout, /^ok\n\d+ records\n$/);
      assert.equal(statSync(join(cwd, 'backups')).mode & 0o777, 0o700);
    },
    async restore() {
      await shell(cwd, commands('restore SQLite'));
      assert.equal(statSync(join(cwd, 'data/roomcast.db')).mode & 0o777, 0o600);
    },
  });
});

test("a SQLite log is backed up by SQLite's backup API in one step, as the page says", async (t) => {
  assert.ok(PAGE.includes('`backup(db, COPY, { rate: 2 ** 31 - 1 })`'));
  const cwd = folder(t);
  await backupKeepsThePromise(t, {
    storeUrl: 'sqlite:./data/roomcast.db',
    cwd,
    async backUp() {
      mkdirSync(join(cwd, 'backups'), { mode: 0o700 });
      const db = new DatabaseSync(join(cwd, 'data/roomcast.db'), { readOnly: true });
      await backUp(db, join(cwd, 'backups/roomcast-1.db'), { rate: 2 ** 31 - 1 });
      db.close();
    },
    restore: async () => void (await shell(cwd, commands('restore SQLite'))),
  });
});

test('the commands of the page take a log back to format 3 only if its tables have every record', {
  skip: missing('sqlite3'),
}, async (t) => {
  const cwd = folder(t);
  const file = join(cwd, 'data/roomcast.db');
  const server = await startServer(
    { STORE_URL: 'sqlite:./data/roomcast.db' },
    { args: ['--disable-warning=ExperimentalWarning', resolve('src/main.ts')], cwd },
  );
  t.after(() => server.end('SIGKILL'));
  const body = JSON.stringify({ event: 'tickets.updated', payload: ticketUpdated() });
  const headers = { 'content-type': 'application/json' };
  assert.equal((await fetch(`${server.url}/events`, { method: 'POST', headers, body })).status, 201);
  await server.end('SIGTERM');
  const change = (sql: string): void => {
    const db = new DatabaseSync(file);
    db.exec(sql);
    db.close();
  };
  change('UPDATE log SET head_seq = 0');
  await assert.rejects(shell(cwd, commands(BACK_TO_3)));
  assert.equal(formatOf(file), 4);
  change('UPDATE log SET head_seq = 1');
  assert.equal((await shell(cwd, commands(BACK_TO_3))).stdout, 'data/roomcast.db is of format 3\n');
  assert.equal(formatOf(file), 3);
});

test('a log in Redis is backed up and restored by the commands of the page', {
  skip: missing('redis-server', 'redis-cli', 'redis-check-rdb'),
}, async (t) => {
  const cwd = folder(t);
  const redis = await startRedis();
  t.after(() => redis.stop());
  const { dir } = (await redis.command('CONFIG', 'GET', 'dir')) as { dir: string };
  await backupKeepsThePromise(t, {
    storeUrl: redis.url,
    cwd,
    async backUp() {
      await shell(cwd, commands('back up Redis', ['redis://127.0.0.1:6379', redis.url]));
    },
    async restore() {
      await redis.kill();
      await shell(cwd, commands('restore Redis', ['/var/lib/redis', dir]));
      await redis.restart();
    },
  });
});

/** Ends a client's connections and lets it come back; the server may have moved meanwhile. */
interface Group {
  readonly clients: readonly (Client & Partial<SocketClient>)[];
  away(): void;
  back(url: string): void;
}

async function backupKeepsThePromise(t: TestContext, deployment: Deployment): Promise<void> {
  const { storeUrl, cwd } = deployment;
  const token = await new SignJWT({ tenantId: TENANT, sub: 'agent', scope: 'subscribe publish' })
    .setProtectedHeader({ alg: 'HS256' })
    .setExpirationTime('1h')
    .sign(Buffer.from(SECRET));
  const authorization = `Bearer ${token}`;
  const env = { STORE_URL: storeUrl, AUTH_MODE: 'jwt', JWT_SECRET: SECRET, RETRY_MS: '50' };
  async function start(): Promise<ServerProcess> {
    const started = await startServer(env, {
      args: ['--disable-warning=ExperimentalWarning', resolve('src/main.ts')],
      cwd,
    });
    t.after(() => started.end('SIGKILL'));
    return started;
  }
  let server = await start();

  const read = (path: string) => fetch(`${server.url}${path}`, { headers: { authorization } });
  const acknowledged = new Set<string>();
  async function publish(events: readonly object[], key?: string): Promise<number> {
    const idempotency: Record<string, string> = key === undefined ? {} : { 'idempotency-key': key };
    const response = await fetch(`${server.url}/events`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization, ...idempotency },
      body: JSON.stringify({ events }),
    });
    const { results } = (await response.json()) as { results: { id: string }[] };
    for (const { id } of results) acknowledged.add(id);
    return response.status;
  }
  const messages = (count: number) =>
    Array.from({ length: count }, () => ({ event: 'messages.new', payload: messageNew({ text: 'x'.repeat(300) }) }));
  const ticketIn = (ticketStatus: string) => ({ event: 'tickets.updated', payload: ticketUpdated({ ticketStatus }) });
  async function log(after: string): Promise<string[]> {
    const page = await (await read(`/events?tenantId=${TENANT}&after=${after}&limit=1000`)).json();
    const { events, cursor, hasMore } = page as { events: { id: string }[]; cursor: string; hasMore: boolean };
    const found = events.map(({ id }) => id);
    return hasMore ? found.concat(await log(cursor)) : found;
  }
  async function group(names: readonly string[]): Promise<Group> {
    const proxy = await startCutProxy(server.url);
    t.after(proxy.close);
    const clients: Group['clients'][number][] = [];
    for (const name of names) {
      const client = await CLIENTS[name]?.connect(proxy.url, { tenantId: [TENANT] }, { legacy: false, token });
      assert.ok(client, name);
      t.after(client.close);
      clients.push(client);
      const { socket, join } = client as Client & Partial<SocketClient>;
      socket?.on('bridge.reset', ({ cursor }: { cursor: string }) => void join?.('tenantId', TENANT, cursor));
    }
    return {
      clients,
      away: proxy.refuse,
      back(url) {
        proxy.retarget(url);
        proxy.restore();
      },
    };
  }
  const KINDS = ['websocket', 'polling', 'sse', 'longpoll', 'the client library'];
  const knows = (client: Client, id: string | undefined) => client.heard.some((heard) => heard.id === id);

  for (let count = 0; count < RECORDS; count += 500) await publish(messages(500));
  await publish([ticketIn('OPEN')], 'before');
  const { pass } = (await (
    await fetch(`${server.url}/pass`, { method: 'POST', headers: { authorization } })
  ).json()) as { pass: string };
  const first = [...acknowledged].at(-1) as string;
  const behind = await group(KINDS);
  const ahead = await group(KINDS);
  const aheadForLonger = await group(KINDS);

  let isStopped = false;
  const publishers = [1, 2, 3].map(async () => {
    while (!isStopped) await publish(messages(20));
  });
  const more = async (count: number) => {
    const { size } = acknowledged;
    await until(`${count} more events are acknowledged`, () => acknowledged.size >= size + count);
  };
  await more(300);
  behind.away();
  await more(300);
  const before = [...acknowledged];
  await deployment.backUp();
  assert.ok(acknowledged.size > before.length, 'publishers went on during the backup');
  await more(300);
  isStopped = true;
  await Promise.all(publishers);
  await publish([ticketIn('CLOSED')], 'after');
  const newcomers = await group(['websocket']);
  await publish(messages(1));
  const newest = [...acknowledged].sort().at(-1);
  const lostTheirs = [...ahead.clients, ...aheadForLonger.clients, ...newcomers.clients];
  await until('the others have heard everything', () => lostTheirs.every((client) => knows(client, newest)));
  const heardOf = new Map(lostTheirs.map((client) => [client, client.heard.length]));
  for (const { away } of [ahead, aheadForLonger, newcomers]) away();
  await server.end('SIGKILL');

  await deployment.restore();
  server = await start();
  const restored = await log('start');
  assert.equal(new Set(restored).size, restored.length, 'no record is there twice');
  const isRestored = new Set(restored);
  assert.deepEqual(
    before.filter((id) => !isRestored.has(id)),
    [],
    'every event that was acknowledged before the backup is there',
  );
  const lost = [...acknowledged].filter((id) => !isRestored.has(id));
  assert.ok(lost.length > 300);
  const head = restored.at(-1) as string;
  assert.deepEqual(
    lost.filter((id) => id < head),
    [],
    'the backup is the log of one instant',
  );
  const ticket = (await (await read(`/tickets/ticket-123?tenantId=${TENANT}`)).json()) as { ticketStatus: string };
  assert.equal(ticket.ticketStatus, 'OPEN', 'the state is that of the backup');
  assert.equal((await fetch(`${server.url}/events?tenantId=${TENANT}&limit=1&pass=${pass}`)).status, 200);
  assert.equal(await publish([ticketIn('OPEN')], 'before'), 200, 'a key from before the backup is known');
  assert.equal(await publish([ticketIn('CLOSED')], 'after'), 201, 'a key from after it is not');

  ahead.back(server.url);
  newcomers.back(server.url);
  await until('they get a reset', () =>
    [...ahead.clients, ...newcomers.clients].every(({ resets }) => resets.length > 0),
  );
  for (let count = 0; count <= lost.length; count += 500) await publish(messages(500));
  aheadForLonger.back(server.url);
  behind.back(server.url);
  await until('these, too', () => aheadForLonger.clients.every(({ resets }) => resets.length > 0));
  await publish(messages(20));
  const whole = await log(first);
  const everybody = [...behind.clients, ...lostTheirs];
  await until('all are at the head', () => everybody.every((client) => knows(client, whole.at(-1))));
  for (const client of behind.clients) {
    assert.deepEqual(ids(client), whole);
    assert.deepEqual(client.resets, []);
    if (client.recoveries !== undefined) assert.deepEqual(client.recoveries, [false, true]);
  }
  for (const client of lostTheirs) {
    const [reset, ...others] = client.resets;
    assert.deepEqual([reset?.reason, others], ['unknown', []]);
    const since = client.heard.slice(heardOf.get(client)).map(({ id }) => id);
    assert.deepEqual(since, await log(reset?.cursor as string));
    if (client.recoveries !== undefined) assert.deepEqual(client.recoveries, [false, false]);
  }
}
