/**
 * protocol §2, §7, §9, §11: who hears what, against whole bridges. Two tenants with the same ids publish records for every
 * kind of audience, and tokens of every make ask for every room of both, on every transport, live, in replays, after
 * resumes and through the state routes. Each record holds a canary; the model in test/support/oracle.ts says who may see
 * it. Everybody gets all of these once, in order, and of the others not a byte.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { SignJWT } from 'jose';
import { startBridge, type TestBridge } from '../support/bridge.ts';
import {
  allKinds,
  type Fact,
  heardBy,
  mayHear,
  type Payload,
  splitRoom,
  type Told,
  type World,
  worldOf,
} from '../support/oracle.ts';
import { createRandom, type Random } from '../support/random.ts';
import { missing, startRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';
import { type OpenWire, openPolling, openWebSocket, type Wire } from '../support/wires.ts';

const SECRET = 'a secret of thirty-two bytes or more';
const KINDS = { declared: ['queue', 'team'], claimed: ['team'] };
const TENANTS = ['acme', 'bolt'] as const;
const EVENTS = ['tickets.updated', 'messages.new', 'messages.updated', 'messages.deleted', 'leads.updated'] as const;
const STATUSES = ['queued', 'sent', 'delivered', 'read', 'failed'];

/** Both tenants use every id. Some are the names of other rooms, tenants or members of objects. */
const IDS: Readonly<Record<string, readonly string[]>> = {
  ticket: ['1', '2', '7', 'acme', 'queue:a', 'tenant:bolt', '__proto__', '*'],
  agreement: ['a', 'b', '*', 'constructor'],
  user: ['u', 'v', 'u:acme', '7'],
  queue: ['a', 'b', '7', '*', 'tenant:acme', '__proto__'],
  team: ['red', 'blue', '*', 'ticket:1'],
};
const ROOMS = allKinds(KINDS).flatMap((kind) =>
  (IDS[kind] ?? [...TENANTS, 'ticket:1', '__proto__']).map((id) => `${kind}:${id}`),
);

/** What tokens claim beside their tenant. */
const ROLES: Readonly<Record<string, Record<string, unknown>>> = {
  'whole agent': {},
  'another whole agent': { sub: 'v' },
  'agent without sub': { sub: undefined },
  'agent of a queue': { queueIds: ['a'] },
  'agent of queues by number': { queueIds: [7, 'b'] },
  'agent of a queue and a team': { queueIds: ['tenant:acme', '*'], teamIds: ['red'] },
  customer: { ticketIds: ['1', 'queue:a'] },
  'customer by number': { ticketIds: 7, sub: 'u:acme' },
  'customer by text': { ticketIds: '2', sub: '7' },
  'customer of strange tickets': { ticketIds: ['__proto__', '*', 'tenant:bolt'] },
  'of agreements': { agreementIds: ['a', 'constructor'] },
  'of tickets and queues': { ticketIds: ['acme'], queueIds: ['__proto__'] },
  'of teams': { teamIds: ['blue', 'ticket:1'] },
  'of one team': { teamIds: '*' },
  'of no team': { teamIds: null },
  'narrowed to nothing': { ticketIds: [] },
  'narrowed to null': { queueIds: null },
  'narrowed by junk': { ticketIds: ['1', {}], queueIds: { a: 'a' }, agreementIds: true },
  'with claims of no kind': { userIds: ['v'], tenantIds: ['bolt'], roomIds: ['team:red'], rooms: ['team:red'] },
  admin: { scope: 'admin subscribe publish' },
  agency: { tenantId: [...TENANTS], teamIds: ['red'] },
  'agency of a ticket': { tenantId: [...TENANTS], ticketIds: ['1'] },
};
const DEAF: Readonly<Record<string, Record<string, unknown>>> = {
  publisher: { scope: 'publish' },
  'admin alone': { scope: 'admin' },
  'of no scope': { scope: undefined },
  service: { tenantId: '*' },
  'of no tenant': { tenantId: undefined },
  'narrowed to nothing, without sub': { ticketIds: [], sub: undefined },
};

interface Bearer {
  readonly name: string;
  readonly tenant: string;
  readonly claims: Record<string, unknown>;
  readonly token: string;
  /** Shown in place of the token, where a pass is taken. */
  readonly pass?: string;
}

const sign = (claims: Record<string, unknown>) =>
  new SignJWT(claims).setProtectedHeader({ alg: 'HS256' }).sign(Buffer.from(SECRET));

async function bearerOf(tenant: string, name: string, claims: Record<string, unknown>): Promise<Bearer> {
  const whole = { tenantId: tenant, sub: 'u', scope: 'subscribe', ...claims };
  return { name: `${name} of ${tenant}`, tenant, claims: whole, token: await sign(whole) };
}

const query = ({ token, pass }: Bearer, more: Record<string, string> = {}): URLSearchParams =>
  new URLSearchParams({ ...(pass === undefined ? { access_token: token } : { pass }), ...more });
const roomQuery = (rooms: readonly string[]): string =>
  rooms.map((room) => `&${splitRoom(room).kind}Id=${encodeURIComponent(splitRoom(room).id)}`).join('');

const CANARY = /«\w+-\d+»/g;
const canariesIn = (text: string): string[] => [...new Set(text.match(CANARY))].sort();
const canaryOf = ({ payload }: { readonly payload: Payload }): string => String(payload.canary);

/** Draws events until the test has enough: every kind of audience, in both tenants. */
function createPress(random: Random) {
  let count = 0;
  const born = new Set<string>();

  const idOf = (kind: string): string | number => {
    const id = random.pick(IDS[kind] as readonly string[]);
    return /^\d+$/.test(id) && random.chance(0.5) ? Number(id) : id;
  };

  function rooms(tenant: string): string[] | null {
    if (random.chance(0.4)) return null;
    const named = Array.from({ length: random.whole(1, 3) }, () => {
      const kind = random.pick(allKinds(KINDS).slice(random.chance(0.15) ? 0 : 1));
      return kind === 'tenant' ? `tenant:${tenant}` : `${kind}:${idOf(kind)}`;
    });
    return random.chance(0.1) ? [...named, ...named] : named;
  }

  function event() {
    const tenant = random.pick(TENANTS);
    const canary = `«${tenant}-${++count}»`;
    const instant = () => new Date(1_700_000_000_000 + random.whole(0, 5)).toISOString();
    const payload: Record<string, unknown> = { canary };
    for (const kind of ['agreement', 'user', 'queue', 'team']) {
      if (random.chance(0.3)) payload[`${kind}Id`] = random.chance(0.1) ? null : idOf(kind);
    }
    let name: string = random.pick(EVENTS);
    if (name === 'leads.updated') {
      const beside = random.chance(0.5);
      if (!beside) payload.tenantId = tenant;
      if (random.chance(0.5)) payload.ticketId = idOf('ticket');
      return { event: name, tenant, payload, named: rooms(tenant), beside };
    }
    Object.assign(payload, { tenantId: tenant, ticketId: idOf('ticket') });
    Object.assign(payload, { ticketStatus: 'OPEN', ticketUpdatedAt: instant(), ticket: { text: canary } });
    if (name !== 'tickets.updated') {
      const number = random.whole(1, 3);
      const key = `${tenant} ${payload.ticketId} ${number}`;
      if (name === 'messages.new' && born.has(key)) name = 'messages.updated';
      if (name === 'messages.new') born.add(key);
      // The same message keys in every ticket and tenant.
      if (name === 'messages.new' || random.chance(0.7)) payload.messageId = `m${number}`;
      if (payload.messageId === undefined || random.chance(0.5)) payload.providerMessageId = `p${number}`;
      Object.assign(payload, { messageUpdatedAt: instant(), message: { text: canary } });
      if (name === 'messages.updated' && random.chance(0.8)) payload.messageStatus = random.pick(STATUSES);
    }
    return { event: name, tenant, payload, named: rooms(tenant), beside: random.chance(0.2) };
  }
  return { event };
}

type Drawn = ReturnType<ReturnType<typeof createPress>['event']>;

interface Item {
  readonly id: string;
  readonly payload: Payload;
}

/** One listening connection: all of what it was sent, as text, and the canonical events in it. */
interface Ear {
  readonly name: string;
  readonly bearer: Bearer;
  /** The rooms that it was let into. */
  readonly rooms: readonly string[];
  /** It hears what comes after this cursor. */
  readonly since: string;
  text(): string;
  heard(): Item[];
  /** Loses its connection, and resumes as its kind of client does. */
  cut(): Promise<void>;
  close(): void;
}

const PASSES = ['whole agent', 'customer', 'agent of a queue and a team', 'agency'];

/** @param every of so many bearers, one takes part in a run: which ones depends on the seed */
function audiences(every: number, start: () => Promise<{ nodes: TestBridge[]; stop: () => Promise<void> }>): void {
  const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
  const random = createRandom(seed);
  const press = createPress(random.fork('events'));
  const facts: Fact[] = [];
  const answered = new Map<string, readonly string[]>();
  const bearers: Bearer[] = [];
  let nodes: TestBridge[] = [];
  let stop = async (): Promise<void> => {};
  let service = '';
  let beginning = '';
  const url = (): string => random.pick(nodes).url;
  const world = (): World => worldOf(facts, KINDS);
  const tries = { count: 0 };
  const chosen = (): Bearer[] => bearers.filter((_, index) => (index + seed) % every === 0);

  async function publish(count: number): Promise<string> {
    for (let left = count; left > 0; ) {
      const drawn = Array.from({ length: Math.min(left, random.whole(1, 12)) }, () => press.event());
      left -= drawn.length;
      const body = ({ event, tenant, payload, named, beside }: Drawn) => ({
        event,
        payload,
        ...(beside ? { tenantId: tenant } : {}),
        ...(named === null ? {} : { rooms: named }),
      });
      const response = await fetch(`${url()}/events`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization: `Bearer ${service}` },
        body: JSON.stringify({ events: drawn.map(body) }),
      });
      const text = await response.text();
      assert.equal(response.status, 201, text);
      const { results } = JSON.parse(text) as { results: { id: string; rooms: string[]; duplicate: boolean }[] };
      for (const [index, { id, rooms, duplicate }] of results.entries()) {
        assert.equal(duplicate, false);
        facts.push({ id, ...(drawn[index] as Drawn) });
        answered.set(id, rooms);
      }
    }
    return facts.at(-1)?.id as string;
  }

  before(async () => {
    ({ nodes, stop } = await start());
    service = await sign({ tenantId: '*', scope: 'publish' });
    for (const tenant of TENANTS) {
      for (const [name, claims] of Object.entries(ROLES)) {
        const bearer = await bearerOf(tenant, name, claims);
        bearers.push(bearer);
        if (!PASSES.includes(name)) continue;
        const headers = { authorization: `Bearer ${bearer.token}` };
        const minted = await fetch(`${url()}/pass`, { method: 'POST', headers });
        const { pass } = (await minted.json()) as { pass: string };
        bearers.push({ ...bearer, name: `pass of ${bearer.name}`, token: 'none', pass });
      }
    }
    beginning = await publish(1);
    await publish(150);
  });
  after(() => stop());

  /** protocol §11: what a token is let into, of all rooms of both tenants. */
  const openTo = ({ claims }: Bearer): string[] =>
    ROOMS.filter((room) => TENANTS.some((tenant) => mayHear(claims, tenant, room, KINDS)));

  /** Cursors before, and the records after it that the ear is owed. */
  const owedTo = ({ bearer, rooms, since }: Ear, log: readonly Told[]): Told[] =>
    heardBy(bearer.claims, rooms, log, KINDS).filter(({ id }) => id > since);

  /** Speaks Socket.IO by hand: joins what it may, one by one or as one array, and tries all that it may not. */
  async function listenBySocket(transport: string, open: OpenWire, bearer: Bearer, since: string | null): Promise<Ear> {
    let wire = await open(url());
    const wires: Wire[] = [wire];
    const credential = bearer.pass === undefined ? { token: bearer.token } : { pass: bearer.pass };
    const connected = async (extra: object): Promise<{ pid: string }> => {
      const { frames, send } = wire;
      await until('the handshake', () => frames.some((frame) => frame.startsWith('0{')));
      send(`40${JSON.stringify({ ...credential, legacy: false, ...extra })}`);
      const answer = () => frames.find((frame) => frame.startsWith('40{') || frame.startsWith('44{'));
      await until('the CONNECT', () => answer() !== undefined);
      assert.match(answer() as string, /^40/, bearer.name);
      return JSON.parse((answer() as string).slice(2)) as { pid: string };
    };
    const { pid } = await connected({});
    const rooms = openTo(bearer);
    const options = since === null ? {} : { after: since };
    const refused = ROOMS.filter((room) => !rooms.includes(room));
    const joining = (room: string): unknown[] => {
      const { kind, id } = splitRoom(room);
      const form = random.whole(0, 2);
      if (form === 0) return ['join', room, options];
      return [`join-${kind}`, form === 1 ? id : { [`${kind}Id`]: /^\d+$/.test(id) ? Number(id) : id }, options];
    };
    // One room that it may not hear spoils an array, and none of it is joined.
    const spoilt =
      refused.length > 0
        ? [
            [random.pick(refused), ...rooms],
            [...rooms, random.pick(refused)],
          ]
        : [];
    const forbidden = [...refused.map(joining), ...spoilt.map((names) => ['join', names, options])];
    const good = random.chance(0.5) ? [['join', rooms, options]] : rooms.map(joining);
    const asked = [...forbidden, ...good, ['join-tenant', '*', options]];
    for (const [index, args] of asked.entries()) wire.send(`42${index}${JSON.stringify(args)}`);
    const acks = new Map<number, { ok: boolean; code?: string }>();
    let looked = 0;
    await until(`the acks of all joins of ${bearer.name}`, () => {
      for (; looked < wire.frames.length; looked++) {
        const [, index, answers = ''] = /^43(\d+)(.*)$/.exec(wire.frames[looked] as string) ?? [];
        if (index !== undefined) acks.set(Number(index), JSON.parse(answers)[0]);
      }
      return acks.size === asked.length;
    });
    tries.count += asked.length;
    for (const [index, args] of asked.entries()) {
      const expected = index < forbidden.length ? 'forbidden' : index === asked.length - 1 ? 'invalid_room' : undefined;
      const { ok, code } = acks.get(index) ?? {};
      const what = `${transport}, ${bearer.name}: ${JSON.stringify(args)}`;
      assert.deepEqual({ ok, code }, { ok: expected === undefined, code: expected }, what);
    }
    const items: (Item & { event: string; offset: boolean })[] = [];
    const read = new Map<Wire, number>();
    const heard = () => {
      for (const one of wires) {
        for (const frame of one.frames.slice(read.get(one) ?? 0)) {
          if (!frame.startsWith('42[')) continue;
          const [event, payload, id, flags] = JSON.parse(frame.slice(2)) as [string, Payload, string, unknown];
          if (typeof id === 'string') items.push({ event, payload, id, offset: flags === undefined });
        }
        read.set(one, one.frames.length);
      }
      return items;
    };
    return {
      name: `${transport}, ${bearer.name}${since === null ? '' : ', replay'}`,
      bearer,
      rooms,
      since: since ?? (facts.at(-1)?.id as string),
      text: () => wires.flatMap(({ frames }) => frames).join('\n'),
      heard: () => heard().filter(({ event }) => !event.startsWith('bridge.')),
      async cut() {
        const offset = heard().findLast((item) => item.offset)?.id;
        wire.close();
        wire = await open(url());
        wires.push(wire);
        const again = await connected({ pid, offset });
        assert.equal(again.pid, pid, `${bearer.name} is recovered`);
      },
      close: () => wire.close(),
    };
  }

  /** Tries each room that it may not hear, alone and beside its own: the request is refused as a whole. */
  async function tryOthers(path: string, bearer: Bearer, rooms: readonly string[]): Promise<string> {
    const refused = ROOMS.filter((room) => !rooms.includes(room) && random.chance(0.3));
    const texts = await Promise.all(
      [...refused, ...(refused.length > 0 ? [[...rooms, ...refused.slice(-1)]] : [])].map(async (more) => {
        const response = await fetch(`${url()}${path}?${query(bearer)}${roomQuery([more].flat())}`);
        const text = await response.text();
        assert.equal(response.status, 403, `${path}, ${bearer.name}: ${more}: ${text}`);
        return text;
      }),
    );
    tries.count += texts.length;
    return texts.join('\n');
  }

  async function listenBySse(bearer: Bearer, since: string | null): Promise<Ear> {
    const rooms = openTo(bearer);
    let text = await tryOthers('/sse', bearer, rooms);
    let aborter = new AbortController();
    const parsed: (Item & { event: string })[] = [];
    let read = text.length;
    const items = () => {
      const end = text.lastIndexOf('\n\n') + 2;
      if (end <= read) return parsed;
      parsed.push(...parse(text.slice(read, end)));
      read = end;
      return parsed;
    };
    const parse = (blocks: string) =>
      blocks.split('\n\n').flatMap((block): (Item & { event: string })[] => {
        const [event = '', data = '', id] = ['event', 'data', 'id'].map(
          (field) => new RegExp(`^${field}: (.*)$`, 'm').exec(block)?.[1],
        );
        return id === undefined ? [] : [{ event, payload: JSON.parse(data), id }];
      });
    const open = async (headers: Record<string, string>): Promise<void> => {
      aborter = new AbortController();
      const more = since === null ? {} : { after: since };
      const response = await fetch(`${url()}/sse?${query(bearer, { legacy: 'false', ...more })}${roomQuery(rooms)}`, {
        headers,
        signal: aborter.signal,
      });
      assert.equal(response.status, 200, bearer.name);
      const count = items().length;
      const decoder = new TextDecoder();
      void (async () => {
        for await (const chunk of response.body ?? []) text += decoder.decode(chunk, { stream: true });
      })().catch(() => {});
      await until('the stream begins', () => items().length > count);
    };
    await open({});
    return {
      name: `sse, ${bearer.name}${since === null ? '' : ', replay'}`,
      bearer,
      rooms,
      since: since ?? (facts.at(-1)?.id as string),
      text: () => text,
      heard: () => items().filter(({ event }) => !event.startsWith('bridge.')),
      async cut() {
        aborter.abort();
        const last = items().at(-1)?.id as string;
        // The half of an event that was under way is dropped.
        text = text.slice(0, text.lastIndexOf('\n\n') + 2);
        await open({ 'last-event-id': last });
      },
      close: () => aborter.abort(),
    };
  }

  /** Pages of few records and then long polls; `rooms` are those that it may hear. */
  async function listenByPolls(bearer: Bearer, after: string): Promise<Ear> {
    const rooms = openTo(bearer);
    let text = await tryOthers('/events', bearer, rooms);
    const aborter = new AbortController();
    const items: (Item & { rooms: string[] })[] = [];
    const since = after === 'now' ? (facts.at(-1)?.id as string) : '';
    let cursor = after;
    const poll = async (wait: number): Promise<boolean> => {
      const asked = query(bearer, { after: cursor, wait: String(wait), limit: '50' });
      const response = await fetch(`${url()}/events?${asked}${roomQuery(rooms)}`, { signal: aborter.signal });
      const body = await response.text();
      assert.equal(response.status, 200, `${bearer.name}: ${body}`);
      text += body;
      const page = JSON.parse(body) as { events: (Item & { rooms: string[] })[]; cursor: string; hasMore: boolean };
      items.push(...page.events);
      ({ cursor } = page);
      return page.hasMore;
    };
    while (await poll(0)) tries.count++;
    void (async () => {
      while (!aborter.signal.aborted) await poll(20);
    })().catch(() => {});
    return {
      name: `long poll, ${bearer.name}, after=${after}`,
      bearer,
      rooms,
      since,
      text: () => text,
      heard: () => items,
      cut: async () => {},
      close: () => aborter.abort(),
    };
  }

  /** Or as much as comes: the comparison that follows says who lacks what. */
  async function allHeard(ears: readonly Ear[], log: readonly Told[]): Promise<void> {
    const counts = new Map(ears.map((ear) => [ear, owedTo(ear, log).length]));
    await until('all is heard', () => ears.every((ear) => ear.heard().length >= (counts.get(ear) ?? 0))).catch(
      () => {},
    );
  }

  test(`everybody hears exactly their records (seed ${seed})`, { timeout: 120_000 }, async () => {
    const head = facts.at(-1)?.id as string;
    const ears: Ear[] = [];
    try {
      for (const bearer of chosen()) {
        ears.push(
          ...(await Promise.all([
            listenBySocket('websocket', openWebSocket, bearer, random.pick([beginning, null])),
            listenBySocket('polling', openPolling, bearer, random.pick([beginning, null])),
            listenBySse(bearer, random.pick([beginning, null])),
            listenByPolls(bearer, random.pick(['now', 'start'])),
          ])),
        );
      }
      assert.equal(facts.at(-1)?.id, head);
      await publish(60);
      const replayed = world().log;
      await allHeard(ears, replayed);
      const cut = ears.filter(() => random.chance(0.5));
      const [, gone] = await Promise.all([publish(40), Promise.all(cut.map((ear) => ear.cut()))]);
      assert.equal(gone.length, cut.length);
      await publish(60);
      const { log } = world();
      await allHeard(ears, log);
      for (const ear of ears) {
        const owed = owedTo(ear, log);
        const heard = ear.heard();
        const sorted = [...heard].sort((a, b) => (a.id < b.id ? -1 : 1));
        assert.deepEqual(
          sorted.map(({ id, payload }) => `${id} ${JSON.stringify(payload)}`),
          owed.map(({ id, payload }) => `${id} ${JSON.stringify(payload)}`),
          ear.name,
        );
        if (!ear.name.includes('polling') && !ear.name.includes('websocket')) assert.deepEqual(heard, sorted, ear.name);
        assert.deepEqual(canariesIn(ear.text()), canariesIn(owed.map(canaryOf).join()), ear.name);
        for (const [index, item] of heard.entries()) {
          if (!('rooms' in item)) break;
          const { tenant, rooms } = sorted[index] === item ? (owed[index] as Told) : assert.fail(ear.name);
          const shown = rooms.filter((room) => mayHear(ear.bearer.claims, tenant, room, KINDS));
          assert.deepEqual([...(item.rooms as string[])].sort(), shown.sort(), ear.name);
        }
      }
      assert.ok(ears.filter((ear) => ear.heard().length > 0).length > ears.length / 2);
      assert.ok(tries.count > 3_000 / every, `${tries.count} tries`);
    } finally {
      for (const ear of ears) ear.close();
    }
  });

  test('the answers of publishes name the rooms that each record went to', () => {
    for (const { id, event, rooms } of world().log) {
      assert.deepEqual([...(answered.get(id) as string[])].sort(), [...rooms].sort(), `${event} ${id}`);
    }
  });

  test('the state routes show what was published to rooms that the caller may hear', { timeout: 120_000 }, async () => {
    const now = world();
    for (const bearer of chosen().filter(({ pass }) => pass === undefined)) {
      const headers = { authorization: `Bearer ${bearer.token}` };
      const seen: string[] = [];
      const get = async (path: string): Promise<{ status: number; body: never }> => {
        tries.count++;
        const response = await fetch(url() + path, { headers });
        const text = await response.text();
        seen.push(text);
        return { status: response.status, body: JSON.parse(text) as never };
      };
      const list = async (path: string): Promise<Payload[]> => {
        const items: Payload[] = [];
        for (let page = ''; ; ) {
          const { status, body } = await get(`${path}&limit=${random.whole(1, 4)}${page}`);
          // A ticket of which the caller may read nothing may look like one that does not exist.
          if (status === 404 && page === '' && path.includes('/messages')) return [];
          assert.equal(status, 200, `${bearer.name}: ${path}`);
          const { items: some, nextPage } = body as { items: Payload[]; nextPage: string | null };
          items.push(...some);
          if (nextPage === null) return items;
          page = `&page=${encodeURIComponent(nextPage)}`;
        }
      };
      const canaries: string[] = [];
      for (const tenant of TENANTS) {
        const own = [bearer.claims.tenantId].flat().includes(tenant);
        if (!own) {
          const paths = ['/tickets?', '/tickets/1?', '/tickets/1/messages?', '/tickets/none?'];
          const answers = await Promise.all(paths.map((path) => get(`${path}tenantId=${tenant}`)));
          assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([403]), bearer.name);
          continue;
        }
        const expected = now.tickets(bearer.claims, tenant);
        assert.deepEqual(await list(`/tickets?tenantId=${tenant}`), expected, `${bearer.name}: tickets of ${tenant}`);
        canaries.push(...expected.map((payload) => canaryOf({ payload })));
        await Promise.all(
          (IDS.ticket as string[]).map(async (ticketId) => {
            const path = `/tickets/${encodeURIComponent(ticketId)}`;
            const what = `${bearer.name}: ${path} of ${tenant}`;
            const { status, body } = await get(`${path}?tenantId=${tenant}`);
            const payload = now.ticket(bearer.claims, tenant, ticketId);
            assert.equal(status, payload === null ? 404 : 200, what);
            if (payload !== null) assert.deepEqual(body, payload, what);
            const messages = now.messages(bearer.claims, tenant, ticketId);
            canaries.push(...messages.map((message) => canaryOf({ payload: message })));
            assert.deepEqual(await list(`${path}/messages?tenantId=${tenant}`), messages, what);
            const reversed = await list(`${path}/messages?tenantId=${tenant}&order=desc`);
            assert.deepEqual(reversed, messages.reverse(), `${what}, desc`);
          }),
        );
      }
      assert.deepEqual(canariesIn(seen.join('\n')), canariesIn(canaries.join()), bearer.name);
    }
  });

  test('who may hear nothing is refused at connect, by name of what is missing', async () => {
    for (const [name, claims] of Object.entries(DEAF)) {
      const bearer = await bearerOf('acme', name, claims);
      for (const open of [openWebSocket, openPolling]) {
        const wire = await open(url());
        await until('the handshake', () => wire.frames.length > 0);
        wire.send(`40${JSON.stringify({ token: bearer.token })}`);
        await until('an answer', () => wire.frames.length > 1);
        assert.match(wire.frames[1] as string, /^44\{.*"code":"forbidden"/, name);
        assert.match(wire.frames[1] as string, /subscribe|tenant|ticketIds/, name);
        wire.close();
      }
      for (const path of ['/sse', '/events', '/tickets', '/tickets/1', '/tickets/1/messages']) {
        const response = await fetch(`${url()}${path}?${query(bearer)}&tenantId=acme`);
        const text = await response.text();
        assert.equal(
          response.status,
          name.startsWith('narrowed') && path.startsWith('/t') ? response.status : 403,
          `${name}: ${path}`,
        );
        assert.deepEqual(canariesIn(text), [], `${name}: ${path}`);
      }
    }
  });
}

const SETTINGS = {
  authMode: 'jwt',
  jwtSecret: SECRET,
  extraEvents: ['leads.updated'],
  roomKinds: KINDS.declared,
  claimedRoomKinds: KINDS.claimed,
  rateJoins: 100_000,
  heartbeatMs: 60_000,
  maxRooms: 500,
} as const;

describe('audiences on SQLite', () =>
  audiences(3, async () => {
    const bridge = await startBridge(SETTINGS);
    return { nodes: [bridge], stop: () => bridge.close() };
  }));

describe('audiences on Redis, two nodes', { skip: missing('redis-server') }, () =>
  audiences(5, async () => {
    const redis = await startRedis();
    const nodes = [
      await startBridge({ ...SETTINGS, storeUrl: redis.url }),
      await startBridge({ ...SETTINGS, storeUrl: redis.url }),
    ];
    return {
      nodes,
      async stop() {
        for (const node of nodes) await node.close();
        await redis.stop();
      },
    };
  }),
);
