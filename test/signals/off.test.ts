/** protocol §14 without SIGNALS: everything is as it was before there were signals. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startBridge, type TestBridge } from '../support/bridge.ts';
import { until } from '../support/until.ts';
import { active, type Heard, post, request, roomQuery, socketEar, TYPING } from './support.ts';

let bridge: TestBridge;
before(async () => {
  bridge = await startBridge({ extraEvents: ['leads.updated'] });
});
after(() => bridge.close());

test('Socket.IO knows no event signal, nor ticket:typing', async () => {
  const ear = await socketEar(bridge.url, ['ticket:1']);
  for (const event of ['signal', TYPING, 'ticket:typing']) {
    const { ok, code } = await ear.socket.emitWithAck(event, { event: TYPING, room: 'ticket:1', ticketId: '1' });
    assert.deepEqual({ ok, code }, { ok: false, code: 'unknown_event' }, event);
  }
  ear.socket.emit('signal', {});
  await until('it is told', () => ear.heard.some(({ event }) => event === 'bridge.error'));
  assert.equal(ear.heard.find(({ event }) => event === 'bridge.error')?.payload.code, 'unknown_event');
  ear.close();
});

test('POST /signals is unknown_event and names SIGNALS; GET /signals lists nothing', async () => {
  const { status, body } = await post(bridge, { event: TYPING, room: 'ticket:1' });
  assert.deepEqual({ status, code: body.code }, { status: 422, code: 'unknown_event' });
  assert.match(JSON.stringify(body), /SIGNALS/);
  for (const other of [{}, { event: 7 }, []]) assert.equal((await post(bridge, other)).body.code, 'unknown_event');
  assert.deepEqual(await active(bridge, ['ticket:1']), []);
});

test('`events` takes no signal, and a poll with signals=true waits for records as ever', async () => {
  for (const path of ['/sse', '/events']) {
    assert.equal((await request(bridge, `GET ${path}?${roomQuery(['ticket:1'], { events: TYPING })}`)).status, 400);
  }
  const waiting = request(bridge, `GET /events?${roomQuery(['ticket:1'], { wait: 20, signals: true })}`);
  await until('it waits', async () =>
    (await (await fetch(`${bridge.url}/metrics`)).text()).includes('roomcast_connections{transport="longpoll"} 1'),
  );
  await bridge.publish('leads.updated', { tenantId: 't', ticketId: '1' });
  assert.deepEqual(
    (await waiting).body.events.map(({ event }: Heard) => event),
    ['leads.updated'],
  );
});
