/**
 * `share: true` in Node, where each client in the process is a tab: it has its own stream and locks, and speaks with the
 * others over a BroadcastChannel as tabs do. What only a browser has (hidden, frozen and crashed tabs) is in tabs.test.ts.
 */
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { SignJWT } from 'jose';
import {
  type ConnectOptions,
  connect,
  type Live,
  type Meta,
  type RoomcastEvents,
  type Signal,
} from '../../src/client/client.ts';
import type { Config } from '../../src/config.ts';
import { messageNew, metric, startBridge, type TestBridge, ticketUpdated } from '../support/bridge.ts';
import { startCutProxy } from '../support/cut-proxy.ts';
import { startObstacle } from '../support/obstacles.ts';
import { keepPublishing, type Publishing } from '../support/publishing.ts';
import { until } from '../support/until.ts';

type Events = RoomcastEvents & {
  'leads.updated': object;
  'tickets.viewing': Signal;
};

const SECRET = 'a secret that is long enough for HS256';

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function start(config: Partial<Config> = {}): Promise<TestBridge> {
  const bridge = await startBridge({ heartbeatMs: 250, retryMs: 20, drainMs: 200, ...config });
  closing.push(bridge.close);
  return bridge;
}

interface Tab {
  readonly live: Live<Events>;
  readonly heard: string[];
  readonly resets: string[];
  /** The transports that were live, one after the other. */
  readonly transports: string[];
  readonly states: string[];
}

function open(options: ConnectOptions): Tab {
  const live = connect<Events>({ heartbeatMs: 250, patienceMs: 1000, share: true, ...options });
  closing.push(live.close);
  const tab: Tab = { live, heard: [], resets: [], transports: [], states: [] };
  for (const event of ['messages.new', 'tickets.updated', 'leads.updated'] as const) {
    live.on(event, (_payload: object, { cursor }: Meta) => tab.heard.push(cursor));
  }
  live.on('reset', ({ reason }) => tab.resets.push(reason));
  live.on('status', ({ state, transport }) => {
    tab.states.push(state);
    if (transport !== null) tab.transports.push(transport);
  });
  return tab;
}

const allLive = (tabs: readonly Tab[]): Promise<void> =>
  until('all are live', () => tabs.every(({ live }) => live.status.state === 'live'));

async function connections(bridge: TestBridge): Promise<number> {
  let sum = 0;
  for (const transport of ['websocket', 'sse', 'longpoll']) {
    sum += await metric(bridge, `roomcast_connections{transport="${transport}"}`);
  }
  return sum;
}

const oneConnection = (bridge: TestBridge): Promise<void> =>
  until('one connection', async () => (await connections(bridge)) === 1);

function publishOn(bridge: TestBridge, payload: () => object = messageNew): Publishing {
  const publishing = keepPublishing(async () => (await bridge.publish('messages.new', payload() as never)).id);
  closing.push(publishing.stop);
  return publishing;
}

async function heardExactly(tabs: readonly Tab[], published: readonly string[]): Promise<void> {
  for (const { heard } of tabs) {
    await until('all heard', () => heard.length >= published.length);
    assert.deepEqual(heard, published);
  }
}

const tokenOf = (claims: object, seconds = 3600): Promise<string> =>
  new SignJWT({ scope: 'subscribe signal', ...claims })
    .setProtectedHeader({ alg: 'HS256' })
    .setIssuedAt()
    .setJti(String(Math.random()))
    .setExpirationTime(Math.floor(Date.now() / 1000) + seconds)
    .sign(new TextEncoder().encode(SECRET));

for (const transport of ['websocket', 'sse', 'poll'] as const) {
  describe(`over ${transport}`, () => {
    test('tabs have one connection, and hear all in order, once, while leaders close at full speed', async () => {
      const bridge = await start();
      const options = { url: bridge.url, rooms: { tenantId: 'tenant-1' }, transports: [transport] };
      const tabs = Array.from({ length: 6 }, () => open(options));
      await allLive(tabs);
      await oneConnection(bridge);
      const publishing = publishOn(bridge);
      for (let closed = 0; closed < 3; closed++) {
        const before = publishing.published.length;
        await until('some were published', () => publishing.published.length > before + 100);
        const [leader] = tabs as [Tab];
        tabs.shift();
        leader.live.close();
        await until('the others heard it', () =>
          tabs.every(({ heard }) => heard.length >= publishing.published.length - 100),
        );
      }
      const published = await publishing.stop();
      await heardExactly(tabs, published);
      await allLive(tabs);
      await oneConnection(bridge);
      for (const { transports } of tabs) assert.deepEqual([...new Set(transports)], [transport]);
    });

    test('a log that was lost causes one reset in each tab', async () => {
      const lost = await start();
      const between = await startObstacle(lost.url);
      closing.push(between.close);
      const options = { url: between.url, rooms: { tenantId: 'tenant-1' }, transports: [transport] };
      const tabs = Array.from({ length: 3 }, () => open(options));
      await allLive(tabs);
      await lost.publish('messages.new', messageNew());
      await until('heard', () => tabs.every(({ heard }) => heard.length === 1));
      const fresh = await start();
      between.retarget(fresh.url);
      between.cut();
      await until('a reset', () => tabs.every(({ resets }) => resets.length > 0), 30_000);
      await allLive(tabs);
      const { id } = await fresh.publish('messages.new', messageNew());
      await until('heard', () => tabs.every(({ heard }) => heard.at(-1) === id));
      for (const { heard, resets } of tabs) {
        assert.equal(heard.length, 2);
        assert.deepEqual(resets, ['unknown']);
      }
    });

    test('a look at one tab finds a dead connection, which no tab would miss before its heartbeat, and replaces it', async () => {
      const bridge = await start({ heartbeatMs: 60_000 });
      const proxy = await startCutProxy(bridge.url);
      closing.push(proxy.close);
      const options = { url: proxy.url, rooms: { tenantId: 'tenant-1' }, transports: [transport], heartbeatMs: 60_000 };
      const tabs = [open(options), open(options), open(options)];
      await allLive(tabs);
      await oneConnection(bridge);
      // Those that are open bring nothing more.
      proxy.loseDownstream();
      const published = [(await bridge.publish('messages.new', messageNew())).id];
      const looked = tabs[2] as Tab;
      looked.live.wake();
      await heardExactly([looked], published);
      await heardExactly(tabs, published);
      published.push((await bridge.publish('messages.new', messageNew())).id);
      await heardExactly(tabs, published);
    });

    test('a look at one tab, where nothing is wrong, leaves the leader as it is', async () => {
      const bridge = await start();
      const between = await startObstacle(bridge.url);
      closing.push(between.close);
      const options = { url: between.url, rooms: { tenantId: 'tenant-1' }, transports: [transport] };
      const tabs = [open(options), open(options)] as [Tab, Tab];
      await allLive(tabs);
      await oneConnection(bridge);
      const states = tabs.map((tab) => tab.states.length);
      for (const { live } of tabs) {
        const asked = between.seen.length;
        live.wake();
        await until('it has looked', () => between.seen.length > asked);
        await heardExactly(tabs, [...tabs[0].heard, (await bridge.publish('messages.new', messageNew())).id]);
      }
      assert.deepEqual(
        tabs.map((tab) => tab.states.slice(states.shift())),
        [[], []],
      );
    });

    test('signals of another tab are heard, own ones are not, and an end is heard by all', async () => {
      const bridge = await start({ signals: ['tickets.viewing'] });
      const options = { url: bridge.url, rooms: { ticketId: 'ticket-1' }, transports: [transport] };
      const [one, other] = [open(options), open(options)];
      await allLive([one, other]);
      const stops = [one, other].map(({ live }) => live.keep('tickets.viewing', 'ticket:ticket-1'));
      for (const { live } of [one, other]) await until('the other', () => live.signals().length === 1);
      const late = open(options);
      await until('both', () => late.live.signals().length === 2);
      for (const stop of stops) stop();
      for (const { live } of [one, other, late]) await until('none', () => live.signals().length === 0);
    });
  });
}

test('a tab hears only what concerns its own rooms, and a room that nobody has any more is left', async () => {
  const bridge = await start({ roomKinds: ['queue'], extraEvents: ['leads.updated'] });
  const rooms = [{ tenantId: 't1' }, { ticketId: '7' }, { userId: 'ana' }, { queueId: ['a', 'b'] }, { tenantId: 't2' }];
  const tabs = rooms.map((of) => open({ url: bridge.url, rooms: of as object }));
  await allLive(tabs);
  const expected: string[][] = rooms.map(() => []);
  const publish = async (event: string, payload: object, hearers: number[], beside?: readonly string[]) => {
    const named = beside === undefined ? {} : { rooms: beside };
    const { status, body } = await bridge.post({ event, payload, ...named });
    assert.equal(status, 201, JSON.stringify(body));
    for (const hearer of hearers) expected[hearer]?.push(body.id);
  };
  const other = { tenantId: 't3', ticketId: 'other', agreementId: null };
  await publish('tickets.updated', ticketUpdated({ ...other, tenantId: 't1' }), [0]);
  await publish('tickets.updated', ticketUpdated({ ...other, ticketId: 7 }), [1]);
  // In a canonical event, `userId` is no address.
  await publish('tickets.updated', ticketUpdated({ ...other, userId: 'ana' }), []);
  await publish('leads.updated', { tenantId: 't2', userId: 'ana' }, [2, 4]);
  await publish('messages.new', messageNew({ ...other, queueId: 'b', ticketId: 7 }), [1, 3]);
  // Only the bridge knows who hears these.
  await publish('messages.new', messageNew({ ...other, tenantId: 't1', ticketId: 7 }), [2], ['user:ana']);
  await publish('messages.new', messageNew({ ...other, tenantId: 't1' }), [0, 3], ['tenant:t1', 'queue:a', 'queue:b']);
  await publish('messages.new', messageNew({ ...other, tenantId: 't1', ticketId: 7 }), [0, 1]);
  for (const [index, { heard }] of tabs.entries()) {
    await until('heard', () => heard.length >= (expected[index] as string[]).length);
    assert.deepEqual(heard, expected[index]);
  }
  await oneConnection(bridge);
  const roomsAtBridge = async (): Promise<string[]> => {
    const response = await fetch(`${bridge.url}/connections`);
    const { items } = (await response.json()) as { items: { rooms: string[] }[] };
    return items.flatMap((item) => item.rooms).sort();
  };
  assert.deepEqual(await roomsAtBridge(), ['queue:a', 'queue:b', 'tenant:t1', 'tenant:t2', 'ticket:7', 'user:ana']);
  (tabs[3] as Tab).live.close();
  await (tabs[4] as Tab).live.leave({ tenantId: 't2' });
  await until('left', async () => (await roomsAtBridge()).join() === 'tenant:t1,ticket:7,user:ana');
});

for (const transports of [['websocket'], ['sse'], ['poll']] as const) {
  test(`named audiences at full speed over ${transports}: each tab hears its own, in order`, async () => {
    const bridge = await start();
    const rooms = [{ tenantId: 'tenant-1' }, { userId: 'ana' }, { userId: 'bob' }, { ticketId: 'ticket-123' }];
    const names = ['tenant:tenant-1', 'user:ana', 'user:bob', 'ticket:ticket-123'];
    const tabs = rooms.map((of) => open({ url: bridge.url, rooms: of as object, transports }));
    await allLive(tabs);
    const expected: string[][] = rooms.map(() => []);
    for (let count = 0; count < 100; count++) {
      const hearers = names.filter((_, index) => (count >> index) % 2 === 1);
      const named = count % 16 > 0 && count % 5 > 0 ? { rooms: hearers } : {};
      const { body } = await bridge.post({ event: 'messages.new', payload: messageNew(), ...named });
      for (const room of body.rooms) expected[names.indexOf(room)]?.push(body.id);
    }
    for (const [index, { heard }] of tabs.entries()) {
      await until('heard', () => heard.length >= (expected[index] as string[]).length);
      assert.deepEqual(heard, expected[index]);
    }
  });
}

test('two users, and one user in two tenants, never share: a room of the same name is another room', async () => {
  const bridge = await start({ authMode: 'jwt', jwtSecret: SECRET });
  const claims = [
    { tenantId: 't1', sub: 'ana' },
    { tenantId: 't1', sub: 'ana' },
    { tenantId: 't2', sub: 'ana' },
    { tenantId: 't1', sub: 'bob' },
  ];
  const tabs = claims.map((of) => open({ url: bridge.url, rooms: { ticketId: '7' }, token: () => tokenOf(of) }));
  await allLive(tabs);
  await until('three', async () => (await connections(bridge)) === 3);
  const { id: one } = await bridge.publish('messages.new', messageNew({ tenantId: 't1', ticketId: 7 }));
  const { id: two } = await bridge.publish('messages.new', messageNew({ tenantId: 't2', ticketId: 7 }));
  for (const { heard } of tabs) await until('heard', () => heard.length > 0);
  assert.deepEqual(
    tabs.map(({ heard }) => heard),
    [[one], [one], [two], [one]],
  );
});

test('tokens of the leader that expire or fail keep nobody deaf', async () => {
  const bridge = await start({ authMode: 'jwt', jwtSecret: SECRET });
  let isBroken = false;
  const leaders = async (): Promise<string> => {
    if (isBroken) throw new Error('no session');
    return tokenOf({ tenantId: 'tenant-1', sub: 'ana' }, 2);
  };
  const options = { url: bridge.url, rooms: { tenantId: 'tenant-1' } };
  const leader = open({ ...options, token: leaders });
  await allLive([leader]);
  const tabs = [1, 2].map(() => open({ ...options, token: () => tokenOf({ tenantId: 'tenant-1', sub: 'ana' }) }));
  await allLive(tabs);
  await oneConnection(bridge);
  const publishing = publishOn(bridge);
  isBroken = true;
  // The token of its connection is refused, and there is no other.
  await until(
    'another leads',
    () => tabs.every(({ live, transports }) => transports.length > 1 && live.status.state === 'live'),
    30_000,
  );
  const published = await publishing.stop();
  await heardExactly(tabs, published);
  isBroken = false;
  await heardExactly([leader], published);
});

test('a user who may no longer listen: each tab is told at once', async () => {
  const bridge = await start({ authMode: 'jwt', jwtSecret: SECRET });
  const tabs: Tab[] = [];
  for (let tab = 0; tab < 4; tab++) {
    const token = await tokenOf({ tenantId: 'tenant-1', sub: 'ana' });
    tabs.push(open({ url: bridge.url, rooms: { tenantId: 'tenant-1' }, token }));
  }
  await allLive(tabs);
  await oneConnection(bridge);
  const response = await fetch(`${bridge.url}/revocations`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${await tokenOf({ tenantId: '*', scope: 'admin' })}`,
      'content-type': 'application/json',
    },
    body: JSON.stringify({ sub: 'ana' }),
  });
  assert.equal(response.status, 201);
  for (const { live } of tabs) {
    await until('closed', () => live.status.state === 'closed');
    assert.equal(live.status.error?.code, 'token_revoked');
  }
});

for (const who of ['the leader', 'a member']) {
  test(`${who} whose user changes leaves the group, and hears with the new token only`, async () => {
    const bridge = await start({ authMode: 'jwt', jwtSecret: SECRET });
    let sub = 'ana';
    const changing = (): Promise<string> => tokenOf({ tenantId: sub === 'ana' ? 't1' : 't2', sub }, 2);
    const lasting = (): Promise<string> => tokenOf({ tenantId: 't1', sub: 'ana' });
    const opened: Tab[] = [];
    for (const token of who === 'the leader' ? [changing, lasting] : [lasting, changing]) {
      opened.push(open({ url: bridge.url, rooms: { ticketId: '7' }, token }));
      await allLive(opened);
    }
    const [tab, other] = (who === 'the leader' ? opened : opened.reverse()) as [Tab, Tab];
    await oneConnection(bridge);
    sub = 'bob';
    await until('two groups', async () => (await connections(bridge)) === 2, 30_000);
    await allLive([tab, other]);
    const { id: one } = await bridge.publish('messages.new', messageNew({ tenantId: 't1', ticketId: 7 }));
    const { id: two } = await bridge.publish('messages.new', messageNew({ tenantId: 't2', ticketId: 7 }));
    await until('heard', () => tab.heard.length > 0 && other.heard.length > 0);
    assert.deepEqual([tab.heard, other.heard], [[two], [one]]);
  });
}

test('rooms beyond the limit of one connection: the tab that has them gets its own', async () => {
  const bridge = await start({ maxRooms: 10 });
  const tickets = (tab: number): string[] => Array.from({ length: 4 }, (_, n) => `${tab}-${n}`);
  const tabs: Tab[] = [];
  for (let tab = 0; tab < 4; tab++) {
    tabs.push(open({ url: bridge.url, rooms: { ticketId: tickets(tab) } }));
    await allLive(tabs);
  }
  await allLive(tabs);
  const published: string[][] = [[], [], [], []];
  for (let count = 0; count < 40; count++) {
    const tab = count % 4;
    const ticketId = tickets(tab)[count % 3] as string;
    published[tab]?.push((await bridge.publish('messages.new', messageNew({ ticketId, agreementId: null }))).id);
  }
  for (const [tab, of] of tabs.entries()) await heardExactly([of], published[tab] as string[]);
  for (const { live } of tabs) assert.equal(live.status.state, 'live');
  const sharing = async (most: number): Promise<void> =>
    until(`${most} connections`, async () => (await connections(bridge)) === most);
  await sharing(3);
  // The next leader finds the limit out anew.
  tabs.shift()?.live.close();
  await sharing(2);
  await allLive(tabs);
});

test('a slow `for await` in one tab, also in that of the leader, holds up no other', async () => {
  const bridge = await start();
  const options = { url: bridge.url, rooms: { tenantId: 'tenant-1' } };
  const tabs = [open(options), open(options), open(options)];
  await allLive(tabs);
  const [leader, slow, quick] = tabs as [Tab, Tab, Tab];
  const taken: string[][] = [[], []];
  let release = (): void => {};
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  for (const [index, { live }] of [leader, slow].entries()) {
    void (async () => {
      for await (const { cursor } of live) {
        taken[index]?.push(cursor);
        await released;
      }
    })();
  }
  const publishing = publishOn(bridge);
  await until('more than a loop takes', () => quick.heard.length > 3000, 30_000);
  const published = await publishing.stop();
  await heardExactly([quick], published);
  assert.ok(slow.heard.length < 3000 && leader.heard.length < 3000);
  release();
  for (const list of taken) {
    await until('taken', () => list.length >= published.length);
    assert.deepEqual(list, published);
  }
  await allLive(tabs);
});

test('rooms are joined with their history and left, in one tab of several', async () => {
  const bridge = await start();
  const ticket = (ticketId: string): Promise<{ id: string }> =>
    bridge.publish('messages.new', messageNew({ ticketId, agreementId: null }));
  const history = [(await ticket('a')).id, (await ticket('a')).id];
  const tabs = [0, 1].map(() => open({ url: bridge.url, rooms: { ticketId: 'b' } }));
  const [one, other] = tabs as [Tab, Tab];
  await allLive(tabs);
  await one.live.join({ ticketId: 'a' }, { after: 'start' });
  assert.deepEqual(one.heard, history);
  const both = (await ticket('b')).id;
  history.push(both, (await ticket('a')).id);
  await heardExactly([one], history);
  assert.deepEqual(other.heard, [both]);
  assert.deepEqual(new Set(one.states.slice(one.states.indexOf('live'))), new Set(['live']), 'a join is no reconnect');
  await one.live.leave({ ticketId: 'a' });
  await ticket('a');
  const last = (await ticket('b')).id;
  await until('heard', () => one.heard.at(-1) === last && other.heard.at(-1) === last);
  assert.deepEqual(
    [one.heard, other.heard],
    [
      [...history, last],
      [both, last],
    ],
  );
});

describe('where tabs cannot share', () => {
  for (const [name, missing] of [
    ['there is no BroadcastChannel', { BroadcastChannel: undefined }],
    [
      'BroadcastChannel throws',
      {
        BroadcastChannel: class {
          constructor() {
            throw new Error('SecurityError');
          }
        },
      },
    ],
    ['there are no Web Locks', { navigator: {} }],
    ['locks are refused', { navigator: { locks: { request: () => Promise.reject(new Error('SecurityError')) } } }],
    ['the context is insecure', { crypto: {} }],
  ] as const) {
    test(`${name}: each has its own connection, and hears the same`, async () => {
      const before = Object.keys(missing).map(
        (key) => [key, Object.getOwnPropertyDescriptor(globalThis, key)] as const,
      );
      for (const [key, value] of Object.entries(missing)) {
        Object.defineProperty(globalThis, key, { configurable: true, value });
      }
      try {
        const bridge = await start();
        const tabs = [0, 1].map(() => open({ url: bridge.url, rooms: { tenantId: 'tenant-1' } }));
        await allLive(tabs);
        await until('two', async () => (await connections(bridge)) === 2);
        await heardExactly(tabs, [(await bridge.publish('messages.new', messageNew())).id]);
      } finally {
        for (const [key, descriptor] of before)
          Object.defineProperty(globalThis, key, descriptor as PropertyDescriptor);
      }
    });
  }
});
