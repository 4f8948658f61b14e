/** Room kinds that an operator declares, over HTTP: the rooms of a query, what a caller sees of them, events, metrics. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { SignJWT } from 'jose';
import type { Config } from '../../src/config.ts';
import { messageNew, metric, startBridge, type TestBridge, ticketUpdated } from '../support/bridge.ts';

const SECRET = 'a secret of thirty-two bytes or more';

interface Page {
  readonly events: { readonly event: string; readonly rooms: string[]; readonly payload: { ticketId: string } }[];
  readonly items: { readonly ticketId: string }[];
  readonly detail: string;
  readonly errors: { readonly path: string; readonly message: string }[];
}

async function start(context: TestContext, options: Partial<Config> = {}) {
  const bridge = await startBridge(options);
  context.after(() => bridge.close());
  const ask = async (path: string, token?: string): Promise<{ status: number; body: Page }> => {
    const response = await fetch(
      bridge.url + path,
      token === undefined ? {} : { headers: { authorization: `Bearer ${token}` } },
    );
    return { status: response.status, body: (await response.json()) as Page };
  };
  return { bridge, ask };
}

const sign = (claims: Record<string, unknown>): Promise<string> =>
  new SignJWT({ tenantId: 'acme', scope: 'subscribe', ...claims })
    .setProtectedHeader({ alg: 'HS256' })
    .sign(new TextEncoder().encode(SECRET));

const publish = (bridge: TestBridge, ticketId: string, rooms: string[] | null, more: object = {}) =>
  bridge.publish('tickets.updated', ticketUpdated({ tenantId: 'acme', ticketId, agreementId: null, ...more }), {
    rooms,
  });

test('declared kinds are fields of the query; a kind that is not declared is an unknown parameter', async (context) => {
  const { bridge, ask } = await start(context, { roomKinds: ['queue'], maxRooms: 3 });
  await publish(bridge, '1', null, { queueId: 7 });
  await publish(bridge, '2', ['queue:8']);
  const { body } = await ask('/events?queueId=7,8');
  assert.deepEqual(
    body.events.map(({ rooms }) => rooms),
    [['tenant:acme', 'ticket:1', 'queue:7'], ['queue:8']],
  );
  for (const path of ['/events', '/sse']) {
    assert.equal((await ask(`${path}?queueId=1,2,3&tenantId=acme`)).status, 400, 'too many rooms');
    assert.deepEqual((await ask(`${path}?queuId=7`)).body.errors[0]?.path, 'queuId');
    assert.match((await ask(`${path}?teamId=7`)).body.detail, /teamId/);
    const { body: none } = await ask(path);
    assert.match(none.detail, /tenantId, ticketId, agreementId, userId, queueId is required/);
  }
  for (const path of ['/events', '/sse', '/tickets', '/tickets/1', '/tickets/1/messages']) {
    const { status, body: refusal } = await ask(`${path}?tenantId=*`);
    assert.deepEqual([status, refusal.errors[0]?.path], [400, 'tenantId'], path);
    assert.match(refusal.errors[0]?.message ?? '', /no tenant is named \*/);
  }
});

test('a caller sees of a record the rooms that it may hear, and of the state what it may hear', async (context) => {
  const kinds = { roomKinds: ['queue'], claimedRoomKinds: ['team'] };
  const { bridge, ask } = await start(context, { authMode: 'jwt', jwtSecret: SECRET, ...kinds });
  const lead = await sign({ sub: 'lea' });
  const agent = await sign({ sub: 'ana', queueIds: ['a'], teamIds: ['gold'] });
  const customer = await sign({ ticketIds: ['1'] });
  await publish(bridge, '1', ['tenant:acme', 'ticket:1', 'queue:a', 'queue:b', 'team:gold', 'user:ana']);
  await publish(bridge, '2', ['queue:b']);
  await publish(bridge, '3', ['team:gold']);
  await publish(bridge, '4', ['user:ana']);
  const roomsOf = async (query: string, token: string) =>
    (await ask(`/events?${query}`, token)).body.events.map(({ rooms }) => rooms);
  assert.deepEqual(await roomsOf('queueId=a,b&tenantId=acme', lead), [
    ['tenant:acme', 'ticket:1', 'queue:a', 'queue:b'],
    ['queue:b'],
  ]);
  assert.deepEqual(await roomsOf('queueId=a&teamId=gold&userId=ana', agent), [
    ['queue:a', 'team:gold', 'user:ana'],
    ['team:gold'],
    ['user:ana'],
  ]);
  assert.deepEqual(await roomsOf('ticketId=1', customer), [['ticket:1']]);
  for (const [query, token] of [
    ['queueId=b', agent],
    ['tenantId=acme', agent],
    ['queueId=a,b', agent],
    ['teamId=gold', lead],
    ['queueId=a', customer],
  ] as const) {
    for (const path of ['/events', '/sse']) assert.equal((await ask(`${path}?${query}`, token)).status, 403, query);
  }
  const ticketsOf = async (token: string) =>
    (await ask('/tickets?tenantId=acme', token)).body.items.map(({ ticketId }) => ticketId).sort();
  assert.deepEqual(await Promise.all([lead, agent, customer].map(ticketsOf)), [['1', '2'], ['1', '3', '4'], ['1']]);
});

test('the filter knows the changes of messages and their alias; declared ones stay declared', async (context) => {
  const change = { ...messageNew({ tenantId: 'acme' }), messageUpdatedAt: '2024-06-01T12:00:01.000Z' };
  const namesOf = async (bridge: TestBridge, query: string) => {
    const body = (await (await fetch(`${bridge.url}/events?tenantId=acme&legacy=true&${query}`)).json()) as Page;
    return body.events?.map(({ event }) => event) ?? body.detail;
  };
  const { bridge: canonical } = await start(context);
  await canonical.publish('messages.updated', change);
  await canonical.publish('messages.deleted', change);
  assert.deepEqual(await namesOf(canonical, ''), ['message:updated', 'messages.updated', 'messages.deleted']);
  assert.deepEqual(await namesOf(canonical, 'events=message:updated,messages.deleted'), [
    ...['message:updated', 'messages.deleted'],
  ]);
  assert.match(String(await namesOf(canonical, 'events=message.update')), /did you mean/);
  await assert.rejects(canonical.publish('messages.updated', { tenantId: 'acme' }), { code: 'invalid_payload' });

  const { bridge: declared } = await start(context, { extraEvents: ['messages.updated'] });
  const { rooms } = await declared.publish('messages.updated', { tenantId: 'acme', userId: 'u', messageStatus: 'odd' });
  assert.deepEqual(rooms, ['tenant:acme', 'user:u'], 'no checks, and the rooms of a declared event');
  assert.deepEqual(await namesOf(declared, ''), ['messages.updated']);
  assert.deepEqual(await namesOf(declared, 'events=messages.updated'), ['messages.updated']);
});

test('metrics count the rooms of the record, and METRICS_MAX_ROOMS holds for each kind', async (context) => {
  const { bridge } = await start(context, { roomKinds: ['queue'], metricsMaxRooms: 2 });
  await publish(bridge, '1', ['queue:1', 'queue:2', 'queue:3', 'queue:4', 'user:ana']);
  await publish(bridge, '1', ['queue:4', 'queue:1']);
  const count = (event: string, room: string) => metric(bridge, `ws_emit_total{event="${event}",room="${room}"}`);
  for (const event of ['tickets.updated', 'ticket.updated']) {
    assert.deepEqual(
      await Promise.all(
        ['queue:1', 'queue:2', 'queue:3', 'queue:*', 'user:ana', 'ticket:1'].map((room) => count(event, room)),
      ),
      [2, 1, 0, 3, 1, 0],
    );
  }
});
