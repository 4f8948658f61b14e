/**
 * The lists of tickets and messages (src/client/lists/collections.ts): whatever is published, and whenever they are read, they end as
 * the state routes say (protocol §7), with no gap between the state and what is live.
 */
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { type ConnectOptions, connect, type Live } from '../../src/client/client.ts';
import {
  type MessageList,
  messagesOf,
  type Store,
  signalsOf,
  type TicketList,
  ticketsOf,
} from '../../src/client/lists/collections.ts';
import { createMessageItems, STATUSES } from '../../src/client/lists/message-items.ts';
import { createTicketItems } from '../../src/client/lists/ticket-items.ts';
import { MESSAGE_STATUSES } from '../../src/contract/facts.ts';
import { messageNew, startBridge, type TestBridge, ticketUpdated } from '../support/bridge.ts';
import { startObstacle } from '../support/obstacles.ts';
import { createRandom } from '../support/random.ts';
import { until } from '../support/until.ts';

let bridge: TestBridge;
before(async () => {
  bridge = await startBridge({ heartbeatMs: 250, retryMs: 20, drainMs: 200, signals: ['tickets.typing'] });
});
after(() => bridge.close());

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

let tenants = 0;
const freshTenant = (): string => `lists-${++tenants}`;

function client(options: Partial<ConnectOptions> = {}): Live {
  const live = connect({ url: bridge.url, heartbeatMs: 250, patienceMs: 1000, ...options });
  closing.push(live.close);
  return live;
}

/** Subscribes until the end of the test. */
function follow<Value>(store: Store<Value>): Store<Value> {
  closing.push(store.subscribe(() => {}));
  return store;
}

const loaded = (store: Store<TicketList | MessageList>) => until('loaded', () => !store.snapshot().isLoading);

async function stateOf(path: string, at = bridge.url): Promise<unknown[]> {
  const items: unknown[] = [];
  for (let page = ''; ; ) {
    const answer = await (await fetch(`${at}/${path}&limit=1000${page}`)).json();
    const { items: more, nextPage } = answer as { items: unknown[]; nextPage: string | null };
    items.push(...more);
    if (nextPage === null) return items;
    page = `&page=${encodeURIComponent(nextPage)}`;
  }
}

const messagesIn = (tenantId: string, ticketId: string, at = bridge.url) =>
  stateOf(`tickets/${ticketId}/messages?tenantId=${tenantId}`, at);

/** It is asked again and again: the newest events may be under way. */
async function becomes(store: Store<TicketList | MessageList>, read: () => Promise<unknown[]>): Promise<void> {
  const expected = await read();
  const text = JSON.stringify(expected);
  await until('the list is the state', () => JSON.stringify(store.snapshot().items) === text).catch(() => {
    const { items } = store.snapshot();
    const first = expected.findIndex((item, index) => JSON.stringify(item) !== JSON.stringify(items[index]));
    assert.deepEqual([items.length, items[first]], [expected.length, expected[first]], `the item at ${first}`);
  });
}

async function loadAll(store: Store<TicketList | MessageList>): Promise<void> {
  await loaded(store);
  while (store.snapshot().hasMore) await store.snapshot().loadMore();
}

/** Publishes what `make` makes, without a pause, until `stop`. */
function publishing(make: () => readonly [string, object]): { stop(): Promise<void>; readonly count: number } {
  let isStopped = false;
  let count = 0;
  const running = (async () => {
    while (!isStopped) {
      const [event, payload] = make();
      const answer = await bridge.post({ event, payload });
      assert.ok(answer.status < 300, JSON.stringify(answer.body));
      count++;
    }
  })();
  const stop = async (): Promise<void> => {
    isStopped = true;
    await running;
  };
  closing.push(stop);
  return {
    stop,
    get count() {
      return count;
    },
  };
}

const at = (seconds: number): string => new Date(Date.UTC(2026, 0, 1) + seconds * 1000).toISOString();

/** Messages of one ticket and their changes: late, repeated, of equal instants, by one id or both, and deletions. */
function createMessages(tenantId: string, ticketId: string, seed: number, mayComeEarly = false) {
  const random = createRandom(seed);
  const ids: { messageId?: string; providerMessageId?: string }[] = [];
  const early: (readonly [string, object])[] = [];
  let count = 0;
  return (): readonly [string, object] => {
    const next = early.pop();
    if (next !== undefined) return next;
    count++;
    const known = random.chance(0.5) ? random.pick(ids) : undefined;
    if (known === undefined) {
      const both = { messageId: `${ticketId}-m${count}`, providerMessageId: `${ticketId}-p${count}` };
      const payload = { ...messageNew({ tenantId, ticketId, ...both }) };
      ids.push(both);
      if (!mayComeEarly || random.chance(0.7)) return ['messages.new', payload];
      early.push(['messages.new', payload], change({ messageId: both.messageId }));
      return change({ providerMessageId: both.providerMessageId });
    }
    return change(known);
  };

  function change(both: { messageId?: string; providerMessageId?: string }): readonly [string, object] {
    const { messageId, providerMessageId } = both;
    const named = random.pick([
      messageId ? { messageId } : both,
      providerMessageId ? { providerMessageId } : both,
      both,
    ]);
    const ofTicket = { tenantId, ticketId, ...named, messageUpdatedAt: at(random.whole(1, 4)) };
    if (random.chance(0.1)) return ['messages.deleted', { ...ofTicket, count }];
    const messageStatus = random.pick([null, ...MESSAGE_STATUSES]);
    return ['messages.updated', { ...ofTicket, messageStatus, message: { change: count } }];
  }
}

test('messages: lists that begin while messages come and change end as the state, whatever they have loaded', async () => {
  const [tenantId, ticketId] = [freshTenant(), 'ticket-1'];
  const live = client({ rooms: { tenantId } });
  const fromStart = follow(messagesOf(client({ rooms: { tenantId } }), ticketId));
  const run = publishing(createMessages(tenantId, ticketId, 1));
  const lists: Store<MessageList>[] = [];
  for (const limit of [20, 1000, 50, 30]) {
    await until('more', () => run.count > 60 * (lists.length + 1));
    lists.push(follow(messagesOf(live, ticketId, { limit })));
  }
  await loaded(lists[3] as Store<MessageList>);
  await lists[3]?.snapshot().loadMore(); // in the middle
  await until('more', () => run.count > 500);
  await run.stop();
  for (const list of [fromStart, ...lists]) {
    await loadAll(list);
    await becomes(list, () => messagesIn(tenantId, ticketId));
  }
});

test('messages: changes that arrive before their message apply when it arrives', async () => {
  const [tenantId, ticketId] = [freshTenant(), 'ticket-1'];
  const list = follow(messagesOf(client(), ticketId, { tenantId }));
  await loaded(list);
  const make = createMessages(tenantId, ticketId, 2, true);
  for (let count = 0; count < 300; count++) {
    const [event, payload] = make();
    await bridge.post({ event, payload });
  }
  await becomes(list, () => messagesIn(tenantId, ticketId));
});

test('what the state does not have is gone, though an earlier event told of it', () => {
  const [first, second] = [messageNew(), messageNew()];
  const messages = createMessageItems();
  messages.take('messages.new', first, '1');
  messages.take('messages.new', second, '3');
  messages.load([], '2', true);
  assert.deepEqual(messages.list(), [second]);
  const tickets = createTicketItems({ agreementId: undefined, status: undefined, updatedAfter: '' });
  const [third, fourth] = [ticketUpdated({ ticketId: '3' }), ticketUpdated({ ticketId: '4' })];
  tickets.take('tickets.updated', third, '1');
  tickets.take('tickets.updated', fourth, '3');
  tickets.load([], '2', true);
  assert.deepEqual(tickets.list(), [fourth]);
});

test('tickets: lists that begin while tickets change, also with older changes that come late, end as the state', async () => {
  const tenantId = freshTenant();
  const random = createRandom(3);
  const live = client({ rooms: { tenantId } });
  const run = publishing(() => [
    'tickets.updated',
    ticketUpdated({
      tenantId,
      ticketId: random.whole(1, 40),
      // Equal ones, and some that differ in less than a millisecond.
      ticketUpdatedAt: `2026-01-01T00:00:0${random.whole(0, 9)}.000${random.whole(0, 9)}Z`,
      ticket: { change: random.next() },
    }),
  ]);
  const lists: Store<TicketList>[] = [];
  for (const limit of [3, 1000, 7]) {
    await until('more', () => run.count > 60 * (lists.length + 1));
    lists.push(follow(ticketsOf(live, { tenantId, limit })));
  }
  await until('more', () => run.count > 400);
  await run.stop();
  for (const list of lists) {
    await loadAll(list);
    await becomes(list, () => stateOf(`tickets?tenantId=${tenantId}`));
  }
});

test('tickets: one that no longer matches leaves the list, and comes back', async () => {
  const tenantId = freshTenant();
  const random = createRandom(4);
  const live = client({ rooms: { tenantId } });
  const updatedAfter = at(100);
  const queries = [{ status: 'OPEN' }, { agreementId: '2' }, { status: 'CLOSED', agreementId: 1 }, { updatedAfter }];
  const lists = queries.map((query) => follow(ticketsOf(live, { tenantId, ...query })));
  for (const list of lists) await loaded(list);
  for (let count = 0; count < 200; count++) {
    const agreementId = random.pick(['1', '2', 3, null]);
    const ticketStatus = random.pick(['OPEN', 'CLOSED']);
    const overrides = { ticketId: random.whole(1, 20), agreementId, ticketStatus, ticketUpdatedAt: at(count) };
    await bridge.publish('tickets.updated', ticketUpdated({ tenantId, ...overrides }));
  }
  for (const [index, list] of lists.entries()) {
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries(queries[index] ?? {})) query.append(name, String(value));
    await becomes(list, () => stateOf(`tickets?tenantId=${tenantId}&${query}`));
  }
});

test('after a reset the lists are those of the new log, and stay as they were until they are read', async () => {
  const tenantId = freshTenant();
  const fresh = await startBridge({ heartbeatMs: 250, drainMs: 200 });
  closing.push(fresh.close);
  for (const [each, texts] of [
    [bridge, ['a', 'b', 'c']],
    [fresh, ['d', 'e']],
  ] as const) {
    for (const messageId of texts) await each.publish('messages.new', messageNew({ tenantId, messageId }));
  }
  const between = await startObstacle(bridge.url);
  closing.push(between.close);
  const list = follow(messagesOf(client({ url: between.url, rooms: { tenantId } }), 'ticket-123'));
  await becomes(list, () => messagesIn(tenantId, 'ticket-123'));
  const shown: number[] = [];
  closing.push(list.subscribe(() => shown.push(list.snapshot().items.length)));
  between.retarget(fresh.url);
  between.cut();
  await until('read anew', () => list.snapshot().items.length === 2, 30_000);
  await fresh.publish('messages.new', messageNew({ tenantId, messageId: 'f' }));
  await becomes(list, () => messagesIn(tenantId, 'ticket-123', fresh.url));
  assert.ok(!shown.includes(0), `${shown}`);
});

test('rooms are joined once, left a second after the last list, and stay if the application joined them', async () => {
  const tenantId = freshTenant();
  const live = client({ rooms: { tenantId, ticketId: 'mine' } });
  const joins: string[] = [];
  const { join } = live;
  Object.assign(live, {
    join(rooms: Parameters<Live['join']>[0]) {
      joins.push(JSON.stringify(rooms));
      return join(rooms);
    },
  });
  const stores = [
    messagesOf(live, 'a'),
    messagesOf(live, 'a'),
    messagesOf(live, 'a', { limit: 5 }),
    messagesOf(live, 'mine'),
  ];
  const offs = stores.map((store) => store.subscribe(() => {}));
  for (const store of stores) await loaded(store);
  assert.equal(stores[0]?.snapshot(), stores[1]?.snapshot());
  assert.deepEqual(joins, ['{"ticketId":["a"]}', '{"ticketId":["mine"]}']);
  offs[0]?.();
  offs[2]?.();
  // A component that is mounted again at once neither leaves nor joins.
  offs[1]?.();
  const again = stores[1]?.subscribe(() => {});
  assert.equal(stores[1]?.snapshot().isLoading, false);
  await until('the other list has stopped', () => stores[2]?.snapshot().isLoading === true);
  assert.ok(live.rooms.includes('ticket:a'));
  again?.();
  offs[3]?.();
  await until('left', () => !live.rooms.includes('ticket:a'));
  await until('stopped', () => stores[3]?.snapshot().isLoading === true);
  assert.deepEqual(live.rooms, [`tenant:${tenantId}`, 'ticket:mine']);
  assert.equal(joins.length, 2);
});

test('a list that is refused says why; one that is limited is read again', async () => {
  const live = client();
  const list = follow(messagesOf(live, 'a'));
  await until('refused', () => list.snapshot().error !== null);
  assert.equal(list.snapshot().error?.code, 'no_tenant');
  assert.equal(list.snapshot().isLoading, false);
  live.close();
  const closed = follow(ticketsOf(live, { tenantId: 't' }));
  await until('closed', () => closed.snapshot().error !== null);
  assert.equal(closed.snapshot().isLoading, false);

  const busy = await startBridge({ rateReads: 1, drainMs: 200 });
  closing.push(busy.close);
  const tenantId = freshTenant();
  await busy.publish('tickets.updated', ticketUpdated({ tenantId }));
  const limited = client({ url: busy.url, rooms: { tenantId } });
  await until('live', () => limited.status.state === 'live', 30_000);
  const many = [1, 2].map((limit) => follow(ticketsOf(limited, { tenantId, limit })));
  await until('limited', () => many.some((each) => each.snapshot().error?.code === 'rate_limited'));
  await until('read', () => many.every((each) => each.snapshot().items.length === 1), 30_000);
  for (const each of many) assert.equal(each.snapshot().error, null);
});

test('the signals of a room, until they end', async () => {
  const tenantId = freshTenant();
  const [sender, receiver] = [client(), client()];
  const signals = follow(signalsOf(receiver, { ticketId: tenantId }));
  const none = signals.snapshot();
  await until('joined', () => receiver.rooms.length === 1 && receiver.status.state === 'live');
  const stop = sender.keep('tickets.typing' as never, `ticket:${tenantId}`);
  await until('heard', () => signals.snapshot().length === 1);
  assert.notEqual(signals.snapshot(), none);
  assert.equal(signals.snapshot(), signals.snapshot());
  stop();
  await until('ended', () => signals.snapshot().length === 0);
});

test('the statuses of a message are in the order of the contract', () => {
  assert.deepEqual(STATUSES, MESSAGE_STATUSES);
});
