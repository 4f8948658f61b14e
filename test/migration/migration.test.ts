/**
 * docs/migration.md, run: a small Express and Socket.IO application moves to the bridge by changing one file. The same
 * front ends, in the same rooms, hear the same events before and after; and afterwards none is lost. What front ends send to
 * each other passes, too.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, afterEach, before, describe, test } from 'node:test';
import { connect, type Signal } from '../../src/client/client.ts';
import { startCutProxy } from '../support/cut-proxy.ts';
import { type ServerProcess, startServer } from '../support/server.ts';
import { until } from '../support/until.ts';
import { type Heard, type HelpDesk, type Inbox, openInbox, SECRET, startHelpDesk, tokenFor } from './helpdesk.ts';

const page = readFileSync('docs/migration.md', 'utf8');

/** The code of the page's block that begins with this text. */
function blockOf(beginning: string): string {
  const at = page.indexOf(`\n${beginning}`);
  assert.notEqual(at, -1, `docs/migration.md has no block ${beginning}`);
  return page.slice(at + 1, page.indexOf('\n```', at) + 1);
}

/** The page's settings, with this test's key. */
const SETTINGS = Object.fromEntries(
  blockOf('AUTH_MODE=')
    .trim()
    .split('\n')
    .map((line) => line.split(' #')[0]?.trim().split(/=(.*)/) as [string, string]),
);

/** Who listens where. */
const LISTENERS = {
  ana: { sub: 'ana', tenantId: 't1', rooms: { tenant: 't1', user: 'ana', ticket: '7', agreement: 'a9' } },
  bia: { sub: 'bia', tenantId: 't1', rooms: { tenant: 't1', user: 'bia' } },
  customer: { sub: 'c1', tenantId: 't1', rooms: { ticket: '7' }, claims: { ticketIds: ['7'] } },
  board: { sub: 'tv', tenantId: 't1', rooms: { queue: 'sales' } },
  stranger: { sub: 'eve', tenantId: 't2', rooms: { tenant: 't2', user: 'eve' } },
} as const;
type Listener = keyof typeof LISTENERS;

interface Place {
  readonly desk: HelpDesk;
  /** Where the front ends connect. */
  readonly url: string;
  close(): Promise<unknown>;
}

async function startBefore(): Promise<Place> {
  const desk = await startHelpDesk();
  return { desk, url: desk.url, close: desk.close };
}

async function startAfter(): Promise<Place> {
  const bridge: ServerProcess = await startServer({
    ...SETTINGS,
    JWT_SECRET: SECRET,
    STORE_URL: 'sqlite::memory:',
    LOG_LEVEL: 'info',
  });
  const BRIDGE_TOKEN = await tokenFor('helpdesk', '*', { scope: 'publish' });
  const desk = await startHelpDesk(blockOf('// realtime.js: the only file that emits\nimport { createEmitter'), {
    BRIDGE_URL: bridge.url,
    BRIDGE_TOKEN,
  });
  return {
    desk,
    url: bridge.url,
    async close() {
      await desk.close();
      await bridge.end('SIGTERM');
    },
  };
}

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function listen(name: Listener, url: string): Promise<Inbox> {
  const { sub, tenantId, rooms, ...rest } = LISTENERS[name];
  const token = await tokenFor(sub, tenantId, 'claims' in rest ? rest.claims : {});
  const inbox = await openInbox({ url, token, rooms });
  closing.push(() => inbox.socket.disconnect());
  return inbox;
}

/** A day at the help desk. */
async function work({ desk }: Place): Promise<void> {
  const ana = await tokenFor('ana', 't1');
  const eve = await tokenFor('eve', 't2');
  await desk.call(ana, 'PUT', '/tickets/7', { subject: 'Boleto', queueId: 'sales', agreementId: 'a9', userId: 'ana' });
  await desk.call(ana, 'POST', '/tickets/7/messages', { id: 'm1', text: 'Olá' });
  await desk.call(ana, 'PUT', '/tickets/7/messages/m1/status', { status: 'DELIVERED' });
  await desk.call(ana, 'POST', '/tickets/7/notes', { text: 'Is late every month' });
  await desk.call(ana, 'PUT', '/tickets/7/messages/m1/status', { status: 'READ' });
  await desk.call(ana, 'PUT', '/tickets/7/assignment', { userId: 'bia', queueId: 'billing' });
  await desk.call(eve, 'PUT', '/tickets/8', { subject: 'Another tenant' });
  await desk.call(ana, 'PUT', '/tickets/7', { subject: 'Done', queueId: 'sales', agreementId: 'a9', userId: 'bia' });
  await desk.call(ana, 'PUT', '/tickets/7/assignment', { userId: 'ana', queueId: 'billing' });
}

/** The last events that each listener hears of {@link work}. */
const isLast: Readonly<Record<Listener, (heard: readonly Heard[]) => boolean>> = {
  ana: (heard) => heard.some(({ event }) => event === 'tickets.assigned'),
  bia: (heard) => hasSubject(heard, 'Done'),
  customer: (heard) => hasSubject(heard, 'Done'),
  board: (heard) => heard.filter(({ event }) => event === 'queues.changed').length >= 2,
  stranger: (heard) => hasSubject(heard, 'Another tenant'),
};

function hasSubject(heard: readonly Heard[], subject: string): boolean {
  return heard.some(({ event, payload }) => event === 'tickets.updated' && subjectOf(payload) === subject);
}
const subjectOf = ({ ticket }: Heard['payload']): unknown => (ticket as { subject?: string }).subject;

async function hear(place: Place): Promise<Record<Listener, Heard[]>> {
  const inboxes = {} as Record<Listener, Inbox>;
  for (const name of Object.keys(LISTENERS) as Listener[]) inboxes[name] = await listen(name, place.url);
  await work(place);
  for (const [name, { heard, socket }] of Object.entries(inboxes) as [Listener, Inbox][]) {
    await until(`${name} has heard all: ${place.desk.output()}`, () => isLast[name](heard));
    // What should not have come would have come before the answer to this.
    await socket.emitWithAck('join-ticket', 'none').catch(() => {});
  }
  const entries = Object.entries(inboxes).map(([name, { heard }]) => [name, heard.map(withoutInstants)]);
  return Object.fromEntries(entries) as Record<Listener, Heard[]>;
}

/** The two days differ in the time only. */
const withoutInstants = (heard: Heard): Heard =>
  JSON.parse(JSON.stringify(heard).replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'an instant')) as Heard;

const LEGACY = ['ticket.updated', 'ticket.message', 'ticket.message.created', 'message:created', 'message:updated'];

/** A front end in several of an event's rooms got it from the old server once for each. */
function onceEach(heard: readonly Heard[]): Heard[] {
  return [...new Set(heard.map((one) => JSON.stringify(one)))].map((text) => JSON.parse(text) as Heard);
}

const named = (heard: readonly Heard[], name: string): Heard['payload'][] =>
  heard.filter(({ event }) => event === name).map(({ payload }) => payload);

/** The application as it is, and moved. */
let old: Place;
let moved: Place;
before(async () => {
  [old, moved] = await Promise.all([startBefore(), startAfter()]);
});
after(async () => {
  await Promise.all([old.close(), moved.close()]);
});

describe('the same front ends, before and after', () => {
  let was: Record<Listener, Heard[]>;
  let is: Record<Listener, Heard[]>;
  before(async () => {
    [was, is] = await Promise.all([hear(old), hear(moved)]);
  });

  for (const name of Object.keys(LISTENERS) as Listener[]) {
    test(`${name} hears the same events, in the same order, each once`, () => {
      const isCurrent = ({ event }: Heard): boolean => !LEGACY.includes(event);
      const [before, after] = [onceEach(was[name]), is[name]];
      assert.ok(after.length > 0);
      assert.deepEqual(after.filter(isCurrent).map(withoutAdded), before.filter(isCurrent));
      // The bridge's legacy payloads have the envelope's fields, too (protocol §4).
      for (const event of LEGACY) {
        const [old, now] = [named(before, event), named(after, event)];
        assert.deepEqual(
          now.map((payload, index) => ({ ...payload, ...old[index] })),
          now,
          event,
        );
        assert.equal(now.length, old.length, event);
      }
    });
  }

  test('a copy for one user is his alone', () => {
    const hearers = Object.entries(is).filter(([, heard]) => named(heard, 'tickets.assigned').length > 0);
    assert.deepEqual(
      hearers.map(([name]) => name),
      ['ana', 'bia'],
    );
    assert.deepEqual(named(is.bia, 'tickets.assigned').length, 1);
  });

  test('the customer hears no note, and nothing of the queues', () => {
    assert.deepEqual(named(is.customer, 'tickets.noted'), []);
    assert.deepEqual(named(is.customer, 'queues.changed'), []);
    assert.equal(named(is.bia, 'tickets.noted').length, 1);
  });

  test('no emit failed', () => {
    for (const { desk } of [old, moved]) assert.equal(desk.output().trim(), desk.url);
  });
});

/** What the moved realtime.js adds to an update of a message. */
function withoutAdded({ event, payload }: Heard): Heard {
  const { messageUpdatedAt: _at, messageStatus: _status, ...rest } = payload;
  return { event, payload: event === 'messages.updated' ? rest : payload };
}

/** A front end loses its connection for a while, and a message arrives meanwhile. */
async function hearAcrossAnOutage(place: Place): Promise<unknown[]> {
  const proxy = await startCutProxy(place.url);
  closing.push(proxy.close);
  const bia = await listen('bia', proxy.url);
  const ana = await tokenFor('ana', 't1');
  const say = (id: string) => place.desk.call(ana, 'POST', '/tickets/9/messages', { id });
  const ids = () => named(bia.heard, 'messages.new').map(({ messageId }) => messageId);
  await place.desk.call(ana, 'PUT', '/tickets/9', { subject: 'Outage' });
  await say('first');
  await until('the first is there', () => ids().includes('first'));
  proxy.refuse();
  await until('it is cut off', () => !bia.socket.connected);
  await say('missed');
  proxy.restore();
  await until('it is back', () => bia.socket.connected);
  await bia.socket.emitWithAck('join-tenant', 't1');
  await say('last');
  await until('the last is there', () => ids().includes('last'));
  return ids();
}

describe('a message while the front end has no connection', () => {
  test('was lost before', async () => {
    assert.deepEqual(await hearAcrossAnOutage(old), ['first', 'last']);
  });

  test('arrives afterwards, in order', async () => {
    assert.deepEqual(await hearAcrossAnOutage(moved), ['first', 'missed', 'last']);
  });
});

describe('an agent types', () => {
  /** Ana types in ticket 7, in front of the customer, a second tab of hers and another tenant's ticket of that id. */
  async function hearTyping(place: Place): Promise<Record<'ana' | 'tab' | 'customer' | 'stranger', Inbox>> {
    const [ana, tab, customer] = [
      await listen('ana', place.url),
      await listen('ana', place.url),
      await listen('customer', place.url),
    ];
    const stranger = await listen('stranger', place.url);
    await stranger.socket.emitWithAck('join-ticket', '7');
    ana.socket.emit('ticket:typing', { ticketId: '7', timestamp: 1 });
    for (const { heard } of [tab, customer]) await until('typing is heard', () => typingIn(heard).length > 0);
    // What should not have come would have come before the answer to this.
    for (const { socket } of [ana, stranger]) await socket.emitWithAck('join-ticket', 'none').catch(() => {});
    return { ana, tab, customer, stranger };
  }
  const typingIn = (heard: readonly Heard[]): Heard['payload'][] => named(heard, 'ticket:typing');

  test('was heard by all in the room, the sender too', async () => {
    const { ana, tab, customer } = await hearTyping(old);
    for (const { heard } of [ana, tab, customer]) assert.deepEqual(typingIn(heard), [{ ticketId: '7', timestamp: 1 }]);
  });

  test('is heard by the others in the room, and tells who it is', async () => {
    const { ana, tab, customer, stranger } = await hearTyping(moved);
    const added = { room: 'ticket:7', from: 'ana', sender: ana.socket.id, ttlSeconds: 10 };
    for (const { heard } of [tab, customer]) {
      assert.deepEqual(typingIn(heard), [{ ticketId: '7', timestamp: 1, ...added }]);
    }
    assert.deepEqual(
      [ana, stranger].map(({ heard }) => typingIn(heard)),
      [[], []],
    );
  });

  test('names that others could believe do not pass as `from`; what the front end adds does', async () => {
    const [ana, customer] = [await listen('ana', moved.url), await listen('customer', moved.url)];
    const typing = { ticketId: '7', userName: 'Ana', from: 'bia', sender: 'bia', room: 'tenant:t1', ttlSeconds: 120 };
    ana.socket.emit('ticket:typing', typing);
    const heard = () => typingIn(customer.heard).find(({ userName }) => userName === 'Ana');
    await until('typing is heard', () => heard() !== undefined);
    const added = { room: 'ticket:7', from: 'ana', sender: ana.socket.id, ttlSeconds: 10 };
    assert.deepEqual(heard(), { ticketId: '7', userName: 'Ana', ...added });
  });

  test('who joins meanwhile gets it, with the seconds that are left', async () => {
    const ana = await listen('ana', moved.url);
    await ana.socket.emitWithAck('ticket:typing', { ticketId: '11', timestamp: 1 });
    const bia = await listen('bia', moved.url);
    await bia.socket.emitWithAck('join-ticket', '11');
    await until('typing is heard', () => typingIn(bia.heard).length > 0);
    const [{ ttlSeconds, ...rest }] = typingIn(bia.heard) as [Heard['payload']];
    assert.deepEqual(rest, { ticketId: '11', timestamp: 1, room: 'ticket:11', from: 'ana', sender: ana.socket.id });
    assert.ok(Number(ttlSeconds) >= 1 && Number(ttlSeconds) <= 10);
  });

  type Signals = { 'ticket:typing': Signal<{ ticketId: string; timestamp?: number }> };

  test('a front end with the client library and an old one see each other', async () => {
    const token = await tokenFor('ana', 't1');
    const live = connect<Signals>({ url: moved.url, token, rooms: { ticketId: '12' } });
    closing.push(() => live.close());
    const bia = await listen('bia', moved.url);
    await bia.socket.emitWithAck('join-ticket', '12');
    await live.signal('ticket:typing', { ticketId: '12' }, { ticketId: '12' });
    await until('the old one hears the new one', () => typingIn(bia.heard).length > 0);
    const [{ sender: _, ...heard }] = typingIn(bia.heard) as [Heard['payload']];
    assert.deepEqual(heard, { ticketId: '12', room: 'ticket:12', from: 'ana', ttlSeconds: 10 });

    bia.socket.emit('ticket:typing', { ticketId: '12', timestamp: 1 });
    await until('the new one hears the old one', () => live.signals({ ticketId: '12' }).length > 0);
    const [{ expiresAt: __, ...active } = {}] = live.signals({ ticketId: '12' });
    const names = { event: 'ticket:typing', room: 'ticket:12', from: 'bia', sender: bia.socket.id };
    assert.deepEqual(active, { ...names, payload: { ticketId: '12', timestamp: 1 } });
  });

  test('a customer may not signal in a ticket that it may not hear', async () => {
    const customer = await listen('customer', moved.url);
    const faults: { readonly code: string; readonly room: string }[] = [];
    customer.socket.on('bridge.error', (fault) => faults.push(fault));
    customer.socket.emit('ticket:typing', { ticketId: '8' });
    await until('it is refused', () => faults.length > 0);
    assert.deepEqual(
      faults.map(({ code, room }) => ({ code, room })),
      [{ code: 'forbidden', room: 'ticket:8' }],
    );
  });
});

test('the page shows the application as it is', () => {
  assert.equal(
    readFileSync('test/migration/helpdesk/realtime.js', 'utf8'),
    blockOf('// realtime.js: the only file that emits\nimport { Server }'),
  );
});
