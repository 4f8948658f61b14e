/** The client library with room kinds that the operator declares, and with joins of several rooms. */
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { type ConnectOptions, connect, type Live, type RoomcastEvents } from '../../src/client/client.ts';
import { metric, startBridge, type TestBridge, ticketUpdated } from '../support/bridge.ts';
import { until } from '../support/until.ts';

let bridge: TestBridge;
before(async () => {
  bridge = await startBridge({ roomKinds: ['queue', 'team'], heartbeatMs: 250 });
});
after(() => bridge.close());

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

let count = 0;
const fresh = (name: string): string => `${name}-${++count}`;

function listen(options: Omit<ConnectOptions<'queue' | 'team'>, 'url'>) {
  const live: Live<RoomcastEvents, 'queue' | 'team'> = connect({ url: bridge.url, heartbeatMs: 250, ...options });
  closing.push(live.close);
  const heard: string[] = [];
  const replayed: string[] = [];
  live.on('tickets.updated', (_payload, { cursor, replay }) => (replay ? replayed : heard).push(cursor));
  return { live, heard, replayed };
}

const publish = async (ids: Record<string, unknown>): Promise<string> =>
  (await bridge.publish('tickets.updated', ticketUpdated({ tenantId: fresh('t'), agreementId: null, ...ids }))).id;

for (const transport of ['websocket', 'sse', 'poll'] as const) {
  test(`over ${transport}, rooms of declared kinds are joined as one, and left`, async () => {
    const [a, b, team, ticketId] = [fresh('a'), fresh('b'), fresh('team'), fresh('ticket')];
    // In the order of the log, whatever the room; the third one is in two of them.
    const history = [
      await publish({ queueId: b }),
      await publish({ ticketId }),
      await publish({ queueId: b, teamId: team }),
      await publish({ teamId: team }),
      await publish({ queueId: b }),
    ];
    const { live, heard, replayed } = listen({ rooms: { queueId: a }, transports: [transport, 'poll'] });
    await until('live', () => live.status.transport === transport);
    const inA = await publish({ queueId: a });
    await until('heard in queue a', () => heard.includes(inA));

    const joinedAt = await live.join({ queueId: [a, b, b], teamId: team, ticketId }, { after: 'start' });
    assert.deepEqual(replayed, history);
    assert.ok(joinedAt >= inA);
    const expected = [inA, await publish({ teamId: team }), await publish({ queueId: a, ticketId })];
    await until('heard live', () => heard.length === expected.length);

    await live.leave({ teamId: team, ticketId });
    await publish({ teamId: team });
    expected.push(await publish({ queueId: b }));
    await until('heard after leave', () => heard.includes(expected.at(-1) as string));
    assert.deepEqual(heard, expected);
  });
}

test('a join of several rooms is all or none: a kind that is not declared refuses it, and the client continues', async () => {
  const queueId = fresh('q');
  const { live, heard, replayed } = listen({ rooms: { queueId } });
  await until('live', () => live.status.transport === 'websocket');
  const [ticketId, missed] = [fresh('ticket'), fresh('missed')];
  await publish({ ticketId });
  // As JavaScript passes it.
  const rooms: object = { ticketId, kueueId: missed };
  await assert.rejects(live.join(rooms, { after: 'start' }), {
    code: 'unknown_parameter',
    message: /kueueId.*queueId/,
  });
  await publish({ ticketId });
  const { id } = await bridge.publish('tickets.updated', { ...ticketUpdated({ agreementId: null }), queueId });
  await until('heard', () => heard.length > 0);
  assert.deepEqual([heard, replayed], [[id], []]);

  const typo = connect({ url: bridge.url, rooms: rooms });
  closing.push(typo.close);
  await until('closed', () => typo.status.state === 'closed');
  assert.match(typo.status.error?.message ?? '', /kueueId/);
});

test('a websocket joins many rooms at once, whatever the limit of joins a second', async () => {
  const slow = await startBridge({ rateJoins: 1, roomKinds: ['queue'] });
  closing.push(slow.close);
  const queueId = Array.from({ length: 50 }, (_, index) => `q-${index}`);
  const live = connect<RoomcastEvents, 'queue'>({ url: slow.url, rooms: { queueId } });
  closing.push(live.close);
  const heard: string[] = [];
  live.on('tickets.updated', (_payload, { cursor }) => heard.push(cursor));
  await until('live', () => live.status.transport === 'websocket');
  const { id } = await slow.publish('tickets.updated', { ...ticketUpdated(), queueId: 'q-49' });
  await until('heard', () => heard.length > 0);
  assert.deepEqual(heard, [id]);
  assert.equal(await metric(slow, 'roomcast_refused_total{code="rate_limited"}'), 0);
});
