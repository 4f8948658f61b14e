/**
 * A day of an inbox, published one by one and in batches, heard on every transport at once: the same sequence of cursors
 * and the same bytes for everyone in the same rooms, repeats once, and state and metrics that agree with it.
 *
 * The day is `../shared/feed/inbox-day.ndjson` where that is there; a small one of the same shapes, and nastier, is made
 * here and always run.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { request } from 'node:http';
import { test } from 'node:test';
import { startBridge, type TestBridge } from './support/bridge.ts';
import { type Client, connectLongPoll, connectSocket, connectSse, queryOf, type RoomIds } from './support/clients.ts';
import { until } from './support/until.ts';

const DAY = new URL('../../shared/feed/inbox-day.ndjson', import.meta.url);

/** Publish bodies, as JSON text. */
const FEEDS: Record<string, () => string[]> = {
  'a small day of nasty events': smallDay,
  ...(existsSync(DAY) ? { 'the day of the shared feed': () => readFileSync(DAY, 'utf8').trim().split('\n') } : {}),
};

interface Payload {
  readonly tenantId: string;
  readonly ticketId: string;
  readonly agreementId?: string | null;
  readonly messageId?: string | null;
  readonly providerMessageId?: string | null;
  readonly ticketUpdatedAt: string;
  readonly ticket?: object;
  readonly message?: object;
}

interface Published {
  readonly id: string;
  readonly event: string;
  readonly payload: Payload;
  readonly rooms: string[];
}

const LEGACY: Record<string, string[]> = {
  'tickets.updated': ['ticket.updated'],
  'messages.new': ['ticket.message', 'ticket.message.created', 'message:created'],
};

for (const [name, read] of Object.entries(FEEDS)) {
  for (const batch of [1, 100]) {
    const how = batch === 1 ? 'one by one' : `in batches of ${batch}`;
    test(`${name}, published ${how}, is the same for all who listen`, { timeout: 300_000 }, async () => {
      const bridge = await startBridge({ maxBodyBytes: 32 * 1024 * 1024 });
      const listeners: Listener[] = [];
      try {
        const lines = read();
        const inputs = lines.map((line) => JSON.parse(line) as { event: string; payload: Payload });
        for (const rooms of roomSetsOf(inputs.map(({ payload }) => payload))) {
          listeners.push(...(await listen(bridge.url, rooms)));
        }
        const published = await publish(bridge, lines, inputs, batch);
        for (const listener of listeners) await hasHeardAll(listener, published);
        await stateAgrees(bridge, published);
        await metricsAgree(bridge, published);
      } finally {
        for (const { client } of listeners) client.close();
        await bridge.close();
      }
    });
  }
}

interface Listener {
  readonly name: string;
  readonly rooms: RoomIds;
  readonly client: Client;
}

/** The busiest tenant, ticket and agreement, and all three together. */
function roomSetsOf(payloads: readonly Payload[]): RoomIds[] {
  const tenantId = [mostCommon(payloads.map((payload) => payload.tenantId))];
  const ticketId = [mostCommon(payloads.map((payload) => payload.ticketId))];
  const agreementId = [mostCommon(payloads.flatMap((payload) => payload.agreementId || []))];
  return [{ tenantId }, { ticketId }, { agreementId }, { tenantId, ticketId, agreementId }];
}

function mostCommon(ids: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const id of ids) counts.set(id, (counts.get(id) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1])[0]?.[0] as string;
}

async function listen(url: string, rooms: RoomIds): Promise<Listener[]> {
  const connect = {
    websocket: connectSocket('websocket'),
    polling: connectSocket('polling'),
    EventSource: connectSse,
    'raw SSE': connectRaw,
    'long poll': connectLongPoll,
  };
  const listeners: Listener[] = [];
  for (const [name, connectTo] of Object.entries(connect)) {
    // What is once for a client in several rooms is told by two of them.
    if (Object.keys(rooms).length > 1 && name !== 'polling' && name !== 'raw SSE') continue;
    listeners.push({ name, rooms, client: await connectTo(url, rooms) });
  }
  return listeners;
}

/** As `curl -N` would: lines of text, and no parser between. */
async function connectRaw(url: string, rooms: RoomIds): Promise<Client> {
  const heard: Client['heard'] = [];
  let cursor: string | null = null;
  let rest = '';
  const outgoing = request(`${url}/sse?${queryOf(rooms)}`);
  outgoing.on('response', (response) => {
    response.setEncoding('utf8');
    response.on('error', () => {});
    response.on('data', (text: string) => {
      const blocks = (rest + text).split('\n\n');
      rest = blocks.pop() as string;
      for (const block of blocks) {
        const match = /^(?:retry: \d+\n)?event: (.*)\n(?:id: (.*)\n)?data: ([^\n]*)$/.exec(block);
        const [, event = 'not a block', id = null, payload = block] = match ?? [];
        cursor = id ?? cursor;
        if (event !== 'bridge.cursor') heard.push({ event, payload, id, replay: false });
      }
    });
  });
  outgoing.on('error', () => {});
  outgoing.end();
  await until('the stream has begun', () => cursor !== null);
  return { heard, resets: [], cursor: () => cursor, close: () => void outgoing.destroy() };
}

/** Publishes the feed; what was no repeat is handed back, after the answers were held against the feed. */
async function publish(
  bridge: TestBridge,
  lines: readonly string[],
  inputs: readonly { event: string; payload: Payload }[],
  batch: number,
): Promise<Published[]> {
  const answers: { id: string; event: string; rooms: string[]; duplicate: boolean }[] = [];
  for (let at = 0; at < lines.length; at += batch) {
    const some = lines.slice(at, at + batch);
    const { status, body } = await bridge.post(batch === 1 ? (some[0] as string) : `{"events":[${some.join(',')}]}`);
    const results = batch === 1 ? [body] : body.results;
    assert.equal(status, results.every(({ duplicate }) => duplicate) ? 200 : 201);
    answers.push(...results);
  }
  const first = new Map<string, string>();
  const published: Published[] = [];
  for (const [index, { event, payload }] of inputs.entries()) {
    const { id, rooms, duplicate, ...answer } = answers[index] as (typeof answers)[number];
    const { tenantId, ticketId, agreementId, messageId, providerMessageId } = payload;
    assert.equal(answer.event, event);
    assert.deepEqual(rooms, [
      `tenant:${tenantId}`,
      `ticket:${ticketId}`,
      ...(agreementId ? [`agreement:${agreementId}`] : []),
    ]);
    const keys =
      event === 'messages.new'
        ? [
            ...(messageId ? [JSON.stringify(['m', tenantId, messageId])] : []),
            ...(providerMessageId ? [JSON.stringify(['p', tenantId, ticketId, providerMessageId])] : []),
          ]
        : [];
    const known = keys.map((key) => first.get(key)).find((each) => each !== undefined);
    assert.equal(duplicate, known !== undefined, `line ${index + 1}`);
    if (known !== undefined) {
      assert.equal(id, known, 'a repeat answers with the first one’s cursor');
      continue;
    }
    for (const key of keys) first.set(key, id);
    published.push({ id, event, payload, rooms });
  }
  assert.ok(published.length < lines.length, 'the feed has repeats');
  const ids = published.map(({ id }) => id);
  assert.deepEqual(ids, [...new Set(ids)].sort());
  return published;
}

function isIn(rooms: RoomIds, { payload }: Published): boolean {
  return (
    (rooms.tenantId ?? []).includes(payload.tenantId) ||
    (rooms.ticketId ?? []).includes(payload.ticketId) ||
    (rooms.agreementId ?? []).includes(payload.agreementId ?? '')
  );
}

const legacyOf = (payload: Payload): string => JSON.stringify({ ...(payload.ticket ?? payload.message), ...payload });

async function hasHeardAll({ name, rooms, client }: Listener, published: readonly Published[]): Promise<void> {
  const expected = published
    .filter((each) => isIn(rooms, each))
    .flatMap(({ id, event, payload }) => [
      ...(LEGACY[event] ?? []).map((alias) => ({ event: alias, id: null, payload: legacyOf(payload) })),
      { event, id, payload: JSON.stringify(payload) },
    ]);
  const who = `${name} in ${JSON.stringify(rooms)}`;
  const last = expected.at(-1)?.id;
  await until(`${who} hears the last of ${expected.length}`, () => client.heard.at(-1)?.id === last, 60_000);
  assert.equal(client.heard.length, expected.length, who);
  for (const [index, { event, id, payload }] of expected.entries()) {
    const heard = client.heard[index];
    assert.equal(heard?.event, event, `${who}, ${index}`);
    assert.equal(heard?.id, id, `${who}, ${index}`);
    assert.ok(heard?.payload === payload, `${who}: the payload of ${event} ${id} is not the same text`);
  }
  assert.deepEqual(client.resets, [], who);
}

interface List {
  readonly items: Payload[];
  readonly nextPage: string | null;
  readonly cursor: string;
}

async function all(url: string, path: string): Promise<Payload[]> {
  const items: Payload[] = [];
  let page = '';
  for (;;) {
    const list = (await (await fetch(`${url}${path}${page}`)).json()) as List;
    items.push(...list.items);
    if (list.nextPage === null) return items;
    page = `&page=${encodeURIComponent(list.nextPage)}`;
  }
}

async function stateAgrees(bridge: TestBridge, published: readonly Published[]): Promise<void> {
  for (const tenantId of new Set(published.map(({ payload }) => payload.tenantId))) {
    const ofTenant = published.filter(({ payload }) => payload.tenantId === tenantId);
    const newest = new Map<string, Published>();
    for (const each of ofTenant.filter(({ event }) => event === 'tickets.updated')) {
      const known = newest.get(each.payload.ticketId);
      if (known === undefined || instant(each) >= instant(known)) newest.set(each.payload.ticketId, each);
    }
    const tickets = [...newest.values()].sort((a, b) => instant(b) - instant(a) || (a.id < b.id ? 1 : -1));
    const tenant = `tenantId=${encodeURIComponent(tenantId)}`;
    sameItems(
      await all(bridge.url, `/tickets?${tenant}&limit=37`),
      tickets.map(({ payload }) => payload),
    );
    for (const ticketId of new Set(ofTenant.map(({ payload }) => payload.ticketId))) {
      const path = `/tickets/${encodeURIComponent(ticketId)}`;
      const messages = ofTenant.filter(
        ({ event, payload }) => event === 'messages.new' && payload.ticketId === ticketId,
      );
      sameItems(
        await all(bridge.url, `${path}/messages?${tenant}&limit=7`),
        messages.map(({ payload }) => payload),
      );
      const response = await fetch(`${bridge.url}${path}?${tenant}`);
      assert.equal(response.status, newest.has(ticketId) ? 200 : 404);
      const text = await response.text();
      if (newest.has(ticketId)) assert.ok(text === JSON.stringify(newest.get(ticketId)?.payload), path);
    }
  }
}

const instant = ({ payload }: Published): number => Date.parse(payload.ticketUpdatedAt);

function sameItems(items: readonly Payload[], expected: readonly Payload[]): void {
  assert.deepEqual(
    items.map(({ ticketId, messageId }) => [ticketId, messageId]),
    expected.map(({ ticketId, messageId }) => [ticketId, messageId]),
  );
  for (const [index, item] of items.entries()) assert.ok(JSON.stringify(item) === JSON.stringify(expected[index]));
}

async function metricsAgree(bridge: TestBridge, published: readonly Published[]): Promise<void> {
  const expected = new Map<string, number>();
  for (const { event, rooms } of published) {
    for (const name of [...(LEGACY[event] ?? []), event]) {
      for (const room of rooms) {
        const series = `ws_emit_total{event="${name}",room="${room.replaceAll(/[\\"]/g, '\\$&')}"}`;
        expected.set(series, (expected.get(series) ?? 0) + 1);
      }
    }
  }
  const text = await (await fetch(`${bridge.url}/metrics`)).text();
  const counted = text
    .split('\n')
    .filter((line) => line.startsWith('ws_emit_total{'))
    .map((line): [string, number] => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ')))]);
  assert.equal(counted.length, new Set(counted.map(([series]) => series)).size);
  assert.deepEqual(Object.fromEntries(counted.sort()), Object.fromEntries([...expected].sort()));
  const slow = text.split('\n').filter((line) => line.startsWith('roomcast_slow_consumers_total{'));
  assert.ok(
    slow.every((line) => line.endsWith(' 0')),
    'nobody was cut',
  );
}

/** 400 events of three tenants, the same on every run: repeats, updates out of order, big and hostile strings. */
function smallDay(): string[] {
  let seed = 7;
  const below = (bound: number): number => {
    seed = (seed * 48_271) % 2_147_483_647;
    return seed % bound;
  };
  const strings = [
    'olá\r\nid: 1\r\n\r\nevent: x\n\ndata: y',
    'שלום \u202eمرحبا\u2028\u2029\u0085\u0000',
    '👩‍👩‍👧‍👦 \ud800',
    '{"a":1}</script>&"\\',
    '[DONE]\n:comment\nretry: 1',
  ];
  const big = ['x'.repeat(200_000), 'é'.repeat(60_000)];
  const lines: string[] = [];
  const messages: string[] = [];
  for (let index = 0; index < 400; index++) {
    const ticket = below(12);
    const tenantId = `tenant-${ticket % 3}:a@b+c`;
    const ticketId = `ticket"\\${ticket}`;
    const string = JSON.stringify(index % 70 === 33 ? big[below(2)] : (strings[below(15)] ?? `n ${index}`));
    const envelope = [
      `"tenantId":${JSON.stringify(tenantId)},"ticketId":${JSON.stringify(ticketId)}`,
      [`"agreementId":"agreement:${ticket % 4}"`, '"agreementId":null', '"agreementId":""', '"extra":{"2":1,"10":[]}'][
        below(4)
      ],
      // Out of order now and then, and equal now and then.
      `"ticketStatus":"OPEN","ticketUpdatedAt":"${new Date(1_772_449_204_000 + (index - below(3) * below(40)) * 1000).toISOString()}"`,
      `"__proto__":{"x":1},"big":1e21,"small":-1e-7,"n":12345678901234567890`,
    ];
    if (below(10) < 4) {
      lines.push(`{"event":"tickets.updated","payload":{${envelope},"ticket":{"id":"beneath","subject":${string}}}}`);
    } else {
      const ids = [
        `"messageId":"m${index}","providerMessageId":"p${index}"`,
        `"messageId":"m${index}"`,
        `"messageId":null,"providerMessageId":"p${index}"`,
      ][below(3)];
      const line = `{"event":"messages.new","payload":{${envelope},${ids},"message":{"content":${string},"ticketStatus":0}}}`;
      lines.push(line);
      messages.push(line);
      if (below(8) === 0) lines.push(messages[below(messages.length)] as string);
    }
  }
  return lines;
}
