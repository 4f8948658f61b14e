/**
 * protocol §11 and §14: who may signal what, and who hears and lists it, against whole bridges. Two tenants with the same
 * ids; tokens of every make and scope try to signal in every room of both, over Socket.IO and by POST, and listen on every
 * transport. The small model below says which of it is accepted; who hears it is a question for test/support/oracle.ts.
 * Each signal holds a canary: nobody gets, or lists, a byte of one that they may not hear.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { SignJWT } from 'jose';
import {
  active,
  bearer as bearing,
  type Ear,
  type Json,
  listen,
  OLD_TYPING,
  post,
  request,
  SETTINGS,
  type SocketEar,
  socketEar,
  sseEar,
  TRANSPORTS,
  TYPING,
  VIEWING,
} from '../signals/support.ts';
import { startBridge, type TestBridge } from '../support/bridge.ts';
import { allKinds, mayHear, splitRoom } from '../support/oracle.ts';
import { createRandom } from '../support/random.ts';
import { missing, startRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';

const SECRET = 'a secret of thirty-two bytes or more';
const KINDS = { declared: ['queue', 'team'], claimed: ['team'] };
const TENANTS = ['acme', 'bolt'] as const;
/** Both tenants use every id. Some are the names of other rooms, tenants or members of objects. */
const IDS: Readonly<Record<string, readonly string[]>> = {
  tenant: [...TENANTS, 'ticket:1', '__proto__'],
  ticket: ['1', '7', 'acme', 'tenant:bolt', '__proto__', '*'],
  agreement: ['a', 'constructor'],
  user: ['u', 'v', 'u:acme'],
  queue: ['a', '7', 'tenant:acme'],
  team: ['red', 'blue', '*'],
};
const ROOMS = allKinds(KINDS).flatMap((kind) => (IDS[kind] as string[]).map((id) => `${kind}:${id}`));

type Claims = Readonly<Record<string, unknown>>;

/** What tokens claim beside `tenantId` and `sub: "u"`. */
const ROLES: Readonly<Record<string, Claims>> = {
  'agent who may signal': { scope: 'subscribe signal' },
  'another agent': { scope: 'signal subscribe', sub: 'v' },
  'agent without sub': { scope: 'subscribe signal', sub: undefined },
  listener: { scope: 'subscribe' },
  'service that publishes': { scope: 'publish' },
  'publisher that listens': { scope: 'publish subscribe' },
  'publisher that signals': { scope: 'publish signal' },
  'signal alone': { scope: 'signal' },
  'of no scope': { scope: undefined },
  'admin alone': { scope: 'admin metrics' },
  'of other scopes': { scope: 'signals subscribe:signal SIGNAL Publish' },
  'agent of a queue': { scope: 'subscribe signal', queueIds: ['a'] },
  'agent of a team': { scope: 'subscribe signal', teamIds: ['red'] },
  'agent of queue and team': { scope: 'subscribe signal', queueIds: [7], teamIds: '*' },
  customer: { scope: 'subscribe signal', ticketIds: ['1', '__proto__'] },
  'customer by number': { scope: 'subscribe signal', ticketIds: 7, sub: 'u:acme' },
  'narrowed to nothing': { scope: 'subscribe signal', ticketIds: [] },
  'narrowed publisher': { scope: 'publish', ticketIds: ['1'] },
  agency: { scope: 'subscribe signal', tenantId: [...TENANTS], teamIds: ['red'] },
  'agency that publishes': { scope: 'publish', tenantId: [...TENANTS] },
  'service for all': { scope: 'publish', tenantId: '*' },
  'signals for all': { scope: 'subscribe signal', tenantId: '*' },
  'metrics for all': { scope: 'metrics', tenantId: '*' },
  'of no tenant': { scope: 'subscribe signal publish', tenantId: undefined },
};

interface Holder {
  readonly name: string;
  readonly claims: Claims;
  readonly token: string;
}

const sign = (claims: Claims): Promise<string> =>
  new SignJWT({ ...claims }).setProtectedHeader({ alg: 'HS256' }).sign(Buffer.from(SECRET));

type Outcome = 'accepted' | 'forbidden' | 'invalid_signal';

/**
 * The model: what becomes of a signal (protocol §14).
 * @param tenant as the sender names it, or null
 */
function expected(claims: Claims, room: string, tenant: string | null): { outcome: Outcome; tenant: string | null } {
  const scopes = String(claims.scope ?? '').split(' ');
  const own = Array.isArray(claims.tenantId)
    ? (claims.tenantId as string[])
    : claims.tenantId === undefined
      ? []
      : [claims.tenantId as string];
  if (!scopes.includes('signal') && !scopes.includes('publish')) return { outcome: 'forbidden', tenant };
  if (own.length === 0) return { outcome: 'forbidden', tenant };
  const isForAll = claims.tenantId === '*';
  if (tenant === null && (isForAll || own.length > 1)) return { outcome: 'invalid_signal', tenant };
  const of = tenant ?? (own[0] as string);
  const { kind, id } = splitRoom(room);
  const publishes = scopes.includes('publish') && (isForAll || own.includes(of));
  if (publishes && kind === 'tenant' && id !== of) return { outcome: 'invalid_signal', tenant: of };
  const signals = scopes.includes('signal') && mayHear(claims, of, room, KINDS);
  return { outcome: publishes || signals ? 'accepted' : 'forbidden', tenant: of };
}

interface Sent {
  readonly canary: string;
  readonly tenant: string;
  readonly room: string;
  readonly by: string;
  /** Longer than the test takes. */
  readonly lasts: boolean;
}

const CANARY = /«\d+»/g;
const canariesIn = (text: string): string[] => [...new Set(text.match(CANARY))];

function crossing(every: number, start: () => Promise<{ nodes: TestBridge[]; stop: () => Promise<void> }>): void {
  const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
  const random = createRandom(seed);
  let nodes: TestBridge[] = [];
  let stop = async (): Promise<void> => {};
  const holders: Holder[] = [];
  const sent: Sent[] = [];
  const refused: string[] = [];
  let count = 0;

  before(async () => {
    ({ nodes, stop } = await start());
    for (const tenant of TENANTS) {
      for (const [name, role] of Object.entries(ROLES)) {
        const claims = { tenantId: tenant, sub: 'u', ...role };
        holders.push({ name: `${name} of ${tenant}`, claims, token: await sign(claims) });
      }
    }
  });
  after(() => stop());

  const node = (): TestBridge => random.pick(nodes);
  const openTo = (claims: Claims): string[] =>
    ROOMS.filter((room) => TENANTS.some((tenant) => mayHear(claims, tenant, room, KINDS)));
  const hears = (claims: Claims, { tenant, room }: Sent): boolean => mayHear(claims, tenant, room, KINDS);

  /** One signal, by one of the forms; checks the answer against the model. */
  async function send(holder: Holder, socket: SocketEar | null, room: string, tenant: string | null): Promise<void> {
    const canary = `«${++count}»`;
    const { kind, id } = splitRoom(room);
    const own = socket !== null && kind !== 'tenant' && random.chance(0.4);
    const event = random.pick([TYPING, VIEWING, OLD_TYPING]);
    const named = tenant === null ? {} : { tenantId: tenant };
    const isNumber = /^\d+$/.test(id) && random.chance(0.5);
    const signal = { event, room, payload: { canary }, ttlSeconds: 120, ...named };
    const what = `${holder.name}, ${socket === null ? 'POST' : own ? 'own name' : 'signal'}: ${room} of ${tenant} (seed ${seed})`;
    let outcome: string;
    if (socket === null) {
      const { status, body } = await post(node(), { ...signal, client: `c${count}` }, holder.token);
      outcome = status === 202 ? 'accepted' : (body.code as string);
      assert.equal(status, outcome === 'accepted' ? 202 : outcome === 'forbidden' ? 403 : 422, what);
    } else {
      const ack: Json = own
        ? await socket.socket.emitWithAck(event, { [`${kind}Id`]: isNumber ? Number(id) : id, canary, ...named })
        : await socket.socket.emitWithAck('signal', signal);
      outcome = ack.ok === true ? 'accepted' : String(ack.code);
    }
    const model = expected(holder.claims, room, tenant);
    assert.equal(outcome, model.outcome, what);
    if (outcome === 'accepted')
      sent.push({ canary, tenant: model.tenant as string, room, by: holder.name, lasts: !own });
    else refused.push(canary);
  }

  test(`everybody signals where they may, and is heard by whom it concerns (seed ${seed})`, {
    timeout: 120_000,
  }, async () => {
    const ears: { readonly ear: Ear; readonly holder: Holder; readonly rooms: readonly string[] }[] = [];
    const sockets: SocketEar[] = [];
    try {
      // Who joins before the signals are sent, on every transport.
      for (const [index, holder] of holders.entries()) {
        const rooms = openTo(holder.claims);
        if (rooms.length === 0 || (index + seed) % every !== 0) continue;
        for (const transport of TRANSPORTS) {
          const isSocket = transport === 'websocket' || transport === 'polling';
          const auth = isSocket ? { token: holder.token } : { access_token: holder.token };
          ears.push({ ear: await listen(transport, node(), rooms, { auth }), holder, rooms });
        }
      }
      for (const holder of holders) {
        const listens = openTo(holder.claims).length > 0;
        const socket = listens ? await socketEar(node().url, [], { auth: { token: holder.token } }) : null;
        if (socket !== null) sockets.push(socket);
        for (const room of ROOMS) {
          for (const tenant of [null, ...TENANTS]) {
            if (random.chance(1 - 1 / every)) continue;
            await send(holder, socket !== null && random.chance(0.6) ? socket : null, room, tenant);
          }
        }
      }
      const accepted = new Map(sent.map((each) => [each.canary, each]));
      assert.ok(sent.length > 100 && refused.length > sent.length, `${sent.length} sent, ${refused.length} refused`);
      const all = (ear: Ear): string[] => canariesIn(JSON.stringify(ear.heard));
      for (const { ear, holder } of ears) {
        const owed = sent.filter((each) => hears(holder.claims, each)).map(({ canary }) => canary);
        if (ear.transport !== 'longpoll') {
          await until(`${ear.transport}, ${holder.name}: ${owed.length}`, () => all(ear).length >= owed.length).catch(
            () => {},
          );
          const lacks = owed.filter((canary) => !all(ear).includes(canary)).map((canary) => accepted.get(canary));
          assert.deepEqual(lacks, [], `${ear.transport}, ${holder.name} (seed ${seed})`);
          assert.equal(ear.signals().length, owed.length, 'each once');
        }
        for (const canary of all(ear))
          assert.ok(owed.includes(canary), `${ear.transport}, ${holder.name}: ${JSON.stringify(accepted.get(canary))}`);
      }
      // Who joins now gets what is active and no more, and lists the same. There is one of each event, room and sender.
      for (const [index, holder] of holders.entries()) {
        const rooms = openTo(holder.claims);
        if (rooms.length === 0 || (index + seed) % every !== 0) continue;
        const mine = sent.filter((each) => hears(holder.claims, each)).map(({ canary }) => canary);
        const at = random.pick(nodes);
        const listed = await active(at, rooms, { access_token: holder.token });
        for (const { payload, room } of listed) {
          const canary = String(payload.canary);
          assert.ok(mine.includes(canary), `${holder.name} lists ${JSON.stringify(accepted.get(canary))}`);
          assert.equal(accepted.get(canary)?.room, room);
        }
        const late = [
          await socketEar(at.url, rooms, { auth: { token: holder.token } }),
          await sseEar(at.url, rooms, { auth: { access_token: holder.token } }),
        ];
        for (const ear of late) {
          const lasting = (canary: string): boolean => accepted.get(canary)?.lasts === true;
          const owed = listed.map(({ payload }) => String(payload.canary)).filter(lasting);
          const lacks = () => owed.filter((canary) => !all(ear).includes(canary));
          await until(`${holder.name} has all`, () => lacks().length === 0).catch(() => {});
          assert.deepEqual(lacks(), [], `${ear.transport}, ${holder.name}`);
          for (const canary of all(ear))
            assert.ok(mine.includes(canary), `${ear.transport}, ${holder.name}: ${canary}`);
          ear.close();
        }
        const pass = await request(at, 'POST /pass', undefined, bearing(holder.token));
        if (pass.status === 201) {
          const seen = (await active(at, rooms, { pass: pass.body.pass })).map(({ payload }) => String(payload.canary));
          const owed = listed
            .map(({ payload }) => String(payload.canary))
            .filter((canary) => accepted.get(canary)?.lasts);
          assert.deepEqual(
            owed.filter((canary) => !seen.includes(canary)),
            [],
          );
          for (const canary of seen) assert.ok(mine.includes(canary), canary);
        }
        for (const room of ROOMS.filter((each) => !rooms.includes(each))) {
          const { kind, id } = splitRoom(room);
          const { status, body } = await request(
            at,
            `GET /signals?${kind}Id=${encodeURIComponent(id)}&access_token=${holder.token}`,
          );
          assert.equal(status, 403, `${holder.name} asks for ${room}`);
          assert.deepEqual(canariesIn(JSON.stringify(body)), []);
        }
      }
      for (const holder of holders.filter(({ claims }) => openTo(claims).length === 0)) {
        for (const room of ['ticket:1', 'user:u', 'tenant:acme', 'team:red']) {
          const { kind, id } = splitRoom(room);
          const { status, body } = await request(node(), `GET /signals?${kind}Id=${id}&access_token=${holder.token}`);
          assert.equal(status, 403, holder.name);
          assert.deepEqual(canariesIn(JSON.stringify(body)), []);
        }
      }
      for (const socket of sockets) assert.deepEqual(canariesIn(JSON.stringify(socket.heard)), [], 'in no room');
    } finally {
      for (const { ear } of ears) ear.close();
      for (const socket of sockets) socket.close();
    }
  });
}

const JWT = { ...SETTINGS, authMode: 'jwt', jwtSecret: SECRET, rateJoins: 100_000, heartbeatMs: 60_000 } as const;

describe('signals cross no border on SQLite', () =>
  crossing(2, async () => {
    const bridge = await startBridge(JWT);
    return { nodes: [bridge], stop: () => bridge.close() };
  }));

describe('signals cross no border on Redis, two nodes', { skip: missing('redis-server') }, () =>
  crossing(4, async () => {
    const redis = await startRedis();
    const nodes = [
      await startBridge({ ...JWT, storeUrl: redis.url }),
      await startBridge({ ...JWT, storeUrl: redis.url }),
    ];
    return {
      nodes,
      async stop() {
        for (const each of nodes) await each.close();
        await redis.stop();
      },
    };
  }),
);

describe('one by one', () => {
  let bridge: TestBridge;
  before(async () => {
    bridge = await startBridge(JWT);
  });
  after(() => bridge.close());
  const nowS = () => Math.floor(Date.now() / 1000);
  const agent = (claims: Claims = {}) => sign({ tenantId: 'acme', sub: 'u', scope: 'subscribe signal', ...claims });
  const signal = { event: TYPING, room: 'ticket:1' };

  test('a connection with a pass hears and never signals', async () => {
    const minted = await request(
      bridge,
      'POST /pass',
      undefined,
      bearing(await agent({ scope: 'subscribe signal publish' })),
    );
    const socket = await socketEar(bridge.url, ['ticket:1'], { auth: { pass: minted.body.pass } });
    const own = await socket.socket.emitWithAck(TYPING, { ticketId: '1' });
    const named = await socket.socket.emitWithAck('signal', signal);
    assert.deepEqual([own.code, named.code], ['forbidden', 'forbidden']);
    assert.match(named.error, /signal/);
    await post(bridge, { ...signal, payload: { n: 1 } }, await agent());
    await until('it hears', () => socket.signals().length === 1);
    socket.close();
  });

  test('the scope comes from JWT_DEFAULT_SCOPE where the token has none', async () => {
    const other = await startBridge({ ...JWT, jwtDefaultScope: ['subscribe', 'signal'] });
    assert.equal((await post(other, signal, await sign({ tenantId: 'acme', sub: 'u' }))).status, 202);
    assert.equal((await post(other, signal, await sign({ tenantId: 'acme', sub: 'u', type: 'refresh' }))).status, 403);
    assert.equal((await post(other, signal, await sign({ tenantId: 'acme', sub: 'u', scope: '' }))).status, 403);
    await other.close();
  });

  test('a token that expires while its connection is open signals no more', async () => {
    const socket = await socketEar(bridge.url, [], { auth: { token: await agent({ exp: nowS() + 1 }) } });
    const errors: string[] = [];
    socket.socket.on('bridge.error', ({ code }: { code: string }) => errors.push(code));
    assert.equal((await socket.socket.emitWithAck('signal', signal)).ok, true);
    socket.socket.io.reconnection(false);
    await until('it is closed', () => !socket.socket.connected, 20_000);
    assert.ok(errors.includes('token_expired'));
    socket.close();
  });

  test('a revoked token signals no more, its connection is closed, and its signals end', async () => {
    const token = await agent({ jti: 'stolen', iat: nowS() - 60 });
    const ear = await sseEar(bridge.url, ['ticket:9'], { auth: { access_token: await agent({ sub: 'v' }) } });
    const socket = await socketEar(bridge.url, ['ticket:9'], { auth: { token } });
    assert.equal(
      (await socket.socket.emitWithAck('signal', { ...signal, room: 'ticket:9', ttlSeconds: 120 })).ok,
      true,
    );
    await until('it is heard', () => ear.signals().length === 1);
    socket.socket.io.reconnection(false);
    const admin = await sign({ tenantId: '*', sub: 'root', scope: 'admin' });
    assert.equal((await request(bridge, 'POST /revocations', { jti: 'stolen' }, bearing(admin))).status, 201);
    await until('it is closed', () => !socket.socket.connected);
    const { status, body } = await post(bridge, { ...signal, room: 'ticket:9' }, token);
    assert.deepEqual({ status, code: body.code }, { status: 401, code: 'token_revoked' });
    assert.equal((await request(bridge, 'GET /signals?ticketId=9', undefined, bearing(token))).status, 401);
    await until('its signal ends', () => ear.signals().at(-1)?.payload.ttlSeconds === 0, 20_000);
    ear.close();
    socket.close();
  });

  test('a token that lost one of its tenants signals in the other', async () => {
    const token = await agent({ tenantId: [...TENANTS], sub: 'both', iat: nowS() - 60 });
    const admin = await sign({ tenantId: '*', sub: 'root', scope: 'admin' });
    assert.equal(
      (await request(bridge, 'POST /revocations', { sub: 'both', tenantId: 'bolt' }, bearing(admin))).status,
      201,
    );
    assert.equal((await post(bridge, { ...signal, tenantId: 'acme' }, token)).status, 202);
    assert.equal((await post(bridge, { ...signal, tenantId: 'bolt' }, token)).status, 403);
  });

  test('a body that takes long is judged by the token as it is at its end', async () => {
    const token = await agent({ jti: 'slow', iat: nowS() - 60 });
    const admin = await sign({ tenantId: '*', sub: 'root', scope: 'admin' });
    let finish = (): void => {};
    const body = new ReadableStream({
      start(controller) {
        const text = JSON.stringify({ ...signal, room: 'ticket:slow' });
        controller.enqueue(Buffer.from(text.slice(0, 10)));
        finish = () => {
          controller.enqueue(Buffer.from(text.slice(10)));
          controller.close();
        };
      },
    });
    const answer = fetch(`${bridge.url}/signals`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...bearing(token) },
      body,
      duplex: 'half',
    } as RequestInit);
    await request(bridge, 'POST /revocations', { jti: 'slow' }, bearing(admin));
    finish();
    assert.equal((await answer).status, 401);
    assert.deepEqual(await active(bridge, ['ticket:slow'], { access_token: await agent() }), []);
  });

  test('nobody ends or replaces a signal of another sender', async () => {
    const [ana, bob] = [await agent({ sub: 'ana' }), await agent({ sub: 'bob' })];
    const room = 'ticket:owned';
    const socket = await socketEar(bridge.url, [], { auth: { token: ana } });
    await socket.socket.emitWithAck('signal', { event: TYPING, room, payload: { n: 'socket' }, ttlSeconds: 120 });
    await post(bridge, { event: TYPING, room, payload: { n: 'post' }, client: 'tab', ttlSeconds: 120 }, ana);
    const senders = (await active(bridge, [room], { access_token: ana })).map(({ sender }) => sender);
    for (const client of ['tab', undefined, ...senders, senders.map((sender) => sender.replace(/\.tab$/, ''))[1]]) {
      const fits = client === undefined || client.length <= 64;
      const { status } = await post(bridge, { event: TYPING, room, ttlSeconds: 0, ...(fits ? { client } : {}) }, bob);
      assert.equal(status, 202);
    }
    const same = await sign({ tenantId: 'bolt', sub: 'ana', scope: 'subscribe signal' });
    await post(bridge, { event: TYPING, room, ttlSeconds: 0, client: 'tab' }, same);
    const left = await active(bridge, [room], { access_token: bob });
    assert.deepEqual(left.map(({ payload }) => payload.n).sort(), ['post', 'socket']);
    socket.close();
  });

  test('a stolen session id gives no name and no signal of its owner', async () => {
    const room = 'ticket:theft';
    const owner = await socketEar(bridge.url, [room], { auth: { token: await agent({ sub: 'ana' }) } });
    const pid = Reflect.get(owner.socket, '_pid');
    const offset = Reflect.get(owner.socket, '_lastOffset');
    await owner.socket.emitWithAck('signal', { event: TYPING, room, payload: { n: 1 }, ttlSeconds: 120 });
    const thief = await socketEar(bridge.url, [], { auth: { token: await agent({ sub: 'bob' }), pid, offset } });
    assert.notEqual(thief.socket.id, owner.socket.id);
    assert.deepEqual(thief.signals(), []);
    await thief.socket.emitWithAck('signal', { event: TYPING, room, ttlSeconds: 0 });
    assert.equal((await active(bridge, [room], { access_token: await agent() })).length, 1);
    owner.close();
    thief.close();
  });
});
