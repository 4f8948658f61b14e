/**
 * protocol §11, design law 9, against a whole bridge: two tenants with the same ids, each with tokens of every make, try
 * every room of the other on every transport, live, in a replay, by a long poll and by a stolen session. What comes over
 * the wire is kept as text, whatever it is, and must not hold one word of the other's.
 */
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { type OutgoingHttpHeaders, request } from 'node:http';
import { after, before, test } from 'node:test';
import { type JWTPayload, SignJWT } from 'jose';
import { BUILT_IN_KINDS, idField, type RoomKind } from '../../src/contract/rooms.ts';
import { startBridge, type TestBridge } from '../support/bridge.ts';
import { openPolling as openPollingOf, openWebSocket as openWebSocketOf, type Wire } from '../support/wires.ts';

const SECRET = 'a secret of thirty-two bytes or more';
const LISTED = 'https://app.example';
const TENANTS = ['acme', 'bolt'] as const;
type Tenant = (typeof TENANTS)[number];
const otherOf = (tenant: Tenant): Tenant => (tenant === 'acme' ? 'bolt' : 'acme');

/** Every id is used by both tenants; some look like rooms or audiences of others. */
const TICKETS = ['1', '2', 'acme', 'bolt', 'ticket:1', 'tenant:acme', '__proto__', '*'];
const AGREEMENTS = ['a', 'b', 'acme', 'bolt', 'constructor'];
/** The first is the `sub` of all tokens. */
const USERS = ['u', 'acme', 'bolt', 'u:acme'];
const IDS: Readonly<Record<(typeof BUILT_IN_KINDS)[number], readonly string[]>> = {
  tenant: [...TENANTS, '*', 'acme:bolt', 'ticket:1'],
  ticket: TICKETS,
  agreement: AGREEMENTS,
  user: USERS,
};
const ROOMS = BUILT_IN_KINDS.flatMap((kind) => IDS[kind].map((id) => ({ kind, id })));

const canaryOf = (tenant: Tenant) => `${tenant}-eyes-only`;

const sign = (claims: JWTPayload, secret = SECRET) =>
  new SignJWT(claims).setProtectedHeader({ alg: 'HS256' }).sign(Buffer.from(secret));
const nowS = () => Math.floor(Date.now() / 1000);

let bridge: TestBridge;
before(async () => {
  bridge = await startBridge({
    authMode: 'jwt',
    jwtSecret: SECRET,
    extraEvents: ['leads.updated'],
    corsOrigins: [LISTED],
    rateJoins: 100_000,
    heartbeatMs: 60_000,
  });
});
after(() => bridge.close());

/** An event in each room of the tenant, with the canary in it; resolves to the last one's cursor. */
async function publishEverywhere(tenant: Tenant): Promise<string> {
  const text = canaryOf(tenant);
  const envelope = (ticketId: string, agreementId: string) => ({
    tenantId: tenant,
    ticketId,
    agreementId,
    ticketStatus: text,
    ticketUpdatedAt: new Date().toISOString(),
  });
  let cursor = '';
  const most = Math.max(TICKETS.length, AGREEMENTS.length, USERS.length);
  const at = (ids: readonly string[], index: number) => ids[index % ids.length] as string;
  for (let index = 0; index < most; index++) {
    const [ticketId, agreementId, userId] = [at(TICKETS, index), at(AGREEMENTS, index), at(USERS, index)];
    await bridge.publish('tickets.updated', { ...envelope(ticketId, agreementId), ticket: { text } });
    const messageId = `${text}-${ticketId}`;
    await bridge.publish('messages.new', { ...envelope(ticketId, agreementId), messageId, message: { text } });
    cursor = (await bridge.publish('leads.updated', { tenantId: tenant, ticketId, agreementId, userId, text })).id;
  }
  return cursor;
}

interface Bearer {
  readonly name: string;
  readonly token: string;
  /** A pass, shown as such where a pass is taken. */
  readonly pass?: string;
  /** protocol §11 in words of this test: whether a room is let in. */
  hears(kind: RoomKind, id: string): boolean;
}

async function bearersOf(tenant: Tenant): Promise<Bearer[]> {
  const base = { tenantId: tenant, sub: 'u', scope: 'subscribe publish admin' };
  const exp = nowS() + 600;
  const whole = (kind: RoomKind, id: string) => (kind === 'tenant' ? id === tenant : kind !== 'user' || id === 'u');
  const own = (kind: RoomKind, id: string) => kind === 'user' && id === 'u';
  const token = await sign({ ...base, exp });
  const minted = await fetch(`${bridge.url}/pass`, { method: 'POST', headers: { authorization: `Bearer ${token}` } });
  assert.equal(minted.status, 201);
  const { pass, expiresInSeconds } = (await minted.json()) as { pass: string; expiresInSeconds: number };
  assert.ok(expiresInSeconds > 500 && expiresInSeconds <= 600);
  return [
    { name: 'whole', token, hears: whole },
    { name: 'pass', token: 'none', pass, hears: whole },
    {
      name: 'by tickets',
      token: await sign({ ...base, ticketIds: ['1', 'acme'] }),
      hears: (kind, id) => own(kind, id) || (kind === 'ticket' && (id === '1' || id === 'acme')),
    },
    {
      name: 'by agreements',
      token: await sign({ ...base, agreementIds: ['a'] }),
      hears: (kind, id) => own(kind, id) || (kind === 'agreement' && id === 'a'),
    },
    { name: 'narrowed to nothing', token: await sign({ ...base, ticketIds: [] }), hears: own },
    { name: 'publisher', token: await sign({ ...base, scope: 'publish' }), hears: () => false },
    { name: 'service', token: await sign({ ...base, tenantId: '*' }), hears: () => false },
    { name: 'no tenant', token: await sign({ sub: 'u', scope: 'subscribe' }), hears: () => false },
  ];
}

/** What a connection was sent, all of it. */
interface Ear {
  /** Rooms that it was let into, as `kind:id`. */
  readonly joined: Set<string>;
  text(): string;
  close(): void;
}

/** Waits for what is to come; the test's own time limit ends a wait in vain. */
function until(condition: () => boolean): Promise<void> {
  return new Promise((resolve) => {
    const look = (): void => {
      if (condition()) resolve();
      else setTimeout(look, 5);
    };
    look();
  });
}

const credentialQuery = ({ token, pass }: Bearer) => (pass === undefined ? { access_token: token } : { pass });

/** No tenant has this name. */
const isAllTenants = (kind: RoomKind, id: string): boolean => kind === 'tenant' && id === '*';

/** Joins every room by raw Engine.IO frames, so that nothing on the wire is hidden by a client library. */
type Send = (frame: string) => void;

async function speakSocketIo(
  bearer: Bearer,
  after: string | undefined,
  frames: string[],
  send: Send,
  extra: Record<string, unknown> = {},
): Promise<Set<string>> {
  const { token, pass } = bearer;
  await until(() => frames.some((frame) => frame.startsWith('0{')));
  send(`40${JSON.stringify({ ...(pass === undefined ? { token } : { pass }), ...extra })}`);
  await until(() => frames.some((frame) => frame.startsWith('40{') || frame.startsWith('44{')));
  const joined = new Set<string>();
  const refusal = frames.find((frame) => frame.startsWith('44{'));
  if (refusal !== undefined) {
    assert.equal((JSON.parse(refusal.slice(2)) as { data: { code: string } }).data.code, 'forbidden', refusal);
    return joined;
  }
  for (const [index, { kind, id }] of ROOMS.entries()) {
    send(`42${index}${JSON.stringify([`join-${kind}`, id, after === undefined ? {} : { after }])}`);
  }
  for (const [index, { kind, id }] of ROOMS.entries()) {
    const prefix = `43${index}[`;
    await until(() => frames.some((frame) => frame.startsWith(prefix)));
    const ack = frames.find((frame) => frame.startsWith(prefix)) as string;
    const [answer] = JSON.parse(ack.slice(prefix.length - 1)) as [{ ok: boolean; code?: string }];
    if (answer.ok) joined.add(`${kind}:${id}`);
    else assert.equal(answer.code, isAllTenants(kind, id) ? 'invalid_room' : 'forbidden', ack);
  }
  return joined;
}

const openWebSocket = () => openWebSocketOf(bridge.url);
const openPolling = () => openPollingOf(bridge.url);

async function listenBySocket(open: () => Wire | Promise<Wire>, bearer: Bearer, after?: string): Promise<Ear> {
  const { frames, send, close } = await open();
  const joined = await speakSocketIo(bearer, after, frames, send);
  return { joined, text: () => frames.join('\n'), close };
}

/** One request per room, since one refused room refuses the whole request. */
async function listenByRequests(
  start: (query: URLSearchParams, heard: (text: string) => void, signal: AbortSignal) => Promise<boolean>,
  bearer: Bearer,
  after?: string,
): Promise<Ear> {
  const aborter = new AbortController();
  const joined = new Set<string>();
  let text = '';
  for (const { kind, id } of ROOMS) {
    const query = new URLSearchParams({ [idField(kind)]: id, ...credentialQuery(bearer) });
    if (after !== undefined) query.set('after', after);
    const heard = (more: string) => {
      text += more;
    };
    if (await start(query, heard, aborter.signal)) joined.add(`${kind}:${id}`);
  }
  return { joined, text: () => text, close: () => aborter.abort() };
}

async function readOn(response: Response, heard: (text: string) => void): Promise<void> {
  const decoder = new TextDecoder();
  try {
    for await (const chunk of response.body ?? []) heard(decoder.decode(chunk, { stream: true }));
  } catch {
    // The test let go of it.
  }
}

async function letIn(response: Response, query: URLSearchParams, heard: (text: string) => void): Promise<boolean> {
  if (response.status === 200) return true;
  const body = await response.text();
  heard(body);
  assert.equal(response.status, query.get('tenantId') === '*' ? 400 : 403, body);
  return false;
}

const ears: Readonly<Record<string, (bearer: Bearer, after?: string) => Promise<Ear>>> = {
  websocket: (bearer, after) => listenBySocket(openWebSocket, bearer, after),
  polling: (bearer, after) => listenBySocket(openPolling, bearer, after),
  sse: (bearer, after) =>
    listenByRequests(
      async (query, heard, signal) => {
        const response = await fetch(`${bridge.url}/sse?${query}`, { signal });
        const ok = await letIn(response, query, heard);
        if (ok) void readOn(response, heard);
        return ok;
      },
      bearer,
      after,
    ),
  'long poll': (bearer, after) =>
    listenByRequests(
      async (query, heard, signal) => {
        // Without a wait first: whether it is let in is known at once.
        const url = `${bridge.url}/events?legacy=true&limit=1000&${query}`;
        const first = await fetch(after === undefined ? `${url}&after=now` : url, { signal });
        if (!(await letIn(first, query, heard))) return false;
        const body = await first.text();
        heard(body);
        let { cursor } = JSON.parse(body) as { cursor: string };
        void (async () => {
          while (!signal.aborted) {
            query.set('after', cursor);
            const response = await fetch(`${bridge.url}/events?legacy=true&wait=20&limit=1000&${query}`, { signal });
            const more = await response.text();
            heard(more);
            cursor = (JSON.parse(more) as { cursor: string }).cursor;
          }
        })().catch(() => {});
        return true;
      },
      bearer,
      after,
    ),
};

const LIMIT = { timeout: 120_000 };

for (const [transport, listen] of Object.entries(ears)) {
  for (const mode of ['live', 'replay'] as const) {
    test(`${transport}, ${mode}: no room brings anything of the other tenant`, LIMIT, async () => {
      const { cursor: beginning } = await answerOf('/events?tenantId=acme&after=now', await bearersOf('acme'));
      if (mode === 'replay') for (const tenant of TENANTS) await publishEverywhere(tenant);
      const listening: { tenant: Tenant; bearer: Bearer; ear: Ear }[] = [];
      for (const tenant of TENANTS) {
        for (const bearer of await bearersOf(tenant)) {
          const ear = await listen(bearer, mode === 'replay' ? beginning : undefined);
          listening.push({ tenant, bearer, ear });
        }
      }
      try {
        for (const { bearer, ear } of listening) {
          const expected = ROOMS.filter(({ kind, id }) => bearer.hears(kind, id)).map(
            ({ kind, id }) => `${kind}:${id}`,
          );
          assert.deepEqual([...ear.joined].sort(), expected.sort(), bearer.name);
        }
        // Each tenant's own last event comes after all of the other's that might have leaked.
        for (const tenant of [...TENANTS, ...TENANTS]) await publishEverywhere(tenant);
        const last = new Map<Tenant, string>();
        for (const tenant of TENANTS) last.set(tenant, await markEverywhere(tenant));
        for (const { tenant, ear } of listening) {
          if (ear.joined.size > 0) await until(() => ear.text().includes(last.get(tenant) as string));
        }
        for (const { tenant, bearer, ear } of listening) {
          const text = ear.text();
          assert.ok(!text.includes(canaryOf(otherOf(tenant))), `${bearer.name} of ${tenant}`);
          assert.equal(
            text.includes(canaryOf(tenant)),
            ear.joined.size > 0,
            `${bearer.name} of ${tenant} hears its own`,
          );
        }
      } finally {
        for (const { ear } of listening) ear.close();
      }
    });
  }
}

let marks = 0;

/** One event that every room which any of the bearers may hear gets last. */
async function markEverywhere(tenant: Tenant): Promise<string> {
  const mark = `mark-${++marks}`;
  for (const ticketId of ['1', 'acme']) {
    await bridge.publish('leads.updated', { tenantId: tenant, ticketId, agreementId: 'a', userId: 'u', mark });
  }
  return mark;
}

async function answerOf(path: string, [bearer]: Bearer[]): Promise<{ cursor: string }> {
  const response = await fetch(bridge.url + path, { headers: { authorization: `Bearer ${bearer?.token}` } });
  return (await response.json()) as { cursor: string };
}

test('a session stolen from the other tenant brings nothing back', LIMIT, async () => {
  const pidOf = (frames: string[]) =>
    (JSON.parse((frames.find((frame) => frame.startsWith('40{')) as string).slice(2)) as { pid: string }).pid;
  const thieves = await bearersOf('bolt');
  const [owner] = await bearersOf('acme');
  assert.ok(owner);
  const bad: Bearer = { name: 'garbage', token: 'garbage', hears: () => false };
  for (const thief of [...thieves, bad]) {
    const victim = openWebSocket();
    const rooms = await speakSocketIo(owner, undefined, victim.frames, victim.send);
    assert.ok(rooms.has('tenant:acme') && rooms.has('ticket:1'));
    const offset = await publishEverywhere('acme');
    await until(() => victim.frames.some((frame) => frame.includes(offset)));
    victim.close();
    await publishEverywhere('acme');

    const { frames, send, closed, close } = openWebSocket();
    await until(() => frames.length > 0);
    const { token, pass } = thief;
    const credential = pass === undefined ? { token } : { pass };
    send(`40${JSON.stringify({ ...credential, pid: pidOf(victim.frames), offset })}`);
    await until(() => closed() || frames.some((frame) => frame.startsWith('40{') || frame.startsWith('44{')));
    await publishEverywhere('acme');
    if (thief === bad) {
      assert.match(frames.join('\n'), /^44\{.*"code":"unauthorized"/m);
    } else if (frames.some((frame) => frame.startsWith('44{'))) {
      assert.match(frames.join('\n'), /^44\{.*"code":"forbidden"/m, thief.name);
    } else {
      await until(() => frames.some((frame) => frame.includes('bridge.reset')));
      assert.notEqual(pidOf(frames), pidOf(victim.frames), thief.name);
      assert.ok(!frames.some((frame) => frame.includes('bridge.error')), 'not even its rooms are told');
    }
    if (thief.hears('ticket', '1')) {
      // Its own audience of the same ids is all that the rooms of the session can mean to it, also once it asks.
      send(`427${JSON.stringify(['join-ticket', '1'])}`);
      await until(() => frames.some((frame) => frame.startsWith('437[')));
      const mark = await markEverywhere('bolt');
      await until(() => frames.some((frame) => frame.includes(mark)));
    }
    assert.ok(!frames.join('\n').includes(canaryOf('acme')), thief.name);
    close();

    // The owner still gets back all that it had.
    const { token: own } = owner;
    const again = openWebSocket();
    await until(() => again.frames.length > 0);
    again.send(`40${JSON.stringify({ token: own, pid: pidOf(victim.frames), offset })}`);
    const mark = await markEverywhere('acme');
    await until(() => again.frames.some((frame) => frame.includes(mark)));
    assert.equal(pidOf(again.frames), pidOf(victim.frames));
    assert.ok(
      again.frames.some((frame) => frame.includes(canaryOf('acme'))),
      'what was missed',
    );
    again.close();
  }
});

test('the state routes give nothing of the other tenant, nor tell what exists', LIMIT, async () => {
  for (const tenant of TENANTS) await publishEverywhere(tenant);
  for (const tenant of TENANTS) {
    const other = otherOf(tenant);
    const paths = (tenantId: string, ticketId: string) => [
      `/tickets?tenantId=${tenantId}`,
      `/tickets?tenantId=${tenantId}&agreementId=a`,
      `/tickets/${encodeURIComponent(ticketId)}?tenantId=${tenantId}`,
      `/tickets/${encodeURIComponent(ticketId)}/messages?tenantId=${tenantId}`,
    ];
    const [whole] = await bearersOf(other);
    const pageOf = await fetch(`${bridge.url}/tickets?limit=1&tenantId=${other}`, {
      headers: { authorization: `Bearer ${whole?.token}` },
    });
    const { nextPage } = (await pageOf.json()) as { nextPage: string };
    for (const bearer of await bearersOf(tenant)) {
      const ask = async (path: string) => {
        const separator = path.includes('?') ? '&' : '?';
        const response = await fetch(bridge.url + path + separator + new URLSearchParams(credentialQuery(bearer)));
        const body = await response.text();
        assert.ok(!body.includes(canaryOf(other)), `${bearer.name}: ${path}`);
        return { status: response.status, body: body.replaceAll(/"(instance|requestId|cursor)":"[^"]*"/g, '') };
      };
      for (const ticketId of [...TICKETS, 'missing']) {
        for (const path of paths(other, ticketId)) {
          const { status } = await ask(path);
          assert.equal(status, bearer.pass === undefined ? 403 : 401, `${bearer.name}: ${path}`);
        }
        for (const path of paths(tenant, ticketId)) await ask(path);
      }
      const [known, unknown] = [
        await ask(`/tickets/1?tenantId=${other}`),
        await ask(`/tickets/missing?tenantId=${other}`),
      ];
      assert.deepEqual(known, unknown);
      await ask(`/tickets?tenantId=${tenant}&page=${encodeURIComponent(nextPage)}`);
      if (bearer.name === 'by tickets') {
        assert.equal((await ask(`/tickets/1?tenantId=${tenant}`)).status, 200);
        const [hidden, missing] = [
          await ask(`/tickets/2?tenantId=${tenant}`),
          await ask(`/tickets/no?tenantId=${tenant}`),
        ];
        assert.deepEqual(hidden, missing);
        assert.equal(hidden.status, 404);
        const { body } = await ask(`/tickets?tenantId=${tenant}`);
        const items = (JSON.parse(body.replace(/,(?=\})/g, '')) as { items: { ticketId: string }[] }).items;
        assert.deepEqual(items.map(({ ticketId }) => ticketId).sort(), ['1', 'acme']);
      }
    }
    for (const parameter of [
      `tenantId=${tenant}&tenantId=${other}`,
      `tenantId[]=${other}`,
      `__proto__[tenantId]=${other}`,
    ]) {
      const [bearer] = await bearersOf(tenant);
      const response = await fetch(`${bridge.url}/tickets?${parameter}&access_token=${bearer?.token}`);
      assert.equal(response.status, 400, parameter);
      assert.ok(!(await response.text()).includes(canaryOf(other)));
    }
  }
});

test('nobody publishes for the other tenant', LIMIT, async () => {
  const [victim] = await bearersOf('acme');
  assert.ok(victim);
  const { cursor } = await answerOf('/events?tenantId=acme&after=now', [victim]);
  const mine = { event: 'leads.updated', payload: { tenantId: 'bolt' } };
  const theirs = { event: 'leads.updated', payload: { tenantId: 'acme', text: 'forged' } };
  const bodies = [theirs, { events: [mine, theirs] }, { events: [theirs, mine] }];
  for (const bearer of (await bearersOf('bolt')).filter(({ name }) => name !== 'service')) {
    for (const body of bodies) {
      const query = new URLSearchParams(bearer.pass === undefined ? {} : { pass: bearer.pass });
      const response = await fetch(`${bridge.url}/events?${query}`, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          ...(bearer.pass === undefined ? { authorization: `Bearer ${bearer.token}` } : {}),
        },
        body: JSON.stringify(body),
      });
      assert.equal(response.status, bearer.pass === undefined ? 403 : 401, bearer.name);
    }
  }
  const heard = await fetch(`${bridge.url}/events?tenantId=acme&after=${cursor}&access_token=${victim.token}`);
  assert.deepEqual(((await heard.json()) as { events: unknown[] }).events, []);
});

test('nobody erases what is of the other tenant, and a narrowed token nothing', LIMIT, async () => {
  await publishEverywhere('acme');
  const [owner] = await bearersOf('acme');
  const kept = async () => {
    const response = await fetch(`${bridge.url}/tickets?tenantId=acme&access_token=${owner?.token}`);
    return ((await response.json()) as { items: unknown[] }).items.length;
  };
  const before = await kept();
  assert.equal(before, TICKETS.length);
  const weaker = (await bearersOf('acme')).filter(({ name }) => /by |narrowed|publisher|pass|no tenant/.test(name));
  const strangers = (await bearersOf('bolt')).filter(({ name }) => name !== 'service');
  for (const bearer of [...strangers, ...weaker]) {
    for (const path of ['/tickets/1?tenantId=acme', '/tenants/acme?']) {
      const answer = await raw(`${path}&${new URLSearchParams(credentialQuery(bearer))}`, { method: 'DELETE' });
      assert.equal(answer.status, bearer.pass === undefined ? 403 : 401, `${bearer.name}: ${path}`);
    }
  }
  assert.equal(await kept(), before);
});

test('an idempotency key of the other tenant answers nothing of it', async () => {
  const body = (tenantId: string) => JSON.stringify({ event: 'leads.updated', payload: { tenantId } });
  const ids = new Set<string>();
  for (const tenantId of TENANTS) {
    const headers = {
      'content-type': 'application/json',
      'idempotency-key': 'same',
      authorization: `Bearer ${await sign({ tenantId, scope: 'publish', sub: 'u' })}`,
    };
    const response = await fetch(`${bridge.url}/events`, { method: 'POST', headers, body: body(tenantId) });
    assert.equal(response.status, 201);
    ids.add(((await response.json()) as { id: string }).id);
  }
  assert.equal(ids.size, 2);
});

/** A token that is no good, and what it is called. */
async function badTokens(): Promise<Record<string, string>> {
  const claims = { tenantId: 'acme', scope: 'subscribe publish admin', sub: 'u' };
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const confused = `${part({ alg: 'RS256' })}.${part(claims)}`;
  return {
    'alg none': `${part({ alg: 'none' })}.${part(claims)}.`,
    'alg of another key': `${confused}.${createHmac('sha256', SECRET).update(confused).digest('base64url')}`,
    'another secret': await sign(claims, 'another secret of thirty-two bytes'),
    expired: await sign({ ...claims, exp: nowS() - 60 }),
    'not yet valid': await sign({ ...claims, nbf: nowS() + 3600 }),
    'wrong claims': await sign({ ...claims, tenantId: ['acme', 1.5] }),
    '9 KB': await sign({ ...claims, pad: 'x'.repeat(9000) }),
    garbage: 'garbage',
    dots: '..',
  };
}

type Ask = { readonly method?: string; readonly headers?: OutgoingHttpHeaders; readonly body?: string };

/** `fetch` leaves no say over Origin, Cookie and Upgrade. Resolves on the response's head, also of a 101. */
function raw(path: string, { method = 'GET', headers = {}, body }: Ask) {
  return new Promise<{ status: number; headers: Headers; text: string }>((resolve, reject) => {
    const asked = request(bridge.url + path, { method, headers: { connection: 'close', ...headers }, agent: false });
    const facts = (response: { statusCode?: number | undefined; rawHeaders: string[] }) => {
      const pairs: [string, string][] = [];
      for (let index = 0; index < response.rawHeaders.length; index += 2) {
        pairs.push([response.rawHeaders[index] as string, response.rawHeaders[index + 1] as string]);
      }
      return { status: response.statusCode ?? 0, headers: new Headers(pairs) };
    };
    asked.on('upgrade', (response, socket) => {
      socket.destroy();
      resolve({ ...facts(response), text: '' });
    });
    asked.on('response', (response) => {
      let text = '';
      // A stream is let go of once its first bytes are there.
      const stream = response.headers['content-type']?.startsWith('text/event-stream') ?? false;
      response.setEncoding('utf8').on('data', (chunk) => {
        text += chunk;
        if (stream) asked.destroy();
      });
      response.on('close', () => resolve({ ...facts(response), text }));
    });
    asked.on('error', reject).end(body);
  });
}

const json = { 'content-type': 'application/json' };
const publishing = JSON.stringify({ event: 'leads.updated', payload: { tenantId: 'acme' } });
const ENTRANCES: Readonly<Record<string, Ask & { readonly path: string }>> = {
  sse: { path: '/sse?tenantId=acme' },
  events: { path: '/events?tenantId=acme' },
  'long poll': { path: '/events?tenantId=acme&after=now&wait=20' },
  publish: { path: '/events?', method: 'POST', headers: json, body: publishing },
  tickets: { path: '/tickets?tenantId=acme' },
  ticket: { path: '/tickets/1?tenantId=acme' },
  messages: { path: '/tickets/1/messages?tenantId=acme' },
  pass: { path: '/pass?', method: 'POST' },
  'erase a ticket': { path: '/tickets/1?tenantId=acme', method: 'DELETE' },
  'erase a tenant': { path: '/tenants/acme?', method: 'DELETE' },
};

test('a bad token opens no entrance, wherever it is put', LIMIT, async () => {
  await publishEverywhere('acme');
  const tokens = { ...(await badTokens()), none: '' };
  for (const [name, token] of Object.entries(tokens)) {
    const [bearer] = await bearersOf('acme');
    const places: Record<string, { headers?: OutgoingHttpHeaders; query?: string }> = {
      header: { headers: { authorization: `Bearer ${token}` } },
      query: { query: `access_token=${token}` },
      cookie: { headers: { cookie: `access_token=${token}` } },
      // A good cookie does not make up for a bad header.
      'header before a good cookie': {
        headers: token === '' ? {} : { authorization: `Bearer ${token}`, cookie: `access_token=${bearer?.token}` },
      },
      pass: { query: `pass=${token}` },
      'pass of a reconnect': { query: `pass=${token}`, headers: { 'last-event-id': 'x' } },
    };
    for (const [place, { headers = {}, query = '' }] of Object.entries(places)) {
      for (const [entrance, { path, ...ask }] of Object.entries(ENTRANCES)) {
        const where = `${entrance}, ${name} in ${place}`;
        const answer = await raw(`${path}&${query}`, { ...ask, headers: { ...ask.headers, ...headers } });
        assert.equal(answer.status, 401, where);
        assert.ok(!answer.text.includes(canaryOf('acme')) && !(token.length > 8 && answer.text.includes(token)), where);
      }
    }
    for (const auth of [{ token }, { pass: token }]) {
      for (const open of [openWebSocket, openPolling]) {
        const { frames, send, close } = await open();
        await until(() => frames.length > 0);
        send(`40${JSON.stringify(auth)}`);
        await until(() => frames.length > 1);
        const [, refusal = ''] = frames;
        const code = name === 'expired' && 'token' in auth ? 'token_expired' : 'unauthorized';
        assert.match(refusal, new RegExp(`^44\\{.*"code":"${code}"`), name);
        assert.ok(!frames.join('').includes(canaryOf('acme')));
        close();
      }
    }
  }
});

test('a pass mints no pass, publishes nothing, and is no bearer token', async () => {
  const bearers = await bearersOf('acme');
  const pass = bearers.find((bearer) => bearer.pass !== undefined)?.pass as string;
  for (const [entrance, { path, ...ask }] of Object.entries(ENTRANCES)) {
    const taken = ['sse', 'events'].includes(entrance);
    if (entrance !== 'long poll') {
      assert.equal((await raw(`${path}&pass=${pass}`, ask)).status, taken ? 200 : 401, entrance);
    }
    for (const headers of [{ authorization: `Bearer ${pass}` }, { cookie: `access_token=${pass}` }]) {
      assert.equal((await raw(path, { ...ask, headers: { ...ask.headers, ...headers } })).status, 401, entrance);
    }
  }
  for (const name of ['service', 'publisher', 'no tenant']) {
    const token = bearers.find((bearer) => bearer.name === name)?.token;
    const minted = await raw('/pass', { method: 'POST', headers: { authorization: `Bearer ${token}` } });
    assert.equal(minted.status, name === 'no tenant' ? 201 : 403, name);
  }
});

const UPGRADE = {
  connection: 'Upgrade',
  upgrade: 'websocket',
  'sec-websocket-version': '13',
  'sec-websocket-key': Buffer.alloc(16).toString('base64'),
};
const FOREIGN = ['https://evil.example', 'null', 'http://app.example', `${LISTED}.evil.example`, 'https://127.0.0.1:1'];

test('a foreign page gets no handshake and no use of the cookie', LIMIT, async () => {
  const token = await sign({ tenantId: 'acme', scope: 'subscribe publish admin', sub: 'u' });
  const cookie = `access_token=${token}`;
  const { origin: own, host } = new URL(bridge.url);
  const handshakes = async (headers: OutgoingHttpHeaders) => {
    const { frames, close } = await openPolling();
    const { sid } = JSON.parse((frames[0] as string).slice(1)) as { sid: string };
    const base = '/socket.io/?EIO=4&transport=';
    const statuses = [
      (await raw(`${base}polling`, { headers })).status,
      (await raw(`${base}polling&sid=${sid}`, { method: 'POST', body: '40', headers })).status,
      (await raw(`${base}websocket`, { headers: { ...UPGRADE, ...headers } })).status,
      (await raw(`${base}websocket&sid=${sid}`, { headers: { ...UPGRADE, ...headers } })).status,
    ];
    close();
    return statuses;
  };
  for (const origin of [LISTED, own]) {
    assert.deepEqual(await handshakes({ origin, cookie }), [200, 200, 101, 101], origin);
  }
  assert.deepEqual(await handshakes({}), [200, 200, 101, 101], 'no browser');
  for (const origin of FOREIGN) {
    assert.deepEqual(await handshakes({ origin, cookie }), [403, 403, 403, 403], origin);
    assert.deepEqual(await handshakes({ origin }), [403, 403, 403, 403], origin);
  }

  const cookieEntrances = Object.entries(ENTRANCES).filter(([name]) => name !== 'long poll' && name !== 'ticket');
  for (const [entrance, { path, ...ask }] of cookieEntrances) {
    const withHeaders = (headers: OutgoingHttpHeaders) =>
      raw(path, { ...ask, headers: { ...ask.headers, ...headers } });
    for (const origin of FOREIGN) {
      const answer = await withHeaders({ cookie, origin });
      assert.equal(answer.status, 403, `${entrance} from ${origin}`);
      assert.equal(answer.headers.get('access-control-allow-origin'), null);
      assert.equal(answer.headers.get('access-control-allow-credentials'), null);
    }
    for (const site of ['cross-site', 'same-site']) {
      assert.equal((await withHeaders({ cookie, 'sec-fetch-site': site })).status, 403, `${entrance}, ${site}`);
    }
    const listed = await withHeaders({ cookie, origin: LISTED });
    assert.ok(listed.status < 300, entrance);
    assert.equal(listed.headers.get('access-control-allow-origin'), LISTED, entrance);
    assert.equal(listed.headers.get('access-control-allow-credentials'), 'true', entrance);
    assert.match(listed.headers.get('vary') ?? '', /origin/i, entrance);
    assert.ok((await withHeaders({ cookie, origin: own, host })).status < 300, entrance);
    const refused = await withHeaders({ origin: LISTED });
    assert.equal(refused.status, 401);
    assert.equal(refused.headers.get('access-control-allow-origin'), LISTED, 'a page may read why it was refused');
  }
});

test('a token that ends ends what it opened: told first, then closed', LIMIT, async () => {
  const exp = nowS() + 3;
  const token = await sign({ tenantId: 'acme', scope: 'subscribe', sub: 'u', exp });
  const bearer: Bearer = { name: 'short', token, hears: () => true };
  const stream = async () => {
    const response = await fetch(`${bridge.url}/sse?tenantId=acme&access_token=${token}`);
    assert.match(await response.text(), /event: bridge\.error\n(?:.*\n)*?data: .*"code":"token_expired"/);
  };
  const socket = async (open: () => Wire | Promise<Wire>) => {
    const { frames, send, closed, close } = await open();
    await speakSocketIo(bearer, undefined, frames, send);
    await until(closed);
    assert.match(frames.join('\n'), /"bridge\.error",\{"code":"token_expired"/);
    assert.ok(!frames.some((frame) => frame.startsWith('41')), 'no disconnect packet: stock clients would stay away');
    close();
  };
  const poll = async () => {
    const response = await fetch(`${bridge.url}/events?tenantId=acme&after=now&wait=25&access_token=${token}`);
    const { cursor } = (await response.json()) as { cursor: string };
    await fetch(`${bridge.url}/events?tenantId=acme&after=${cursor}&wait=25&access_token=${token}`);
  };
  await Promise.all([stream(), socket(openWebSocket), socket(openPolling), poll()]);
  assert.ok(Date.now() / 1000 >= exp, 'not before its time');
  assert.ok(Date.now() / 1000 < exp + 5, 'protocol §11: at most 5 s after exp');
  assert.equal((await fetch(`${bridge.url}/sse?tenantId=acme&access_token=${token}`)).status, 401);
});
