/**
 * The laws of messages and audiences in the store (src/store/store.ts, protocol §7 and §9): changes of messages in any
 * order, the rooms of records, and who may read which state. Every engine must pass them.
 */
import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { audienceOf, HEARS_ALL, type Hearing, type Keying } from '../../src/contract/audiences.ts';
import { createEventCatalog } from '../../src/contract/events.ts';
import { MESSAGE_STATUSES } from '../../src/contract/facts.ts';
import type { Room } from '../../src/contract/rooms.ts';
import type { AppendEvent, AppendedEvent, Store } from '../../src/store/store.ts';
import { createRandom } from '../support/random.ts';
import {
  ALL_MESSAGES,
  ALL_TICKETS,
  append,
  caughtUp,
  type Engine,
  HOUR,
  KEEP,
  NOW,
  only,
  outcome,
  pagesOf,
  readAll,
  request,
  tailOf,
} from './conformance.ts';
import { createMessageModel } from './message-model.ts';

const catalog = createEventCatalog(['tickets.new'], ['queue']);
const DAY = 24 * HOUR;

type Fields = Readonly<Record<string, unknown>> & { readonly rooms?: readonly string[] };

const BASE: Fields = { tenantId: 't1', ticketId: 'k1', ticketStatus: 'OPEN', ticketUpdatedAt: '2026-01-01T00:00:00Z' };
const SECOND = (n: number) => new Date(NOW + 1000 * n).toISOString();

function event(name: string, { rooms, ...payload }: Fields, keying: Keying = 'room'): AppendEvent {
  const result = catalog.check(name, payload, { rooms });
  assert.ok(result.kind === 'ok', JSON.stringify(result));
  const { event } = result;
  return { ...event, audiences: event.rooms.map((room) => audienceOf(keying, event.tenantId, room)) };
}

const created = (fields: Fields): AppendEvent => event('messages.new', { ...BASE, message: {}, ...fields });
const updated = (fields: Fields): AppendEvent =>
  event('messages.updated', { ...BASE, message: {}, messageUpdatedAt: SECOND(0), ...fields });
const deleted = (fields: Fields): AppendEvent =>
  event('messages.deleted', { ...BASE, messageUpdatedAt: SECOND(0), ...fields });
const ticket = (fields: Fields): AppendEvent => event('tickets.updated', { ...BASE, ticket: {}, ...fields });
const declared = (fields: Fields): AppendEvent => event('tickets.new', { tenantId: 't1', ...fields });

const payloadsOf = (events: readonly { readonly payload: string }[]): string[] => events.map(({ payload }) => payload);
const everyRoom = (events: readonly AppendEvent[]): string[] => [...new Set(events.flatMap((e) => e.rooms))];

/** All orders of a list. */
function* ordersOf<Item>(items: readonly Item[]): Generator<Item[]> {
  if (items.length === 0) yield [];
  for (const [index, item] of items.entries()) {
    for (const rest of ordersOf(items.toSpliced(index, 1))) yield [item, ...rest];
  }
}

export function messageConformance(name: string, engine: Engine): void {
  async function setUp(t: TestContext, keying: Keying = 'room') {
    const log = await engine.create();
    let closing: Promise<unknown> = Promise.resolve();
    let current: Store | null = null;
    t.after(async () => {
      await closing;
      await current?.close();
      await log.remove();
    });
    const open = async () => {
      const store = await log.open(keying);
      current = store;
      const tail = tailOf(store);
      const { trim, erase } = store;
      // A tail that is behind what is removed gets a gap, and these cases are not about that.
      store.trim = async (retention) => {
        await caughtUp(store, tail);
        return trim(retention);
      };
      store.erase = async (target) => {
        await caughtUp(store, tail);
        return erase(target);
      };
      return { store, tail };
    };
    const reopen = async () => {
      closing = current?.close() ?? closing;
      await closing;
      return open();
    };
    return { ...(await open()), reopen };
  }

  const messagesOf = async (store: Store, ticketId = 'k1', hearing: Hearing = HEARS_ALL, tenantId = 't1') => {
    const query = { ...ALL_MESSAGES, tenantId, ticketId, hearing };
    const { items } = await store.messages(query);
    const backwards = await pagesOf((page) => store.messages({ ...query, order: 'desc', limit: 2, page }));
    assert.deepEqual(backwards.flat().toReversed(), items);
    return items;
  };
  const ticketsOf = async (store: Store, hearing: Hearing = HEARS_ALL, overrides = {}) => {
    const query = { ...ALL_TICKETS, tenantId: 't1', hearing, ...overrides };
    const { items } = await store.tickets(query);
    const pages = await pagesOf((page) => store.tickets({ ...query, limit: 1, page }));
    assert.deepEqual(pages.flat(), items);
    return items;
  };
  const one = async (store: Store, event: AppendEvent, atMs = NOW): Promise<AppendedEvent> =>
    (await outcome(store, request([event], atMs)))[0] as AppendedEvent;
  /** Appends events one by one, and returns the rooms of each. */
  const roomsOf = async (store: Store, ...events: AppendEvent[]): Promise<(readonly Room[])[]> => {
    const rooms: (readonly Room[])[] = [];
    for (const event of events) rooms.push((await one(store, event)).rooms);
    return rooms;
  };

  describe(`messages in the store: ${name}`, () => {
    describe('status', () => {
      const statuses = ['queued', 'sent', 'delivered', 'read'] as const;
      const sequences: { ticketId: string; events: AppendEvent[]; last: string }[] = [];
      for (const order of ordersOf(statuses)) {
        for (let place = 0; place <= statuses.length; place++) {
          for (const step of [0, 1]) {
            const ticketId = `k${sequences.length}`;
            const tick = (messageStatus: string) =>
              updated({
                ...{ ticketId, messageId: 'm', messageStatus, message: { status: messageStatus } },
                messageUpdatedAt: SECOND(step * statuses.indexOf(messageStatus as 'read')),
              });
            const ticks = order.map(tick);
            const events = ticks.toSpliced(place, 0, created({ ticketId, messageId: 'm' }));
            sequences.push({ ticketId, events, last: tick('read').payload });
          }
        }
      }
      const endsWithRead = async (store: Store) => {
        for (const { ticketId, last } of sequences) assert.deepEqual(await messagesOf(store, ticketId), [last]);
      };

      it('ends with the last one in every order of publishes, with repeats', async (t) => {
        const { store } = await setUp(t);
        await Promise.all(
          sequences.map(async ({ events }) => {
            for (const event of events) {
              assert.equal((await one(store, event)).duplicate, false);
              assert.equal((await one(store, event)).duplicate, true);
            }
          }),
        );
        await endsWithRead(store);
      });

      it('ends with the last one in every order within a batch, with repeats', async (t) => {
        const { store } = await setUp(t);
        await Promise.all(
          sequences.map(async ({ events }) => {
            const appended = await outcome(store, request([...events, ...events]));
            assert.deepEqual(
              appended.map(({ duplicate }) => duplicate),
              [...events.map(() => false), ...events.map(() => true)],
            );
            assert.deepEqual(
              appended.slice(events.length).map(({ id }) => id),
              appended.slice(0, events.length).map(({ id }) => id),
            );
          }),
        );
        await endsWithRead(store);
      });

      it('ends with the last one when several publishers publish at once', async (t) => {
        const { store } = await setUp(t);
        await Promise.all(sequences.flatMap(({ events }) => [...events, ...events].map((event) => one(store, event))));
        await endsWithRead(store);
      });

      it('has an order at equal instants: none, failed, queued, sent, delivered, read, played', async (t) => {
        const { store } = await setUp(t);
        const ranked = [undefined, ...MESSAGE_STATUSES].map((messageStatus) =>
          updated({ messageId: 'm', messageStatus }),
        );
        await append(store, [created({ messageId: 'm' })]);
        for (const [index, event] of ranked.entries()) {
          await append(store, [event]);
          assert.deepEqual(await messagesOf(store), [event.payload]);
          if (index > 0) {
            await one(store, updated({ messageId: 'm', messageStatus: MESSAGE_STATUSES[index - 2], again: index }));
            assert.deepEqual(await messagesOf(store), [event.payload]);
          }
        }
      });
    });

    describe('edits', () => {
      it('stand by their instants, to the millisecond, then by the log', async (t) => {
        const { store } = await setUp(t);
        const edit = (messageUpdatedAt: string, n: number) =>
          updated({ messageId: 'm', messageUpdatedAt, message: { n } });
        await append(store, [created({ messageId: 'm' })]);
        const steps: [AppendEvent, boolean][] = [
          [edit('0001-01-01T00:00:00Z', 1), true],
          [edit('1970-01-01T00:00:00Z', 2), true],
          [edit('2026-01-01T00:00:00.5009Z', 3), true],
          [edit('2026-01-01T00:00:00.499Z', 4), false],
          [edit('2026-01-01T00:00:00.5001Z', 5), true],
          [edit('2026-01-01T02:00:00.501+02:00', 6), true],
          [edit('2026-01-01T00:00:00Z', 7), false],
        ];
        let shown = '';
        for (const [event, stands] of steps) {
          await append(store, [event]);
          if (stands) shown = event.payload;
          assert.deepEqual(await messagesOf(store), [shown]);
        }
      });

      it('keep the place of the message: the cursor of its messages.new', async (t) => {
        const { store } = await setUp(t);
        const [a, b, c] = ['a', 'b', 'c'].map((messageId) => created({ messageId })) as [
          AppendEvent,
          AppendEvent,
          AppendEvent,
        ];
        const early = updated({ messageId: 'c', message: { early: true } });
        await append(store, [early, a, b, c]);
        const edit = updated({ messageId: 'a', message: { edited: true } });
        await append(store, [edit]);
        assert.deepEqual(await messagesOf(store), payloadsOf([edit, b, early]));
      });

      it('are kept under their ids until the message arrives', async (t) => {
        const { store, reopen } = await setUp(t);
        const edit = updated({ providerMessageId: 'p', message: { edited: true } });
        await append(store, [edit]);
        assert.deepEqual(await messagesOf(store), []);
        assert.deepEqual(await ticketsOf(store), []);
        await store.trim({ ...KEEP, maxRecords: 0 });
        const again = engine.keeps ? (await reopen()).store : store;
        await append(again, [created({ messageId: 'm', providerMessageId: 'p' })]);
        assert.deepEqual(await messagesOf(again), [edit.payload]);
      });

      it('survive the trim of the log, as the record that is shown', async (t) => {
        const { store } = await setUp(t);
        const edits = [1, 2, 3].map((n) => updated({ messageId: 'm', message: { n }, messageUpdatedAt: SECOND(n) }));
        await append(store, [created({ messageId: 'm', agreementId: 'g' })]);
        for (const edit of edits) {
          await append(store, [edit]);
          await store.trim({ ...KEEP, maxRecords: 0 });
          assert.deepEqual(await messagesOf(store), [edit.payload]);
        }
        assert.equal((await store.stats()).records, 0);
        assert.deepEqual((await one(store, updated({ messageId: 'm', message: { late: true } }))).rooms, [
          'tenant:t1',
          'ticket:k1',
          'agreement:g',
        ]);
        assert.deepEqual(await messagesOf(store), payloadsOf(edits.slice(2)));
      });
    });

    describe('deletions', () => {
      it('stand whatever comes later, and keep the ids', async (t) => {
        const { store, reopen } = await setUp(t);
        const first = created({ messageId: 'm', providerMessageId: 'p' });
        const other = created({ messageId: 'other' });
        const [id] = await append(store, [first, other]);
        await append(store, [deleted({ messageId: 'm' })]);
        assert.deepEqual(await messagesOf(store), [other.payload]);
        await append(store, [updated({ messageId: 'm', messageUpdatedAt: SECOND(99), messageStatus: 'played' })]);
        await append(store, [updated({ providerMessageId: 'p', messageUpdatedAt: SECOND(100) })]);
        assert.deepEqual(await messagesOf(store), [other.payload]);
        await store.trim({ ...KEEP, maxRecords: 0 });
        const again = engine.keeps ? (await reopen()).store : store;
        for (const repeat of [
          first,
          created({ messageId: 'm' }),
          created({ providerMessageId: 'p', rooms: ['user:u'] }),
        ]) {
          assert.deepEqual(await one(again, repeat), { id, duplicate: true, rooms: first.rooms });
        }
        assert.deepEqual(await messagesOf(again), [other.payload]);
      });

      it('are kept until their message arrives, which is then not listed', async (t) => {
        const { store } = await setUp(t);
        await append(store, [deleted({ messageId: 'm' })]);
        await append(store, [updated({ messageId: 'm', messageUpdatedAt: SECOND(9) })]);
        assert.equal((await one(store, created({ messageId: 'm' }))).duplicate, false);
        assert.deepEqual(await messagesOf(store), []);
        assert.equal((await one(store, created({ messageId: 'm' }))).duplicate, true);
      });

      it('do not slow down or end the pages of a list', async (t) => {
        const { store } = await setUp(t);
        const count = 2_500;
        const ids = Array.from({ length: count }, (_, n) => ({ messageId: `m${n}` }));
        for (let at = 0; at < count; at += 500)
          await append(
            store,
            ids.slice(at, at + 500).map((id) => created(id)),
          );
        for (let at = 0; at < count; at += 500)
          await append(
            store,
            ids.slice(at, at + 500).map((id) => deleted(id)),
          );
        const last = created({ messageId: 'last' });
        await append(store, [last]);
        const pages = await pagesOf((page) => store.messages({ ...ALL_MESSAGES, limit: 1, page }));
        assert.deepEqual(pages.flat(), [last.payload]);
      });
    });

    describe('ids', () => {
      it('belong to a ticket: two tickets of a tenant that share a key keep both messages', async (t) => {
        const { store } = await setUp(t);
        for (const ids of [{ providerMessageId: 'p' }, { messageId: 'm' }, { messageId: 1 }]) {
          for (const scope of [{ ticketId: 'k1' }, { ticketId: 'k2' }, { ticketId: 'k1', tenantId: 't2' }]) {
            assert.equal(
              (await one(store, created({ ...ids, ...scope }))).duplicate,
              false,
              JSON.stringify([ids, scope]),
            );
            assert.equal((await one(store, created({ ...ids, ...scope, other: 1 }))).duplicate, true);
          }
        }
        assert.equal((await messagesOf(store, 'k1')).length, 3);
        assert.equal((await messagesOf(store, 'k2')).length, 3);
        const edit = updated({ ticketId: 'k2', messageId: 'm' });
        await append(store, [edit]);
        assert.equal((await messagesOf(store, 'k2'))[1], edit.payload);
        assert.notEqual((await messagesOf(store, 'k1'))[1], edit.payload);
      });

      it('of one sort never name a message of the other sort', async (t) => {
        const { store } = await setUp(t);
        const events = [created({ messageId: 'x' }), created({ providerMessageId: 'x' })];
        await append(store, events);
        const edit = updated({ providerMessageId: 'x' });
        await append(store, [edit]);
        assert.deepEqual(await messagesOf(store), [events[0]?.payload, edit.payload]);
      });

      it('may be numbers, which mean their decimal text', async (t) => {
        const { store } = await setUp(t);
        await append(store, [created({ messageId: 7 })]);
        const edit = updated({ messageId: '7' });
        await append(store, [edit]);
        assert.deepEqual(await messagesOf(store), [edit.payload]);
      });

      it('that a change adds name the message from then on', async (t) => {
        const { store } = await setUp(t);
        await append(store, [created({ messageId: 'm' })]);
        await append(store, [updated({ messageId: 'm', providerMessageId: 'p' })]);
        const edit = updated({ providerMessageId: 'p', messageUpdatedAt: SECOND(1) });
        await append(store, [edit]);
        assert.deepEqual(await messagesOf(store), [edit.payload]);
        assert.equal((await one(store, created({ providerMessageId: 'p' }))).duplicate, true);
        await append(store, [deleted({ providerMessageId: 'p', messageId: 'm2' })]);
        assert.equal((await one(store, created({ messageId: 'm2' }))).duplicate, true);
      });

      it('of another message stay with it: a change means the message with its messageId', async (t) => {
        const { store } = await setUp(t);
        const [a, b] = [
          created({ messageId: 'a', providerMessageId: 'p' }),
          created({ messageId: 'b', providerMessageId: 'q' }),
        ];
        await append(store, [a, b]);
        const mixed = updated({ messageId: 'a', providerMessageId: 'q' });
        await append(store, [mixed]);
        assert.deepEqual(await messagesOf(store), [mixed.payload, b.payload]);
        const ofB = updated({ providerMessageId: 'q', messageUpdatedAt: SECOND(1) });
        await append(store, [ofB]);
        assert.deepEqual(await messagesOf(store), [mixed.payload, ofB.payload]);
      });

      it('of a known message draw in what was kept under the other id', async (t) => {
        const { store } = await setUp(t);
        const kept = updated({ messageId: 'late', messageStatus: 'read', messageUpdatedAt: SECOND(5) });
        await append(store, [created({ providerMessageId: 'p' }), kept]);
        await append(store, [updated({ messageId: 'late', providerMessageId: 'p', messageStatus: 'sent' })]);
        assert.deepEqual(await messagesOf(store), [kept.payload]);
        const next = updated({ messageId: 'late', messageUpdatedAt: SECOND(6) });
        await append(store, [next]);
        assert.deepEqual(await messagesOf(store), [next.payload]);
      });

      it('that are kept apart become one message once an event names both', async (t) => {
        for (const join of ['messages.new', 'messages.updated', 'messages.deleted']) {
          const { store } = await setUp(t);
          const [byId, byKey] = [
            updated({ messageId: 'm', messageUpdatedAt: SECOND(2) }),
            updated({ providerMessageId: 'p', messageUpdatedAt: SECOND(3) }),
          ];
          await append(store, [byId, byKey]);
          const both = { messageId: 'm', providerMessageId: 'p' };
          if (join === 'messages.updated') await append(store, [updated(both)]);
          if (join === 'messages.deleted') await append(store, [deleted(both)]);
          await append(store, [created(join === 'messages.new' ? both : { messageId: 'm' })]);
          assert.deepEqual(await messagesOf(store), join === 'messages.deleted' ? [] : [byKey.payload], join);
          assert.equal((await one(store, created({ providerMessageId: 'p' }))).duplicate, true, join);
        }
      });

      it('chain: many kept changes that are joined one by one are one message', async (t) => {
        const { store } = await setUp(t);
        const count = 300;
        const name = (n: number) => (n % 2 === 0 ? { messageId: `m${n}` } : { providerMessageId: `p${n}` });
        const apart = Array.from({ length: count }, (_, n) => updated({ ...name(n), messageUpdatedAt: SECOND(n) }));
        const joins = Array.from({ length: count - 1 }, (_, n) => updated({ ...name(n), ...name(n + 1), n }));
        await append(store, apart);
        await append(store, joins.toReversed());
        await append(store, [created({ messageId: 'm0' })]);
        assert.deepEqual(await messagesOf(store), [apart.at(-1)?.payload]);
        for (const n of [1, 2, 150, count - 1]) assert.equal((await one(store, created(name(n)))).duplicate, true);
        const last = updated({ ...name(count - 1), messageUpdatedAt: SECOND(count) });
        await append(store, [last]);
        assert.deepEqual(await messagesOf(store), [last.payload]);
      });

      it('may be long and of any characters', async (t) => {
        const { store } = await setUp(t);
        for (const messageId of ['x'.repeat(5_000), 'a b,c', ' ', '\u0000', 'ü', 'm:1', 'a\nb', '\ud800']) {
          const edit = updated({ messageId, message: { edited: true } });
          await append(store, [created({ messageId }), edit]);
          assert.equal((await messagesOf(store)).at(-1), edit.payload);
        }
        assert.equal((await messagesOf(store)).length, 8);
      });
    });

    describe('rooms', () => {
      const named = ['queue:a', 'user:u'] as const;

      it('of a change are those of its messages.new, unless its publisher names them', async (t) => {
        const { store, tail } = await setUp(t);
        const events = [
          created({ messageId: 'm', rooms: named }),
          updated({ messageId: 'm', agreementId: 'g' }),
          updated({ messageId: 'm', rooms: ['queue:b'], n: 1 }),
          updated({ messageId: 'm', n: 2 }),
          deleted({ messageId: 'm' }),
          updated({ messageId: 'm', n: 3 }),
        ];
        assert.deepEqual(await roomsOf(store, ...events), [named, named, ['queue:b'], named, named, named]);
        await caughtUp(store, tail);
        assert.deepEqual(
          tail.records.map(({ rooms }) => rooms),
          [named, named, ['queue:b'], named, named, named],
        );
        assert.deepEqual(
          tail.records.map(({ audiences }) => audiences),
          tail.records.map(({ rooms }) => rooms),
        );
        const { records } = await readAll(store, ['queue:a'], store.opened.head);
        assert.deepEqual(payloadsOf(records), payloadsOf(events.toSpliced(2, 1)));
        assert.deepEqual(
          (await readAll(store, ['tenant:t1', 'ticket:k1', 'agreement:g'], store.opened.head)).records,
          [],
        );
      });

      it('of a change are those of the first kept change until the messages.new is known', async (t) => {
        const { store } = await setUp(t);
        const own = ['tenant:t1', 'ticket:k1'];
        assert.deepEqual(
          await roomsOf(
            store,
            updated({ messageId: 'm', rooms: ['queue:p'] }),
            updated({ messageId: 'm', n: 1 }),
            updated({ messageId: 'm', rooms: ['queue:q'], n: 2 }),
            updated({ providerMessageId: 'p' }),
            updated({ messageId: 'm', providerMessageId: 'p', n: 3 }),
            updated({ providerMessageId: 'p', n: 4 }),
            created({ messageId: 'm', rooms: named }),
            updated({ messageId: 'm', n: 5 }),
            updated({ providerMessageId: 'p', n: 6 }),
            updated({ messageId: 'unknown' }),
          ),
          [['queue:p'], ['queue:p'], ['queue:q'], own, ['queue:p'], ['queue:p'], named, named, named, own],
        );
      });

      it('are decided within a batch and among concurrent publishes', async (t) => {
        const { store } = await setUp(t);
        const batch = [
          created({ messageId: 'm', rooms: named }),
          updated({ messageId: 'm' }),
          created({ messageId: 'm' }),
        ];
        const appended = await outcome(store, request(batch));
        assert.deepEqual(
          appended.map(({ rooms }) => rooms),
          [named, named, named],
        );
        const ticks = Array.from({ length: 50 }, (_, n) => one(store, updated({ messageId: 'm', n })));
        for (const { rooms } of await Promise.all(ticks)) assert.deepEqual(rooms, named);
      });

      it('of the first record stay known when the log is trimmed and opened again', async (t) => {
        const { store, reopen } = await setUp(t);
        await append(store, [created({ messageId: 'a', rooms: named }), created({ messageId: 'b', rooms: named })]);
        await append(store, [updated({ messageId: 'a', rooms: ['queue:b'] }), deleted({ messageId: 'b' })]);
        await store.trim({ ...KEEP, maxRecords: 0 });
        const again = engine.keeps ? (await reopen()).store : store;
        for (const messageId of ['a', 'b']) {
          assert.deepEqual((await one(again, updated({ messageId, n: 1 }))).rooms, named);
          assert.deepEqual((await one(again, created({ messageId }))).rooms, named);
        }
      });

      it('of a duplicate are those of the first record', async (t) => {
        const { store } = await setUp(t);
        const first = await one(store, created({ messageId: 'm', rooms: named }));
        const repeat = created({ messageId: 'm', rooms: ['queue:z'] });
        assert.deepEqual(await one(store, repeat), { ...first, duplicate: true });
        const keyed = [
          created({ messageId: 'm' }),
          updated({ messageId: 'm' }),
          updated({ messageId: 'm', rooms: ['queue:c'] }),
          declared({ rooms: ['queue:d', 'queue:e'] }),
        ];
        const once = await outcome(store, request(keyed, NOW, 'key'));
        assert.deepEqual(
          once.map(({ rooms }) => rooms),
          [named, named, ['queue:c'], ['queue:d', 'queue:e']],
        );
        for (const prepare of [() => {}, () => store.trim({ ...KEEP, maxRecords: 0 })]) {
          await prepare();
          assert.deepEqual(
            await outcome(store, request(keyed, NOW, 'key')),
            once.map((result) => ({ ...result, duplicate: true })),
          );
        }
      });
    });

    describe('repeats of changes', () => {
      const dedupes = async (store: Store, event: AppendEvent) => (await one(store, event)).duplicate;

      it('have the same tenant, event, payload and rooms', async (t) => {
        const { store } = await setUp(t);
        await append(store, [created({ messageId: 'm' }), created({ messageId: 'm', tenantId: 't2' })]);
        const first = await one(store, updated({ messageId: 'm' }));
        assert.deepEqual(await one(store, updated({ messageId: 'm' })), { ...first, duplicate: true });
        assert.deepEqual(
          await one(store, updated({ messageId: 'm', rooms: ['ticket:k1', 'tenant:t1'] })),
          { ...first, duplicate: true },
          'the same rooms, named, in another order',
        );
        assert.equal(await dedupes(store, updated({ messageId: 'm', tenantId: 't2' })), false);
        assert.equal(await dedupes(store, updated({ messageId: 'm', rooms: ['ticket:k1'] })), false);
        assert.equal(await dedupes(store, updated({ messageId: 'm', n: 1 })), false);
        assert.equal(await dedupes(store, deleted({ messageId: 'm' })), false);
        assert.equal(await dedupes(store, deleted({ messageId: 'm' })), true);
        assert.equal(await dedupes(store, updated({ messageId: 'm' })), true);
      });

      it('are found until they are too old, also when the log is trimmed', async (t) => {
        const { store, reopen } = await setUp(t);
        await append(store, [created({ messageId: 'm' })]);
        await append(store, [updated({ messageId: 'm' })], NOW);
        await append(store, [updated({ messageId: 'm', n: 1 })], NOW + HOUR);
        await store.trim({ ...KEEP, maxRecords: 0, dedupeBeforeMs: NOW + 1 });
        const again = engine.keeps ? (await reopen()).store : store;
        assert.equal(await dedupes(again, updated({ messageId: 'm', n: 1 })), true);
        assert.equal(await dedupes(again, updated({ messageId: 'm' })), false);
      });

      it('are found when the state of the ticket has expired', async (t) => {
        const { store } = await setUp(t);
        await append(store, [created({ messageId: 'm' }), updated({ messageId: 'm' })]);
        await store.trim({ ...KEEP, maxRecords: 0, stateBeforeMs: NOW + 1 });
        assert.equal(await dedupes(store, updated({ messageId: 'm' })), true);
      });

      it('change neither log nor state', async (t) => {
        const { store } = await setUp(t);
        const [slow, fast] = [updated({ messageId: 'm', n: 1 }), updated({ messageId: 'm', n: 2 })];
        await append(store, [created({ messageId: 'm' }), slow, fast]);
        assert.equal(await dedupes(store, slow), true);
        assert.deepEqual(await messagesOf(store), [fast.payload]);
        assert.equal((await store.stats()).records, 3);
      });
    });

    describe('visibility', () => {
      it('of a ticket follows the rooms of the record that is shown, whatever their kind', async (t) => {
        const { store } = await setUp(t);
        const shown = ticket({
          ticketId: 'k1',
          agreementId: 'g',
          rooms: ['queue:a', 'user:u', 'ticket:other', 'agreement:x'],
        });
        await append(store, [shown, ticket({ ticketId: 'k2', agreementId: 'g' })]);
        for (const room of ['queue:a', 'user:u', 'ticket:other', 'agreement:x'] as const) {
          assert.deepEqual(await ticketsOf(store, only(room).hearing), [shown.payload], room);
          assert.deepEqual(await ticketsOf(store, only('user:nobody', room, 'queue:z').hearing), [shown.payload], room);
          assert.deepEqual(await ticketsOf(store, only(room).hearing, { status: 'CLOSED' }), []);
          assert.deepEqual(await ticketsOf(store, only(room).hearing, { agreementId: 'g', status: 'OPEN' }), [
            shown.payload,
          ]);
        }
        assert.deepEqual(await ticketsOf(store, only('ticket:k1', 'queue:b', 'user:v').hearing), []);
        assert.equal((await ticketsOf(store, only('agreement:g', 'queue:a').hearing)).length, 2);
        assert.deepEqual(
          await ticketsOf(store, { kinds: ['ticket', 'agreement', 'queue'], rooms: [] }),
          await ticketsOf(store),
        );
        assert.equal((await ticketsOf(store, { kinds: [], rooms: ['tenant:t1'] })).length, 1);
      });

      it('moves with a ticket that moves between queues', async (t) => {
        const { store, reopen } = await setUp(t);
        const moved = (second: number, ...rooms: string[]) => ticket({ ticketUpdatedAt: SECOND(second), rooms });
        const [a, b] = [only('queue:a').hearing, only('queue:b').hearing];
        const lists = async (on = store) => [await ticketsOf(on, a), await ticketsOf(on, b)];
        const steps = [
          moved(1, 'tenant:t1', 'queue:a'),
          moved(2, 'tenant:t1', 'queue:a', 'queue:b'),
          moved(3, 'tenant:t1', 'queue:b'),
        ] as const;
        await append(store, [steps[0]]);
        assert.deepEqual(await lists(), [[steps[0].payload], []]);
        await append(store, [steps[1]]);
        assert.deepEqual(await lists(), [[steps[1].payload], [steps[1].payload]]);
        await append(store, [steps[2]]);
        assert.deepEqual(await lists(), [[], [steps[2].payload]]);
        await append(store, [moved(1, 'tenant:t1', 'queue:a', 'queue:c')]);
        assert.deepEqual(await lists(), [[], [steps[2].payload]], 'an older update moves nothing');
        await store.trim({ ...KEEP, maxRecords: 0 });
        const again = engine.keeps ? (await reopen()).store : store;
        assert.deepEqual(await lists(again), [[], [steps[2].payload]]);
        const [back, away] = [moved(4, 'queue:a'), moved(5, 'queue:c')];
        await append(again, [back, away]);
        assert.deepEqual(await lists(again), [[], []]);
        assert.deepEqual(await ticketsOf(again, only('queue:c').hearing), [away.payload]);
      });

      it('by a room costs what it returns, in the order of the list', async (t) => {
        const { store } = await setUp(t);
        const events = Array.from({ length: 3_000 }, (_, n) =>
          ticket({
            ticketId: `k${n}`,
            ticketUpdatedAt: SECOND(n % 7),
            rooms: ['tenant:t1', n % 500 === 0 ? 'queue:few' : 'queue:most'],
          }),
        );
        for (let at = 0; at < events.length; at += 1_000) await append(store, events.slice(at, at + 1_000));
        const few = await store.tickets({ ...ALL_TICKETS, tenantId: 't1', ...only('queue:few') });
        const all = await pagesOf((page) => store.tickets({ ...ALL_TICKETS, tenantId: 't1', page }));
        const expected = new Set(payloadsOf(events.filter((_, n) => n % 500 === 0)));
        assert.equal(few.nextPage, null);
        assert.deepEqual(
          few.items,
          all.flat().filter((item) => expected.has(item)),
        );
        assert.equal(few.items.length, 6);
      });

      it('of a message follows the record that is shown', async (t) => {
        const { store } = await setUp(t);
        const [first, note] = [created({ messageId: 'm' }), updated({ messageId: 'm', rooms: ['queue:a'] })];
        await append(store, [first]);
        assert.deepEqual(await messagesOf(store, 'k1', only('ticket:k1').hearing), [first.payload]);
        await append(store, [note]);
        assert.deepEqual(await messagesOf(store, 'k1', only('ticket:k1').hearing), []);
        assert.deepEqual(await messagesOf(store, 'k1', only('queue:a').hearing), [note.payload]);
        const wide = updated({ messageId: 'm', messageUpdatedAt: SECOND(1) });
        await append(store, [wide]);
        assert.deepEqual(await messagesOf(store, 'k1', only('ticket:k1').hearing), [wide.payload]);
        assert.deepEqual(await messagesOf(store, 'k1', only('queue:a').hearing), []);
      });

      it('ends at the tenant', async (t) => {
        const { store } = await setUp(t, 'tenant');
        await append(store, [
          event('tickets.updated', { ...BASE, ticket: {}, tenantId: 't2', rooms: ['queue:a'] }, 'tenant'),
        ]);
        const own = event('tickets.updated', { ...BASE, ticket: {}, rooms: ['queue:a'] }, 'tenant');
        await append(store, [own]);
        assert.deepEqual(await ticketsOf(store, only('queue:a').hearing), [own.payload]);
      });
    });

    describe('the end of a ticket', () => {
      const everything = (ticketId: string, tenantId = 't1') => {
        const ids = { ticketId, tenantId };
        return [
          ticket({ ...ids, rooms: ['queue:a', 'user:u'] }),
          created({ ...ids, messageId: 'm', providerMessageId: 'p', rooms: ['queue:a'] }),
          updated({ ...ids, messageId: 'm' }),
          updated({ ...ids, messageId: 'pending', rooms: ['user:u'] }),
          created({ ...ids, messageId: 'gone' }),
          deleted({ ...ids, messageId: 'gone' }),
          declared({ ...ids, rooms: ['user:u'] }),
          declared({ ...ids, n: 1 }),
        ];
      };

      it('erases all that belongs to the ticket, whatever its rooms, and what others addressed to its room', async (t) => {
        const { store, reopen } = await setUp(t);
        const [gone, kept, foreign] = [everything('k1'), everything('k2'), everything('k1', 't2')];
        await append(store, [...gone, ...kept, ...foreign]);
        await append(store, [
          declared({ n: 2, rooms: ['ticket:k1', 'tenant:t1'] }),
          declared({ n: 3, tenantId: 't2', rooms: ['ticket:k1'] }),
        ]);
        const erased = await store.erase({ tenantId: 't1', ticketId: 'k1' });
        assert.equal(erased, gone.length + 1);
        const again = engine.keeps ? (await reopen()).store : store;
        assert.deepEqual(await messagesOf(again), []);
        assert.deepEqual((await ticketsOf(again, only('queue:a', 'user:u').hearing)).length, 1);
        assert.equal((await messagesOf(again, 'k2')).length, 1);
        assert.equal((await messagesOf(again, 'k1', HEARS_ALL, 't2')).length, 1);
        const all = await again.newest({
          audiences: everyRoom([...gone, ...kept, ...foreign]),
          limit: 1000,
          maxChars: 1e9,
        });
        assert.equal(all.records.length, kept.length + foreign.length + 1);
        for (const event of gone) assert.equal((await one(again, event)).duplicate, false, event.payload);
        assert.equal((await one(again, kept[2] as AppendEvent)).duplicate, true);
        assert.equal((await again.stats()).records, gone.length + kept.length + foreign.length + 1);
      });

      it('erases all of a tenant, whatever its rooms, also what only the state holds', async (t) => {
        const { store } = await setUp(t);
        const [gone, more, kept] = [everything('k1'), everything('k2'), everything('k1', 't2')];
        await append(store, [...gone, ...kept]);
        await append(store, [declared({ rooms: ['queue:a'] })]);
        await store.trim({ ...KEEP, maxRecords: 0 });
        await append(store, [...more, declared({ rooms: ['queue:a'], n: 1 })]);
        await store.erase({ tenantId: 't1', ticketId: null });
        assert.equal((await store.stats()).records, 0);
        assert.deepEqual(await ticketsOf(store), []);
        for (const ticketId of ['k1', 'k2']) assert.deepEqual(await messagesOf(store, ticketId), []);
        assert.equal((await messagesOf(store, 'k1', HEARS_ALL, 't2')).length, 1);
        for (const event of [...gone, ...more]) assert.equal((await one(store, event)).duplicate, false, event.payload);
        assert.equal((await one(store, kept[2] as AppendEvent)).duplicate, true);
      });

      it('erases a record that the state of another ticket shows', async (t) => {
        const { store } = await setUp(t);
        const rooms = ['ticket:k1', 'ticket:k2'];
        await append(store, [
          ticket({ ticketId: 'k2', rooms }),
          created({ ticketId: 'k2', messageId: 'm', rooms }),
          created({ ticketId: 'k2', messageId: 'n' }),
        ]);
        await append(store, [ticket({})]);
        assert.equal(await store.erase({ tenantId: 't1', ticketId: 'k1' }), 3);
        assert.deepEqual(await ticketsOf(store), []);
        assert.equal((await messagesOf(store, 'k2')).length, 1);
        const [next, edit] = [
          ticket({ ticketId: 'k2', ticketUpdatedAt: SECOND(1) }),
          updated({ ticketId: 'k2', messageId: 'm' }),
        ];
        await append(store, [next]);
        assert.deepEqual(await ticketsOf(store), [next.payload]);
        assert.ok(!(await one(store, edit)).rooms.includes('ticket:k1'));
      });

      it('expires messages, kept changes and tombstones with the state of their ticket', async (t) => {
        const { store } = await setUp(t);
        await append(store, everything('k1'));
        await append(store, [created({ ticketId: 'k2', messageId: 'm' })], NOW + DAY);
        await store.trim({ ...KEEP, maxRecords: 0, stateBeforeMs: NOW + 1, dedupeBeforeMs: NOW + 1 });
        assert.deepEqual(await ticketsOf(store, only('queue:a').hearing), []);
        assert.deepEqual(await messagesOf(store), []);
        assert.equal((await messagesOf(store, 'k2')).length, 1);
        for (const event of everything('k1')) assert.equal((await one(store, event, NOW + DAY)).duplicate, false);
        assert.equal((await messagesOf(store)).length, 1);
      });

      it('comes later with every change of a message', async (t) => {
        const { store } = await setUp(t);
        await append(store, [created({ messageId: 'm' })], NOW);
        const edit = updated({ messageId: 'm', rooms: ['queue:a'] });
        await append(store, [edit], NOW + DAY);
        await store.trim({ ...KEEP, stateBeforeMs: NOW + DAY });
        assert.deepEqual(await messagesOf(store), [edit.payload]);
      });
    });

    for (const seed of [1, 2, 3, 4, 5, 6]) {
      it(`agrees with a small model on random events (seed ${seed})`, async (t) => {
        const { store, tail, reopen } = await setUp(t);
        let current = { store, tail };
        const { pick, whole } = createRandom(seed);
        const random = (below: number): number => whole(0, below - 1);
        const model = createMessageModel();
        const kept = new Map<string, string>();
        const draw = (): AppendEvent => {
          const change = pick(['new', 'updated', 'updated', 'updated', 'deleted']);
          const [tenantId, ticketId] = [pick(['t1', 't1', 't2']), pick(['k1', 'k2'])];
          const messageId = pick([null, 'a', 'b', 'c', 'd', 'e']);
          const providerMessageId = pick(messageId === null ? ['a', 'b', 'c'] : [null, 'a', 'b', 'c', 'd']);
          const rooms = pick([[], [], [], ['queue:a'], ['user:u', 'queue:b'], [`tenant:${tenantId}`, 'ticket:k1']]);
          const fields = { ...BASE, tenantId, ticketId, ...(rooms.length > 0 ? { rooms } : {}) };
          const message = { n: random(4) };
          const messageUpdatedAt = SECOND(random(3));
          if (change === 'new') return created({ ...fields, messageId, providerMessageId, message });
          // Few, because a deletion ends a message's story.
          if (change === 'deleted') return deleted({ ...fields, messageId: pick(['d', 'e']), messageUpdatedAt });
          const messageStatus = pick([null, ...MESSAGE_STATUSES]);
          return updated({ ...fields, messageId, providerMessageId, message, messageUpdatedAt, messageStatus });
        };
        for (let round = 0; round < 60; round++) {
          const batches = Array.from({ length: 1 + random(4) }, () => Array.from({ length: 1 + random(4) }, draw));
          // Sent at once, in this order: an engine groups them as it likes.
          const results = await Promise.all(batches.map((batch) => outcome(current.store, request(batch))));
          for (const [index, batch] of batches.entries()) {
            for (const [at, event] of batch.entries()) {
              const expected = model.append(event);
              const { id, duplicate, rooms } = (results[index] as readonly AppendedEvent[])[at] as AppendedEvent;
              const context = `round ${round}: ${event.event} ${event.payload}`;
              assert.equal(duplicate, expected.duplicate, context);
              assert.deepEqual([...rooms].sort(), [...expected.rooms].sort(), context);
              assert.equal(kept.get(expected.id) ?? id, id, context);
              kept.set(expected.id, id);
            }
          }
          if (round % 12 === 5) {
            await current.store.trim({ ...KEEP, maxRecords: random(4) });
            if (engine.keeps && random(2) === 0) current = await reopen();
          }
          for (const [tenantId, ticketId] of [
            ['t1', 'k1'],
            ['t1', 'k2'],
            ['t2', 'k1'],
            ['t2', 'k2'],
          ] as const) {
            for (const hearing of [HEARS_ALL, only('queue:a', 'user:u').hearing]) {
              assert.deepEqual(
                await messagesOf(current.store, ticketId, hearing, tenantId),
                model.list(tenantId, ticketId, hearing),
                `round ${round}: ${tenantId} ${ticketId}`,
              );
            }
          }
        }
      });
    }
  });
}
