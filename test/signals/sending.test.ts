/** protocol §14, the sender's side: each way to send a signal, each limit at its edge, and each refusal with its code. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { metric, startBridge, type TestBridge } from '../support/bridge.ts';
import { until } from '../support/until.ts';
import { openPolling, openWebSocket } from '../support/wires.ts';
import {
  type Answer,
  active,
  freshRoom,
  type Json,
  OLD_TYPING,
  ownMembers,
  post,
  SETTINGS,
  type SocketEar,
  settle,
  socketEar,
  sseEar,
  TYPING,
  VIEWING,
} from './support.ts';

let bridge: TestBridge;
let sender: SocketEar;
before(async () => {
  bridge = await startBridge(SETTINGS);
  sender = await socketEar(bridge.url, []);
});
after(async () => {
  sender.close();
  await bridge.close();
});

/** As Socket.IO acknowledges it. */
const emit = (event: string, ...args: unknown[]): Promise<Json> =>
  sender.socket.timeout(5_000).emitWithAck(event, ...args);
const idOf = (room: string): string => room.slice(room.indexOf(':') + 1);

/** An object of exactly this many bytes of JSON text. */
function objectOf(bytes: number, filling = 'x'): Json {
  const frame = Buffer.byteLength('{"text":""}');
  const one = Buffer.byteLength(filling);
  const many = Math.floor((bytes - frame) / one);
  return { text: filling.repeat(many) + 'x'.repeat(bytes - frame - many * one) };
}

describe('the forms', () => {
  test('signal, with an acknowledgement', async () => {
    const room = freshRoom();
    const ear = await sseEar(bridge.url, [room]);
    assert.deepEqual(await emit('signal', { event: TYPING, room, payload: { n: 1 } }), { ok: true });
    await until('it is heard', () => ear.signals().length === 1);
    assert.deepEqual(ear.signals()[0]?.payload, { n: 1, room, from: null, sender: sender.socket.id, ttlSeconds: 10 });
    ear.close();
  });

  test('signal, without a callback', async () => {
    const room = freshRoom();
    const ear = await sseEar(bridge.url, [room]);
    sender.socket.emit('signal', { event: TYPING, room, ttlSeconds: 20 });
    await until('it is heard', () => ear.signals().length === 1);
    assert.deepEqual(ear.signals()[0]?.payload, { room, from: null, sender: sender.socket.id, ttlSeconds: 20 });
    ear.close();
  });

  test('the own name of a signal, as the original application emits it', async () => {
    const room = freshRoom();
    const ear = await sseEar(bridge.url, [room]);
    const payload = { ticketId: idOf(room), name: 'Ana', deep: { list: [1, null] } };
    assert.deepEqual(await emit(OLD_TYPING, payload), { ok: true });
    sender.socket.emit(OLD_TYPING, { ticketId: idOf(room), n: 2 });
    await until('both are heard', () => ear.signals().length === 2);
    const added = { room, from: null, sender: sender.socket.id, ttlSeconds: 10 };
    assert.equal(ear.signals()[0]?.event, OLD_TYPING);
    assert.deepEqual(ear.signals()[0]?.payload, { ...payload, ...added });
    assert.deepEqual(ear.signals()[1]?.payload, { ticketId: idOf(room), n: 2, ...added });
    ear.close();
  });

  test('the room of the own-name form is that of the first of ticketId, declared kinds, agreementId, userId', async () => {
    const all = { ticketId: 'T', queueId: 'Q', teamId: 'M', agreementId: 'A', userId: 'U', tenantId: 'X' };
    const steps: [Json, string][] = [
      [all, 'ticket:T'],
      [{ ...all, ticketId: null }, 'queue:Q'],
      [{ ...all, ticketId: '', queueId: null }, 'team:M'],
      [{ agreementId: 'A', userId: 'U' }, 'agreement:A'],
      [{ userId: 'U', tenantId: 'X' }, 'user:U'],
      [{ ticketId: 7 }, 'ticket:7'],
      [{ ticketId: -9007199254740991 }, 'ticket:-9007199254740991'],
      [{ ticketId: 'a:b:c' }, 'ticket:a:b:c'],
    ];
    for (const [payload, room] of steps) {
      assert.deepEqual(await emit(TYPING, { ...payload, to: room }), { ok: true }, room);
      const [signal] = (await active(bridge, [room])).filter((each) => each.payload.to === room);
      assert.equal(signal?.room, room);
      assert.deepEqual(signal?.payload, { ...payload, to: room });
    }
  });

  test('the own-name form without an id, or with a bad one, is refused', async () => {
    for (const payload of [
      {},
      { tenantId: 't1' },
      { ticketId: null },
      { ticketId: '' },
      { ticketId: 'a b' },
      { ticketId: 'a,b' },
      { ticketId: 1.5 },
      { ticketId: 2 ** 53 },
      { ticketId: {} },
      { ticketId: ['1'] },
      { ticketId: true },
      { ticketId: 'x'.repeat(129) },
      { ticketid: '1' },
      { ticketId: '1', tenantId: 'a b' },
      { ticketId: '1', tenantId: '*' },
      { ...objectOf(4097), ticketId: '1' },
    ]) {
      const { ok, code } = await emit(TYPING, payload);
      assert.deepEqual({ ok, code }, { ok: false, code: 'invalid_signal' }, JSON.stringify(payload).slice(0, 100));
    }
  });

  test('arguments that are no object are refused', async () => {
    for (const args of [[], ['x'], [7], [null], [[]], [['ticket:1']], [true]]) {
      for (const event of ['signal', TYPING]) {
        const { ok, code } = await emit(event, ...args);
        assert.deepEqual({ ok, code }, { ok: false, code: 'invalid_signal' }, `${event} ${JSON.stringify(args)}`);
      }
    }
  });

  test('POST /signals answers how many listeners the room has on this node', async () => {
    const room = freshRoom();
    assert.equal((await post(bridge, { event: TYPING, room })).body.listeners, 0);
    const ears = [await sseEar(bridge.url, [room]), await socketEar(bridge.url, [room, freshRoom()])];
    const answer = await post(bridge, { event: TYPING, room, client: 'c-1', payload: { n: 1 } });
    assert.equal(answer.status, 202);
    assert.deepEqual(answer.body, { listeners: 2 });
    for (const ear of ears) await until('it is heard', () => ear.signals().length > 0);
    for (const ear of ears) ear.close();
  });

  test('a POST has one sender for each client, which another client cannot take', async () => {
    const room = freshRoom();
    const senderOf = async (client?: unknown): Promise<string> => {
      const answer = await post(bridge, { event: TYPING, room, payload: { client }, client });
      assert.equal(answer.status, 202, JSON.stringify(answer.body));
      const found = (await active(bridge, [room])).filter(({ payload }) => payload.client === client);
      assert.equal(found.length, 1, String(client));
      return found[0]?.sender ?? '';
    };
    const first = await senderOf('tab-1');
    assert.match(first, /\.tab-1$/);
    assert.equal(await senderOf('tab-1'), first);
    const senders = [first];
    for (const client of [
      undefined,
      'tab-2',
      'x',
      'x'.repeat(64),
      'é'.repeat(64),
      'a.tab-1',
      '\u0000',
      ' ',
      '__proto__',
    ])
      senders.push(await senderOf(client));
    assert.equal(new Set(senders).size, senders.length);
    for (const each of senders) assert.match(each, /^[\w.-]+$/);
    assert.equal((await active(bridge, [room])).length, senders.length);
  });
});

/** Each member with values that are good and bad, and the path of the fault. */
const GOOD: readonly Json[] = [
  { payload: {} },
  { payload: objectOf(4096) },
  { payload: objectOf(4096, 'é') },
  { payload: objectOf(4096, '😀') },
  { payload: objectOf(4096, '\u2028') },
  { ttlSeconds: 0 },
  { ttlSeconds: 1 },
  { ttlSeconds: 120 },
  { ttlSeconds: 1.0 },
  { tenantId: 't1' },
  { tenantId: 7 },
  { room: 'ticket:a:b' },
  { room: 'ticket:ticket:1' },
  { room: 'user:u' },
  { room: 'tenant:t1' },
  { room: 'agreement:a' },
  { room: 'queue:1' },
  { room: 'team:1' },
  { room: `ticket:${'é'.repeat(128)}` },
  { room: `ticket:${'😀'.repeat(128)}` },
];
const BAD: readonly (readonly [Json, string])[] = [
  [{ payload: objectOf(4097) }, '/payload'],
  [{ payload: objectOf(4097, 'é') }, '/payload'],
  [{ payload: { text: 'é'.repeat(4000) } }, '/payload'],
  [{ payload: null }, '/payload'],
  [{ payload: [] }, '/payload'],
  [{ payload: 'x' }, '/payload'],
  [{ payload: 1 }, '/payload'],
  [{ ttlSeconds: 121 }, '/ttlSeconds'],
  [{ ttlSeconds: -1 }, '/ttlSeconds'],
  [{ ttlSeconds: 1.5 }, '/ttlSeconds'],
  [{ ttlSeconds: '5' }, '/ttlSeconds'],
  [{ ttlSeconds: null }, '/ttlSeconds'],
  [{ ttlSeconds: true }, '/ttlSeconds'],
  [{ ttlSeconds: [10] }, '/ttlSeconds'],
  [{ ttlSeconds: 1e300 }, '/ttlSeconds'],
  [{ room: undefined }, '/room'],
  [{ room: null }, '/room'],
  [{ room: '' }, '/room'],
  [{ room: 'ticket' }, '/room'],
  [{ room: 'ticket:' }, '/room'],
  [{ room: ':1' }, '/room'],
  [{ room: 'ticket:a b' }, '/room'],
  [{ room: 'ticket:a,b' }, '/room'],
  [{ room: 'ticket:a\u0000' }, '/room'],
  [{ room: 'Ticket:1' }, '/room'],
  [{ room: 'nokind:1' }, '/room'],
  [{ room: '__proto__:1' }, '/room'],
  [{ room: 'tenant:*' }, '/room'],
  [{ room: 7 }, '/room'],
  [{ room: ['ticket:1'] }, '/room'],
  [{ room: { ticketId: '1' } }, '/room'],
  [{ room: `ticket:${'x'.repeat(129)}` }, '/room'],
  [{ tenantId: '' }, '/tenantId'],
  [{ tenantId: '*' }, '/tenantId'],
  [{ tenantId: 'a b' }, '/tenantId'],
  [{ tenantId: {} }, '/tenantId'],
  [{ tenantId: 1.5 }, '/tenantId'],
  [{ rooms: ['ticket:1'] }, '/rooms'],
  [{ ttl: 10 }, '/ttl'],
  [{ from: 'admin' }, '/from'],
  [{ sender: 'me' }, '/sender'],
  [{ 'a/b~': 1 }, '/a~1b~0'],
  [JSON.parse('{"__proto__": {"event": "x"}}'), '/__proto__'],
  [{ event: undefined }, '/event'],
  [{ event: null }, '/event'],
  [{ event: 7 }, '/event'],
];
const UNKNOWN = [
  'tickets.updated',
  'leads.updated',
  'ticket.updated',
  'nothing',
  'tickets.typin',
  '',
  'signal',
  '__proto__',
  'constructor',
];

describe('the limits of what may be sent', () => {
  const merged = (member: Json): Json => {
    const whole: Record<string, unknown> = { event: TYPING, room: 'ticket:limits' };
    for (const [name, value] of Object.entries(member)) {
      Object.defineProperty(whole, name, { value, enumerable: true, configurable: true, writable: true });
    }
    return whole;
  };

  test('good values', async () => {
    for (const member of GOOD) {
      const what = JSON.stringify(member).slice(0, 80);
      assert.deepEqual(await emit('signal', merged(member)), { ok: true }, what);
      const { status, body } = await post(bridge, merged(member));
      assert.equal(status, 202, `${what} ${JSON.stringify(body)}`);
    }
  });

  test('bad values are invalid_signal, with the path of the fault', async () => {
    for (const [member, path] of BAD) {
      const what = JSON.stringify(member).slice(0, 80);
      const { ok, code, error } = await emit('signal', merged(member));
      assert.deepEqual({ ok, code }, { ok: false, code: 'invalid_signal' }, `Socket.IO: ${what}`);
      assert.match(String(error), /[.?]$/, what);
      const { status, body } = await post(bridge, merged(member));
      assert.deepEqual({ status, code: body.code }, { status: 422, code: 'invalid_signal' }, `POST: ${what}`);
      assert.deepEqual((body.errors as { in: string; path: string }[])[0]?.path, path, what);
      assert.equal(body.errors[0].in, 'body');
    }
  });

  test('a name that is not declared is unknown_event, and the answer names SIGNALS', async () => {
    for (const event of UNKNOWN) {
      const { ok, code } = await emit('signal', merged({ event }));
      assert.deepEqual({ ok, code }, { ok: false, code: 'unknown_event' }, event);
      const { status, body } = await post(bridge, merged({ event }));
      assert.deepEqual({ status, code: body.code }, { status: 422, code: 'unknown_event' }, event);
      assert.match(JSON.stringify(body), /SIGNALS/, event);
    }
  });

  test('client: 1 to 64 characters, of POST only', async () => {
    for (const client of ['', 'x'.repeat(65), 7, {}, ['a']]) {
      const { status, body } = await post(bridge, merged({ client }));
      assert.deepEqual({ status, code: body.code }, { status: 422, code: 'invalid_signal' }, JSON.stringify(client));
      assert.equal(body.errors[0].path, '/client');
    }
    const { ok, code } = await emit('signal', merged({ client: 'c' }));
    assert.deepEqual({ ok, code }, { ok: false, code: 'invalid_signal' });
  });

  test('a refusal names the room when it is one', async () => {
    const { ok, code, room } = await emit('signal', merged({ room: 'ticket:named', ttlSeconds: 121 }));
    assert.deepEqual(
      { ok, code, room },
      { ok: false, code: 'invalid_signal', room: room === undefined ? undefined : 'ticket:named' },
    );
  });

  test('a refusal without a callback is a bridge.error', async () => {
    const from = sender.heard.length;
    sender.socket.emit('signal', merged({ ttlSeconds: 121 }));
    await until('the error comes', () => sender.heard.length > from);
    const { event, args } = sender.heard[from] as { event: string; args: readonly Json[] };
    assert.equal(event, 'bridge.error');
    assert.equal(args.length, 1);
    assert.equal(args[0]?.code, 'invalid_signal');
    assert.equal(typeof args[0]?.message, 'string');
  });

  test('bodies that are no object', async () => {
    for (const body of ['[]', 'null', '7', '"x"', '[{}]']) {
      const { status, body: problem } = await post(bridge, body);
      assert.equal(status, 422, body);
      assert.equal(problem.code, 'invalid_signal', body);
    }
    const { status, body } = await post(bridge, '{"event": ');
    assert.equal(status, 400);
    assert.match(body.detail + JSON.stringify(body.errors), /line 1/i);
  });

  test('depth: 4 KiB of brackets are fine or refused, and a hundred thousand do no harm', async () => {
    const nested = (depth: number): string =>
      `{"event":"${TYPING}","room":"ticket:deep","payload":{"a":${'['.repeat(depth)}${']'.repeat(depth)}}}`;
    const deepest = Math.floor((4096 - '{"a":}'.length) / 2);
    const answers: Answer[] = [await post(bridge, nested(900)), await post(bridge, nested(deepest))];
    assert.equal(answers[0]?.status, 202, JSON.stringify(answers[0]?.body));
    assert.ok([202, 422].includes(answers[1]?.status ?? 0), JSON.stringify(answers[1]?.body));
    assert.equal((await post(bridge, nested(deepest + 1))).status, 422);
    assert.ok([400, 422].includes((await post(bridge, nested(100_000))).status));
    for (const open of [openWebSocket, openPolling]) {
      const wire = await open(bridge.url);
      await until('the handshake', () => wire.frames.length > 0);
      wire.send('40');
      await until('CONNECT', () => wire.frames.some((frame) => frame.startsWith('40')));
      const acks: Json[] = [];
      const ask = async (args: string): Promise<void> => {
        const start = `43${acks.length}[`;
        wire.send(`42${acks.length}${args}`);
        const ack = () => wire.frames.find((frame) => frame.startsWith(start));
        await until('it is answered', () => ack() !== undefined);
        acks.push(JSON.parse((ack() as string).slice(start.length - 1))[0]);
      };
      for (const depth of [900, deepest, 3_000, 45_000]) {
        await ask(`["signal",${nested(depth)}]`);
        await ask(`["${OLD_TYPING}",{"ticketId":"deep","a":${'['.repeat(depth)}${']'.repeat(depth)}}]`);
      }
      assert.equal(wire.closed(), false);
      for (const { ok, code } of acks) assert.ok(ok === true || code === 'invalid_signal', JSON.stringify(acks));
      assert.equal(acks.filter(({ ok }) => ok === true).length >= 2, true);
      wire.close();
    }
    assert.ok((await active(bridge, ['ticket:deep'])).length > 0);
  });

  test('binary attachments do no harm', async () => {
    const room = freshRoom();
    const ear = await socketEar(bridge.url, [room]);
    const bytes = Buffer.from('binary');
    await Promise.all(
      [
        emit('signal', { event: TYPING, room, payload: { n: 1, bytes } }),
        emit('signal', { event: TYPING, room, payload: bytes }),
        emit('signal', { event: TYPING, room, payload: { bytes: Buffer.alloc(50_000) } }),
        emit('signal', bytes),
        emit(TYPING, bytes),
        emit(bytes as never, {}),
      ].map((answer) => answer.catch(() => {})),
    );
    assert.deepEqual(await emit('signal', { event: TYPING, room, payload: { n: 2 } }), { ok: true });
    await until('the last is heard', () => ear.signals().some(({ payload }) => payload.n === 2));
    for (const { args } of ear.signals()) assert.equal(args?.length, 1);
    ear.close();
  });
});

describe('what a payload cannot do', () => {
  const hostile = (room: string): string =>
    `{"event":"${TYPING}","room":"${room}","ttlSeconds":30,"payload":{"n":1,"room":"ticket:other","from":"admin","sender":"x","ttlSeconds":999,` +
    '"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}},"toJSON":"x","hasOwnProperty":1,"":"empty","\\ud800":"\\udfff"}}';

  test('it sets none of the four members, and pollutes nothing', async () => {
    const room = freshRoom();
    const ear = await socketEar(bridge.url, [room]);
    const stream = await sseEar(bridge.url, [room]);
    const { status, body } = await post(bridge, hostile(room));
    assert.equal(status, 202, JSON.stringify(body));
    const wire = openWebSocket(bridge.url);
    await until('the handshake', () => wire.frames.length > 0);
    wire.send('40');
    await until('CONNECT', () => wire.frames.some((frame) => frame.startsWith('40')));
    wire.send(`420["signal",${hostile(room)}]`);
    const old = hostile(room)
      .replace(/^.*"payload":\{/, `{"ticketId":"${idOf(room)}",`)
      .slice(0, -1);
    wire.send(`421["${OLD_TYPING}",${old}]`);
    await until('the acks', () => wire.frames.filter((frame) => frame.startsWith('43')).length === 2);
    for (const each of [ear, stream]) {
      await until('all three are heard', () => each.signals().length === 3);
      for (const { event, payload } of each.signals()) {
        assert.equal(payload.room, room);
        assert.equal(payload.from, null);
        assert.notEqual(payload.sender, 'x');
        assert.equal(payload.ttlSeconds, event === OLD_TYPING ? 10 : 30);
        const own = ownMembers(payload);
        assert.equal(own[''], 'empty');
        assert.equal(own.toJSON, 'x');
        assert.equal(own['\ud800'], '\udfff');
        assert.equal(
          (own as { polluted?: number }).polluted,
          each === ear ? (own as { polluted?: number }).polluted : undefined,
        );
      }
    }
    assert.equal(({} as { polluted?: number }).polluted, undefined);
    // Each member stands once in the text: a reader that takes the first of two gets the same.
    const text = stream.text();
    for (const data of text.split('\n').filter((line) => line.startsWith('data: {"') && line.includes('"n":1'))) {
      for (const name of ['room', 'from', 'sender', 'ttlSeconds']) {
        assert.equal(data.split(`"${name}":`).length, 2, `${name} in ${data}`);
      }
      assert.match(data, /"__proto__":\{"polluted":1\}/);
    }
    for (const { payload } of await active(bridge, [room])) {
      for (const name of ['room', 'from', 'sender', 'ttlSeconds'])
        assert.equal(Object.hasOwn(payload, name), false, name);
    }
    wire.close();
    ear.close();
    stream.close();
  });

  test('keys, order and numbers stay as they were sent', async () => {
    const room = freshRoom();
    const stream = await sseEar(bridge.url, [room]);
    const text =
      '{"z":1,"a":{"2":1,"1":2},"n":1.50,"e":1e2,"big":12345678901234567890,"text":"\\u00e9\\n\\ud83d\\ude00\\u2028"}';
    await post(bridge, `{"event":"${TYPING}","room":"${room}","payload":${text}}`);
    await until('it is heard', () => stream.signals().length === 1);
    const data =
      stream
        .text()
        .split('\n')
        .find((line) => line.startsWith('data: {"z"')) ?? '';
    assert.ok(data.startsWith(`data: ${JSON.stringify(JSON.parse(text)).slice(0, -1)},`), data);
    stream.close();
  });
});

test('an ended signal that never began is accepted and listed nowhere', async () => {
  const room = freshRoom();
  assert.deepEqual(await emit('signal', { event: TYPING, room, ttlSeconds: 0 }), { ok: true });
  assert.deepEqual(await active(bridge, [room]), []);
});

test('signals count in ws_emit_total under {kind}:*, and no room of theirs becomes a label', async () => {
  const room = freshRoom('agreement');
  const series = `ws_emit_total{event="${VIEWING}",room="agreement:*"}`;
  const before = await metric(bridge, series);
  await post(bridge, { event: VIEWING, room });
  await emit('signal', { event: VIEWING, room });
  await emit(VIEWING, { agreementId: idOf(room) });
  await post(bridge, { event: VIEWING, room, ttlSeconds: 121 });
  assert.equal((await metric(bridge, series)) - before, 3);
  assert.doesNotMatch(await (await fetch(`${bridge.url}/metrics`)).text(), new RegExp(`${VIEWING}".*${room}"`));
});

test('deliveries of signals are counted by transport', async () => {
  const room = freshRoom();
  const ears = [await socketEar(bridge.url, [room]), await sseEar(bridge.url, [room])];
  const series = (transport: string) => `roomcast_deliveries_total{transport="${transport}",event="${OLD_TYPING}"}`;
  const before = [await metric(bridge, series('websocket')), await metric(bridge, series('sse'))];
  await post(bridge, { event: OLD_TYPING, room });
  await settle(bridge, ears, room);
  assert.equal((await metric(bridge, series('websocket'))) - (before[0] as number), 1);
  assert.equal((await metric(bridge, series('sse'))) - (before[1] as number), 1);
  for (const ear of ears) ear.close();
});
