/** `createEmitter`: emits of one tick become records with the rooms that the application named (protocol §9). */
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, mock, test } from 'node:test';
import {
  createEmitter,
  createPublisher,
  type Emitter,
  type EmitterOptions,
  type Publisher,
} from '../../src/client/publisher.ts';
import { messageNew, startBridge, type TestBridge, ticketUpdated } from '../support/bridge.ts';

interface Entry {
  readonly event: string;
  readonly rooms: string[];
  readonly payload: Record<string, unknown>;
}

let bridge: TestBridge;
before(async () => {
  bridge = await startBridge({ extraEvents: ['leads.updated', 'notices.new'], roomKinds: ['queue'] });
});
after(() => bridge.close());

let tenants = 0;
let tenantId = '';
let publisher: Publisher;
let emitter: Emitter;
/** `code: event → rooms` of each failure. */
let failures: string[];
beforeEach(() => {
  tenantId = `emitter-${++tenants}`;
  publisher = createPublisher({ url: bridge.url });
  failures = [];
  emitter = open();
});

const open = (options: EmitterOptions = {}): Emitter =>
  createEmitter(publisher, {
    onError: ({ code }, { event, rooms }) => failures.push(`${code}: ${event} → ${rooms.join()}`),
    ...options,
  });

/** The log of the test's rooms. */
async function recordsOf(...rooms: readonly string[]): Promise<Entry[]> {
  await publisher.flush();
  const query = new URLSearchParams({ after: 'start', limit: '1000' });
  for (const room of rooms) query.append(`${room.split(':')[0]}Id`, room.slice(room.indexOf(':') + 1));
  const response = await fetch(`${bridge.url}/events?${query}`);
  const { events } = (await response.json()) as { events: Entry[] };
  return events;
}
const tenantRecords = () => recordsOf(`tenant:${tenantId}`);
const shown = (entries: readonly Entry[]): string[] => entries.map(({ event, rooms }) => `${event} → ${rooms.join()}`);

describe('emits of one tick', () => {
  test('of one event and payload become one record, with the rooms in the order of the emits', async () => {
    const payload = messageNew({ tenantId });
    emitter.emitToTicket(7, 'messages.new', payload);
    emitter.emitToTenant(tenantId, 'messages.new', { ...payload });
    emitter.to('queue:sales').to(['agreement:a', 'queue:sales']).in('agreement:b').emit('messages.new', payload);
    emitter.emitToAgreement('a', 'tickets.updated', ticketUpdated({ tenantId }));
    emitter.emitToUser('ana', 'tickets.updated', ticketUpdated({ tenantId }));
    const entries = await recordsOf(`tenant:${tenantId}`, 'agreement:a');
    assert.deepEqual(shown(entries.slice(-2)), [
      `messages.new → ticket:7,tenant:${tenantId},queue:sales,agreement:a,agreement:b`,
      'tickets.updated → agreement:a,user:ana',
    ]);
    assert.deepEqual(entries.at(-2)?.payload, payload);
    assert.deepEqual(failures, []);
  });

  test('stay one where the application awaits what has settled', async () => {
    const payload = { tenantId, n: 1 };
    emitter.emitToTenant(tenantId, 'leads.updated', payload);
    await Promise.resolve();
    await null;
    emitter.emitToTicket('x1', 'leads.updated', payload);
    assert.deepEqual(shown(await tenantRecords()), [`leads.updated → tenant:${tenantId},ticket:x1`]);
  });

  test('stay two where the payload changed meanwhile, and each has the payload as it was', async () => {
    const payload = { tenantId, n: 1 };
    emitter.emitToTenant(tenantId, 'leads.updated', payload);
    payload.n = 2;
    emitter.emitToTicket('x2', 'leads.updated', payload);
    emitter.emitToTenant(tenantId, 'leads.updated', payload);
    payload.n = 3;
    const entries = await tenantRecords();
    assert.deepEqual(
      entries.map(({ payload: { n }, rooms }) => [n, rooms.length]),
      [
        [1, 1],
        [2, 2],
      ],
    );
  });

  test('to the room that had it already are another record', async () => {
    emitter.emitToTenant(tenantId, 'notices.new', {});
    emitter.emitToTenant(tenantId, 'notices.new', {});
    emitter.emitToTicket('x3', 'notices.new', {});
    assert.deepEqual(shown(await tenantRecords()), [
      `notices.new → tenant:${tenantId}`,
      `notices.new → tenant:${tenantId},ticket:x3`,
    ]);
  });

  test('keep the order of the events in each room', async () => {
    const [a, b] = [
      { tenantId, is: 'a' },
      { tenantId, is: 'b' },
    ];
    const room = `tenant:${tenantId}`;
    emitter.to('queue:o').emit('notices.new', a);
    emitter.to(room).emit('notices.new', b);
    emitter.to([room, 'ticket:o']).emit('notices.new', a); // not before b
    assert.deepEqual(
      (await tenantRecords()).map(({ payload: { is }, rooms }) => [is, ...rooms]),
      [
        ['b', room],
        ['a', room, 'ticket:o'],
      ],
    );
  });

  test('to more than 100 rooms are several records', async () => {
    for (let n = 0; n < 150; n++) emitter.emitToTicket(`many-${n}`, 'notices.new', { tenantId });
    emitter.to(Array.from({ length: 150 }, (_, n) => `queue:many-${n}`)).emit('notices.new', { tenantId, all: true });
    const records = await recordsOf('ticket:many-0', 'ticket:many-149', 'queue:many-0', 'queue:many-149');
    assert.deepEqual(
      records.map(({ rooms }) => rooms.length),
      [100, 50, 100, 50],
    );
  });
});

describe('the tenant of a payload without one', () => {
  test('is that of a room, also of a later emit; else given with the emit, else the emitter’s', async () => {
    const own = open({ tenantId: (event, payload) => (event === 'notices.new' ? String(payload.of) : null) });
    own.emitToTicket('t-1', 'leads.updated', { tenantId: null });
    own.emitToTenant(tenantId, 'leads.updated', { tenantId: null });
    own.emitToTicket('t-2', 'leads.updated', { by: 'call' }, { tenantId });
    own.to('ticket:t-3', { tenantId }).to('queue:t').emit('leads.updated', { by: 'call' });
    own.emitToTicket('t-4', 'notices.new', { of: tenantId });
    own.emitToUser('u-1', 'leads.updated', { by: 'nobody' });
    await publisher.flush();
    assert.deepEqual(failures, ['unknown_tenant: leads.updated → user:u-1']);
    assert.deepEqual(shown(await tenantRecords()), [`leads.updated → ticket:t-1,tenant:${tenantId}`]);
    const others = await recordsOf('ticket:t-2', 'ticket:t-3', 'ticket:t-4');
    assert.deepEqual(shown(others), ['leads.updated → ticket:t-2,ticket:t-3,queue:t', 'notices.new → ticket:t-4']);
  });

  test('keeps tenants apart: a notice to all of them is a record for each', async () => {
    const [one, two] = [`${tenantId}-one`, `${tenantId}-two`];
    for (const tenant of [one, two]) emitter.emitToTenant(tenant, 'notices.new', { text: 'Maintenance' });
    emitter.to([`tenant:${one}`, `tenant:${two}`]).emit('notices.new', { text: 'Done' });
    for (const tenant of [one, two]) {
      assert.deepEqual(shown(await recordsOf(`tenant:${tenant}`)), Array(2).fill(`notices.new → tenant:${tenant}`));
    }
  });

  test('as a number is its text', async () => {
    const id = 9_000 + tenants;
    emitter.emitToTenant(id, 'notices.new', { tenantId: id });
    emitter.emitToTicket(id, 'notices.new', { tenantId: id });
    assert.deepEqual(shown(await recordsOf(`tenant:${id}`)), [`notices.new → tenant:${id},ticket:${id}`]);
  });

  test('one that differs from the room’s is refused, and the other rooms have the event', async () => {
    emitter.emitToTenant('another', 'notices.new', { tenantId });
    emitter.emitToTenant(tenantId, 'notices.new', { tenantId });
    assert.deepEqual(shown(await tenantRecords()), [`notices.new → tenant:${tenantId}`]);
    assert.deepEqual(failures, ['invalid_body: notices.new → tenant:another']);
  });
});

describe('what is not published', () => {
  test('legacy events; reported where their canonical event does not follow within 10 s', async (t) => {
    emitter.emitToTenant(tenantId, 'message:created', { id: 'm' });
    emitter.emitToTenant(tenantId, 'messages.new', messageNew({ tenantId }));
    emitter.emitToTenant(tenantId, 'ticket.message', {});
    assert.deepEqual(shown(await tenantRecords()), [`messages.new → tenant:${tenantId}`]);
    t.mock.timers.enable({ apis: ['setTimeout'] });
    for (let n = 0; n < 3; n++) emitter.emitToTenant(tenantId, 'message:updated', {});
    emitter.emitToTicket(7, 'ticket.updated', {});
    t.mock.timers.tick(9_000);
    emitter.emitToTicket(7, 'tickets.updated', ticketUpdated({ tenantId }));
    t.mock.timers.tick(1_000);
    t.mock.timers.reset();
    await publisher.flush();
    assert.deepEqual(failures, [`legacy_event: message:updated → tenant:${tenantId}`]);
  });

  test('to a room without an id; the others have the event', async () => {
    emitter.emitToTenant(tenantId, 'notices.new', { tenantId });
    for (const id of [undefined, null, '', 'a b']) emitter.emitToUser(id as string, 'notices.new', { tenantId });
    emitter.to('somewhere').emit('notices.new', { tenantId });
    emitter.to([]).emit('notices.new', { tenantId });
    assert.deepEqual(shown(await tenantRecords()), [`notices.new → tenant:${tenantId}`]);
    assert.deepEqual(
      failures,
      ['user:', 'user:', 'user:', 'user:a b', 'somewhere', ''].map((room) => `invalid_room: notices.new → ${room}`),
    );
  });

  test('what is no JSON object', async () => {
    const cycle: Record<string, unknown> = {};
    cycle.self = cycle;
    for (const payload of [undefined, null, 'text', ['a'], 1n, { n: 1n }, cycle, new Date()]) {
      emitter.emitToTenant(tenantId, 'notices.new', payload);
    }
    const { emit } = emitter.to(`tenant:${tenantId}`) as { emit(event: string, ...payloads: unknown[]): void };
    emit('notices.new', {}, () => {});
    emit('notices.new');
    assert.deepEqual(await tenantRecords(), []);
    assert.deepEqual(new Set(failures), new Set([`invalid_payload: notices.new → tenant:${tenantId}`]));
    assert.equal(failures.length, 10);
  });

  test('what the bridge refuses', async () => {
    emitter.emitToTenant(tenantId, 'nobody.declared', {});
    emitter.emitToTenant(tenantId, 'messages.new', { tenantId, id: 'bare' });
    emitter.to('team:7').emit('notices.new', { tenantId });
    await publisher.flush();
    assert.deepEqual(failures, [
      `unknown_event: nobody.declared → tenant:${tenantId}`,
      `invalid_payload: messages.new → tenant:${tenantId}`,
      'invalid_body: notices.new → team:7',
    ]);
  });

  test('a message that was published to other rooms before', async () => {
    const payload = messageNew({ tenantId });
    emitter.emitToTenant(tenantId, 'messages.new', payload);
    await publisher.flush();
    emitter.emitToTenant(tenantId, 'messages.new', payload);
    emitter.emitToTicket('late', 'messages.new', payload);
    await publisher.flush();
    assert.deepEqual(failures, ['other_rooms: messages.new → ticket:late']);
  });
});

test('without onError, failures are logged once a minute for each event and code', async () => {
  const log = mock.method(console, 'error', () => {});
  const silent = createEmitter(publisher);
  for (let n = 0; n < 3; n++) silent.emitToUser('', 'notices.new', {});
  silent.emitToTenant(tenantId, 'nobody.declared', {});
  await publisher.flush();
  log.mock.restore();
  const lines = log.mock.calls.map(({ arguments: [line] }) => String(line));
  assert.equal(lines.length, 2);
  assert.match(
    lines[0] ?? '',
    /^roomcast: "notices\.new" did not reach user:: invalid_room: It must be the name of a room/,
  );
  assert.match(lines[1] ?? '', /^roomcast: "nobody\.declared" did not reach tenant:emitter-\d+: unknown_event: /);
});

test('an unknown option throws', () => {
  const options = { tenant: 't1' } as EmitterOptions;
  assert.throws(() => createEmitter(publisher, options), { name: 'TypeError', message: /"tenant".*tenantId, onError/ });
});

test('close publishes what was emitted in the same tick', async () => {
  emitter.emitToTenant(tenantId, 'notices.new', {});
  const closed = publisher.close();
  emitter.emitToTenant(tenantId, 'notices.new', { late: true });
  await closed;
  assert.deepEqual(shown(await tenantRecords()), [`notices.new → tenant:${tenantId}`]);
  assert.deepEqual(failures, [`closed: notices.new → tenant:${tenantId}`]);
});

test('a bridge in the same process takes emits, too', async () => {
  const own = createEmitter(bridge, { onError: ({ code }) => failures.push(code) });
  own.emitToTenant(tenantId, 'notices.new', {});
  own.emitToTicket('in-process', 'notices.new', {});
  own.emitToTenant(tenantId, 'nobody.declared', {});
  await new Promise(setImmediate);
  await bridge.publish('notices.new', { tenantId });
  assert.deepEqual(shown(await tenantRecords()), [
    `notices.new → tenant:${tenantId},ticket:in-process`,
    `notices.new → tenant:${tenantId}`,
  ]);
  assert.deepEqual(failures, ['unknown_event']);
});
