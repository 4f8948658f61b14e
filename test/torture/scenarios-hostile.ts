/**
 * Hostile input against a running server, drawn by fast-check: never a crash, a hang, a 500, a leak, or a stack trace in
 * an answer; and whoever listens meanwhile hears everything.
 */
import { randomBytes } from 'node:crypto';
import { type IncomingHttpHeaders, request } from 'node:http';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { io } from 'socket.io-client';
import type { Objection } from './checker.ts';
import { sqlite } from './scenarios-crash.ts';
import type { Server } from './server.ts';
import { type Kit, onStage, type Stage, signToken, type Verdict } from './stage.ts';

const ANSWER_MS = 8_000;
/** What a server that tells of its inside says. */
const INSIDE =
  /node_modules|\bat [\w.<>]+ \(|\n\s+at |\.[tj]s:\d+|node:internal|SQLITE_|sqlite|ECONN|TypeError|ReferenceError|SyntaxError|Unexpected token/;

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
}

interface Ask {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string | string[]>>;
  readonly body: Buffer | null;
}

/** Null when no answer came in time; streams count as answered by their head. */
function ask(server: Server, { method, path, headers, body }: Ask): Promise<Answer | null> {
  return new Promise((resolve) => {
    const options = { host: '127.0.0.1', port: server.port, method, path, headers, agent: false } as const;
    let outgoing: ReturnType<typeof request>;
    try {
      outgoing = request(options);
    } catch {
      // Node's client refuses to send it; the raw cases send the like.
      resolve({ status: 0, headers: {}, text: '' });
      return;
    }
    const late = setTimeout(() => {
      outgoing.destroy();
      resolve(null);
    }, ANSWER_MS);
    const settle = (answer: Answer): void => {
      clearTimeout(late);
      resolve(answer);
      outgoing.destroy();
    };
    outgoing.on('response', (response) => {
      let text = '';
      const answer = (): Answer => ({ status: response.statusCode ?? 0, headers: response.headers, text });
      response.on('data', (chunk) => {
        text += chunk;
      });
      response.on('end', () => settle(answer()));
      response.on('error', () => settle(answer()));
      if (String(response.headers['content-type']).startsWith('text/event-stream') && response.statusCode === 200) {
        setTimeout(() => settle(answer()), 30);
      }
    });
    // Cut off is an answer, where the input breaks HTTP itself.
    outgoing.on('error', () => settle({ status: 0, headers: {}, text: '' }));
    outgoing.end(body);
  });
}

function wrongOf(answer: Answer | null): string | null {
  if (answer === null) return `no answer within ${ANSWER_MS} ms`;
  if (answer.status === 500 || answer.status === 502) return `${answer.status} ${answer.text.slice(0, 200)}`;
  const telling = INSIDE.exec(answer.text);
  if (telling !== null && answer.status !== 200) return `tells of its inside: ${answer.text.slice(0, 300)}`;
  if (answer.status >= 400 && answer.status !== 431 && answer.headers['content-type'] === 'text/html')
    return 'an HTML error';
  return null;
}

const nasty = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 200 }),
  fc.constantFrom(
    ...['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty', '', ' ', '\u0000', '\ud800', 'null'],
    ...[
      'a'.repeat(129),
      'é'.repeat(128),
      '..%2f..',
      "' OR 1=1 --",
      '{{7*7}}',
      '\r\nX: y',
      'NaN',
      '-1',
      '1e309',
      'now',
      'start',
    ],
  ),
);
const json = fc.oneof(
  { weight: 3, arbitrary: fc.jsonValue({ maxDepth: 4, stringUnit: 'binary' }) },
  fc.dictionary(nasty, fc.jsonValue({ maxDepth: 2 })),
  fc.constantFrom<unknown>(null, 0, -0, '', [], {}, Number.MAX_VALUE),
);

/** Right but for one thing, so that it gets far. */
const almost = fc.record({
  event: fc.oneof(
    { weight: 5, arbitrary: fc.constantFrom('messages.new', 'tickets.updated', 'leads.updated') },
    nasty,
    json,
  ),
  payload: fc
    .tuple(
      fc.dictionary(
        fc.constantFrom(
          ...['tenantId', 'ticketId', 'agreementId', 'userId', 'messageId', 'providerMessageId', 'ticketStatus'],
          ...['ticketUpdatedAt', 'ticket', 'message', '__proto__', 'constructor', 'id'],
        ),
        fc.oneof(nasty, json),
        { maxKeys: 2 },
      ),
    )
    .map(([odd]) => ({
      tenantId: 'fuzz',
      ticketId: 'f',
      ticketStatus: 'OPEN',
      ticketUpdatedAt: '2024-01-01T00:00:00Z',
      messageId: null,
      ticket: {},
      message: {},
      ...odd,
    })),
});

const deep = (depth: number): string => `${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`;
const deepArray = (depth: number): string => `${'['.repeat(depth)}${']'.repeat(depth)}`;
const bodyText = fc.oneof(
  { weight: 4, arbitrary: almost.map((value) => JSON.stringify(value)) },
  fc.array(almost, { maxLength: 4 }).map((events) => JSON.stringify({ events })),
  json.map((value) => JSON.stringify(value)),
  fc.string({ unit: 'binary', maxLength: 300 }),
  fc.constantFrom(
    '{"__proto__":{"event":"messages.new"},"payload":{}}',
    '{"event":"messages.new","payload":{"__proto__":{"tenantId":"x"}}}',
    `{"event":"leads.updated","payload":{"tenantId":"fuzz","deep":${deep(3_000)}}}`,
    `{"event":"leads.updated","payload":{"tenantId":"fuzz","deep":${deepArray(100_000)}}}`,
    deepArray(200_000),
    `{"events":[${Array.from({ length: 1_001 }, () => '{}').join(',')}]}`,
    `{"event":"leads.updated","payload":{"tenantId":"fuzz","big":"${'x'.repeat(1_100_000)}"}}`,
    '{"event":"leads.updated","payload":{"tenantId":"fuzz","n":1e999,"m":-0,"k":0.1e-400}}',
    '{"event":"leads.updated","event":"x","payload":{"tenantId":"fuzz"}}',
    '\ufeff{"event":"leads.updated","payload":{"tenantId":"fuzz"}}',
    '{"event":"messages.new","payload":{"tenantId":"fuzz","ticketId":"f","ticketStatus":"O","ticketUpdatedAt":"+275760-09-13T00:00:00Z","messageId":"x","message":{}}}',
  ),
);
const body = fc.oneof(
  { weight: 6, arbitrary: bodyText.map((text) => Buffer.from(text)) },
  fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
);
const token = fc.oneof(
  fc.constant(signToken({ tenantId: 'fuzz', sub: 'u', scope: 'subscribe publish' })),
  fc
    .dictionary(fc.constantFrom('tenantId', 'sub', 'scope', 'exp', 'nbf', 'ticketIds', 'agreementIds'), json)
    .map(signToken),
  fc.constantFrom('eyJhbGciOiJub25lIn0.eyJ0ZW5hbnRJZCI6ImZ1enoifQ.', 'a.b.c', '..', 'x'.repeat(9_000)),
  fc.string({ maxLength: 60 }),
);
const headerText = nasty.map((text) =>
  Buffer.from(text)
    .toString('latin1')
    .replace(/[^\t\x20-\x7e\x80-\xff]/g, '?'),
);
const headers = fc
  .dictionary(
    fc.constantFrom(
      ...[
        'authorization',
        'cookie',
        'content-type',
        'accept',
        'last-event-id',
        'if-none-match',
        'idempotency-key',
        'origin',
      ],
      ...[
        'x-forwarded-for',
        'accept-encoding',
        'content-encoding',
        'range',
        'expect',
        'x-http-method-override',
        'sec-fetch-site',
      ],
    ),
    fc.oneof(
      headerText,
      token.map((text) => `Bearer ${text}`.replace(/[^\x20-\x7e]/g, '?')),
      token.map((text) => `access_token=${text}; a=b`.replace(/[^\x20-\x7e]/g, '?')),
      fc.constantFrom(
        'application/json',
        'application/json; charset=utf-16',
        'text/event-stream',
        'gzip',
        '*',
        'bytes=0-1',
      ),
    ),
    { maxKeys: 4 },
  )
  .map((given) => ({ ...given }));
const queryPart = fc.tuple(
  fc.oneof(
    fc.constantFrom(
      ...[
        'tenantId',
        'ticketId',
        'agreementId',
        'userId',
        'after',
        'limit',
        'wait',
        'events',
        'legacy',
        'padding',
        'life',
      ],
      ...['access_token', 'pass', 'page', 'order', 'status', 'updatedAfter', 'EIO', 'transport', 'sid', 't', 'token'],
    ),
    nasty,
  ),
  fc.oneof(nasty, fc.constantFrom('fuzz', '1', '0', 'true', 'websocket', 'polling', '4', '3'), token),
);
const encode = (text: string): string => encodeURIComponent(text.toWellFormed());
const path = fc
  .tuple(
    fc.oneof(
      fc.constantFrom(
        ...[
          '/events',
          '/sse',
          '/tickets',
          '/tickets/f',
          '/tickets/f/messages',
          '/pass',
          '/metrics',
          '/healthz',
          '/readyz',
        ],
        ...['/docs', '/openapi.json', '/openapi.yaml', '/socket.io/', '/socket.io', '/', '/__proto__', '/constructor'],
      ),
      nasty.map((text) => `/tickets/${encode(text)}`),
      nasty.map((text) => `/${encode(text)}`),
    ),
    fc.array(queryPart, { maxLength: 5 }),
    fc.boolean(),
  )
  .map(([where, parts, broken]) => {
    const query = parts.map(([name, value]) => `${encode(name)}=${encode(value)}`).join('&');
    // `wait` is left to others: a long poll is answered late on purpose.
    const quick = query.replaceAll(/\bwait=[^&]*/g, 'wait=0');
    return `${where}${quick === '' ? '' : `?${quick}`}${broken ? '%' : ''}`;
  });

const httpCase: fc.Arbitrary<Ask> = fc
  .record({
    method: fc.constantFrom('GET', 'POST', 'POST', 'POST', 'HEAD', 'PUT', 'DELETE', 'OPTIONS', 'PATCH', 'TRACE'),
    path: fc.oneof({ weight: 1, arbitrary: path }, fc.constant('/events')),
    headers,
    body: fc.option(body),
    typed: fc.boolean(),
    signed: fc.boolean(),
  })
  .map(({ typed, signed, ...rest }) => ({
    ...rest,
    headers: {
      ...rest.headers,
      ...(typed ? { 'content-type': 'application/json' } : {}),
      ...(signed
        ? { authorization: `Bearer ${signToken({ tenantId: ['fuzz'], sub: 'u', scope: 'subscribe publish' })}` }
        : {}),
    },
  }));

/** Bytes that are no HTTP, or only almost. */
const rawCase = fc.oneof(
  fc.uint8Array({ maxLength: 500 }).map((bytes) => Buffer.from(bytes)),
  fc
    .constantFrom(
      'GET / HTTP/9.9\r\n\r\n',
      'GET /events?tenantId=fuzz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n',
      `GET /${'a'.repeat(20_000)} HTTP/1.1\r\nHost: localhost\r\n\r\n`,
      `GET / HTTP/1.1\r\nHost: localhost\r\n${'X-A: b\r\n'.repeat(3_000)}\r\n`,
      'POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
      'POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n',
      'POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99999999999999\r\n\r\n{',
      'POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n',
      'GET http://[::1 HTTP/1.1\r\nHost: [\r\n\r\n',
      'GET //evil/%00 HTTP/1.1\r\nHost: localhost\r\n\r\n',
      'GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: !\r\nSec-WebSocket-Version: 13\r\n\r\n',
      'GET /elsewhere HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n',
      'GET /sse?tenantId=fuzz HTTP/1.0\r\n\r\n',
      'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
      'CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n',
    )
    .map((text) => Buffer.from(text)),
);

async function sendRaw(server: Server, bytes: Buffer, quietMs = 60): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(server.port, '127.0.0.1');
    let text = '';
    const end = (): void => {
      socket.destroy();
      resolve(text);
    };
    socket.on('connect', () => socket.write(bytes));
    socket.on('data', (chunk) => {
      text += chunk;
    });
    socket.on('error', end);
    socket.on('close', end);
    setTimeout(end, quietMs);
  });
}

/** A client's frame of RFC 6455 §5.2, right or not. */
function frame(
  opcode: number,
  payload: Buffer,
  { fin = true, masked = true, rsv = 0, length = payload.length } = {},
): Buffer {
  const head = [(fin ? 0x80 : 0) | (rsv << 4) | opcode];
  if (length < 126) head.push((masked ? 0x80 : 0) | length);
  else if (length < 65_536) head.push((masked ? 0x80 : 0) | 126, length >> 8, length & 0xff);
  else {
    const wide = Buffer.alloc(8);
    wide.writeBigUInt64BE(BigInt(length));
    head.push((masked ? 0x80 : 0) | 127, ...wide);
  }
  if (!masked) return Buffer.concat([Buffer.from(head), payload]);
  const mask = randomBytes(4);
  const hidden = Buffer.from(payload.map((byte, index) => byte ^ (mask[index % 4] ?? 0)));
  return Buffer.concat([Buffer.from(head), mask, hidden]);
}

const packetText = fc.oneof(
  fc.constantFrom(
    ...[
      '0',
      '1',
      '2',
      '2probe',
      '3',
      '4',
      '40',
      '41',
      '42',
      '43',
      '44',
      '45',
      '46',
      '5',
      '6',
      '9',
      'b',
      'bAAAA',
      '4'.repeat(50),
    ],
    ...[
      '42[]',
      '42{}',
      '42["join-tenant"]',
      '42["join-tenant",{"tenantId":{}}]',
      '42["__proto__",1]',
      '42["constructor"]',
    ],
    ...[
      '42["connect"]',
      '42["disconnect"]',
      '42["disconnecting"]',
      '42["newListener"]',
      '42["connect_error"]',
      '42["error"]',
    ],
    ...[
      '421["join-tenant","fuzz",{"after":"x y"}]',
      '42999999999999999999["join-tenant","fuzz"]',
      '43[1]',
      '431["x"]',
      '430[]',
    ],
    ...[
      '451-["join-tenant",{"_placeholder":true,"num":0}]',
      '459999-["x"]',
      '451-["x",{"_placeholder":true,"num":-1}]',
      '461-[]',
    ],
    ...[
      '42/other,["x"]',
      '40/other,',
      '40{"token":1}',
      '40{"pid":"x","offset":"y"}',
      '40{"__proto__":{"token":"x"}}',
      '40[]',
      '40null',
    ],
    `42["join-tenant",${deepArray(20_000)}]`,
    `42["join-tenant","${'x'.repeat(90_000)}"]`,
    `40${deep(10_000)}`,
  ),
  fc
    .tuple(
      fc.constantFrom('join-tenant', 'join-ticket', 'join-user', 'leave-tenant', 'leave-agreement', 'x'),
      fc.array(fc.oneof(json, nasty), { maxLength: 4 }),
      fc.option(fc.nat({ max: 99 })),
    )
    .map(([name, args, ack]) => `42${ack ?? ''}${JSON.stringify([name, ...args])}`),
  fc.string({ unit: 'binary', maxLength: 100 }).map((text) => `4${text}`),
  fc.string({ unit: 'binary', maxLength: 100 }),
);
const text = packetText.map((packet) => frame(1, Buffer.from(packet)));
const frames = fc.oneof(
  { weight: 4, arbitrary: text },
  fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
  fc.uint8Array({ maxLength: 200 }).map((bytes) => frame(2, Buffer.from(bytes))),
  packetText.map((packet) => {
    const bytes = Buffer.from(packet);
    const half = bytes.length >> 1;
    return Buffer.concat([frame(1, bytes.subarray(0, half), { fin: false }), frame(0, bytes.subarray(half))]);
  }),
  fc.constantFrom(
    frame(1, Buffer.from([0x34, 0xff, 0xfe, 0xc0])),
    frame(1, Buffer.from('42["x"]'), { masked: false }),
    frame(1, Buffer.from('42["x"]'), { rsv: 4 }),
    frame(3, Buffer.from('x')),
    frame(9, Buffer.alloc(125)),
    frame(9, Buffer.alloc(126)),
    frame(8, Buffer.from([3])),
    frame(8, Buffer.from([0, 0])),
    frame(8, Buffer.from([0x03, 0xe8, 0xff])),
    frame(0, Buffer.from('continued from nothing')),
    frame(1, Buffer.from('4'), { fin: false }),
    frame(1, Buffer.from('4'), { length: 2 ** 40 }),
    frame(1, Buffer.alloc(200_000, 0x34)),
    frame(2, Buffer.alloc(200_000)),
    Buffer.concat(Array.from({ length: 2_000 }, () => frame(9, Buffer.alloc(0)))),
    Buffer.concat(Array.from({ length: 500 }, () => frame(1, Buffer.from('4'), { fin: false }))),
  ),
);

const UPGRADE =
  'GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n';

/** One Engine.IO polling session that is sent a body. */
async function pollWith(server: Server, packets: string): Promise<Answer | null> {
  const base = '/socket.io/?EIO=4&transport=polling';
  const open = await ask(server, { method: 'GET', path: base, headers: {}, body: null });
  const sid = /"sid":"([^"]+)"/.exec(open?.text ?? '')?.[1];
  if (sid === undefined) return open;
  const post = (body: string): Promise<Answer | null> =>
    ask(server, {
      method: 'POST',
      path: `${base}&sid=${sid}`,
      headers: { 'content-type': 'text/plain' },
      body: Buffer.from(body),
    });
  await post('40');
  const answer = await post(packets);
  await post('1');
  return answer;
}

export function hostile(kit: Kit): Promise<Verdict> {
  return onStage(kit, { env: sqlite(kit), auth: 'jwt' }, (stage) => fuzz(kit, stage));
}

/** The same with no tokens, where everything is let in. */
export function hostileOpen(kit: Kit): Promise<Verdict> {
  return onStage(kit, { env: sqlite(kit) }, (stage) => fuzz(kit, stage));
}

async function fuzz(kit: Kit, stage: Stage): Promise<Verdict> {
  const { server } = stage;
  const objections: Objection[] = [];
  await stage.audience();
  const stop = stage.publishing(1, 20);
  let runs = 0;
  const numRuns = kit.long ? 3_000 : 250;
  /** A property that fails is told with the smallest input that fast-check finds, within reason. */
  const hold = async <T>(
    what: string,
    cases: fc.Arbitrary<T>,
    count: number,
    judge: (input: T) => Promise<string | null>,
  ) => {
    const property = fc.asyncProperty(cases, async (input) => {
      runs++;
      if (runs % 50 === 0) kit.progress(`${what}: ${runs} inputs`);
      const wrong = server.alive() ? await judge(input) : 'the server is dead';
      if (wrong !== null) throw new Error(wrong);
    });
    const result = await fc.check(property, {
      seed: kit.seed,
      numRuns: count,
      interruptAfterTimeLimit: kit.budgetMs + 40_000,
    });
    if (!result.failed) return;
    const input = JSON.stringify(result.counterexample, (_, value) =>
      value instanceof Object && 'type' in value && value.type === 'Buffer'
        ? Buffer.from(value.data).toString('latin1')
        : value,
    );
    const error = result.errorInstance instanceof Error ? result.errorInstance.message : '';
    objections.push({ law: 'lost', who: `server, ${what}`, detail: `${error}: ${input?.slice(0, 600)}` });
  };
  const before = server.memoryMiB();
  await hold('http', httpCase, numRuns, async (input) => wrongOf(await ask(server, input)));
  await hold('raw', rawCase, Math.ceil(numRuns / 4), async (bytes) => {
    const answer = await sendRaw(server, bytes);
    return INSIDE.test(answer) || / 500 /.test(answer.slice(0, 20)) ? answer.slice(0, 300) : null;
  });
  await hold('websocket', fc.array(frames, { minLength: 1, maxLength: 6 }), Math.ceil(numRuns / 3), async (sent) => {
    const token = signToken({ tenantId: 'fuzz', sub: 'u', scope: 'subscribe' });
    const begin = kit.random.chance(0.7) ? [frame(1, Buffer.from(`40{"token":"${token}"}`))] : [];
    const answer = await sendRaw(server, Buffer.concat([Buffer.from(UPGRADE), ...begin, ...sent]));
    return INSIDE.test(answer) ? answer.slice(0, 300) : null;
  });
  await hold('polling', packetText, Math.ceil(numRuns / 6), async (packets) =>
    wrongOf(await pollWith(server, packets)),
  );
  await hold('acks', fc.array(fc.oneof(json, nasty), { maxLength: 4 }), Math.ceil(numRuns / 10), (args) =>
    joinWith(server, args),
  );
  await slowRequests(server, objections);
  await sleep(300);
  await stop();
  // A leak would grow with the inputs; what the allocator keeps does not.
  const rose = server.memoryMiB() - before;
  if (rose > 200) objections.push({ law: 'lost', who: 'server', detail: `memory rose by ${Math.round(rose)} MiB` });
  const connections = await openConnections(server);
  const own = stage.listeners.length;
  if (connections > own + 2) {
    objections.push({ law: 'lost', who: 'server', detail: `${connections} connections are counted, ${own} are open` });
  }
  const bad = server.errors.filter((line) => /uncaught|unhandled|TypeError| {4}at /i.test(line));
  const logged = server.lines.filter((line) => /"level":(50|60)/.test(line));
  for (const line of [...bad, ...logged].slice(0, 5)) {
    objections.push({ law: 'lost', who: 'server log', detail: line.slice(0, 600) });
  }
  return stage.verdict({ inputs: runs, 'memory rose MiB': Math.round(rose) }, { objections });
}

/** A stock client that sends odd arguments gets an ack or an error, never silence. */
async function joinWith(server: Server, args: readonly unknown[]): Promise<string | null> {
  const token = signToken({ tenantId: 'fuzz', sub: 'u', scope: 'subscribe' });
  const socket = io(server.url, { transports: ['websocket'], forceNew: true, reconnection: false, auth: { token } });
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('connect_error', reject);
    });
    const answer = await socket
      .timeout(5_000)
      .emitWithAck('join-ticket', ...args)
      .catch((error: Error) => error);
    if (answer instanceof Error) return socket.connected ? 'no ack' : null;
    const isAnswer = typeof answer === 'object' && answer !== null && typeof answer.ok === 'boolean';
    return isAnswer && !INSIDE.test(JSON.stringify(answer)) ? null : `ack ${JSON.stringify(answer)}`;
  } finally {
    socket.disconnect();
  }
}

/** Requests whose head or body never ends do not keep others out. */
async function slowRequests(server: Server, objections: Objection[]): Promise<void> {
  const sockets = Array.from({ length: 100 }, (_, index) => {
    const socket = connect(server.port, '127.0.0.1');
    socket.on('error', () => {});
    const body =
      'POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{';
    socket.write(index % 2 === 0 ? 'GET /events HTTP/1.1\r\nHost: localhost\r\nX-Slow: ' : body);
    return socket;
  });
  const begunAt = performance.now();
  const answer = await ask(server, { method: 'GET', path: '/healthz', headers: {}, body: null });
  const tookMs = performance.now() - begunAt;
  if (answer?.status !== 200 || tookMs > 3_000) {
    objections.push({
      law: 'lost',
      who: 'server',
      detail: `/healthz took ${Math.round(tookMs)} ms beside 100 slow requests`,
    });
  }
  for (const socket of sockets) socket.destroy();
}

async function openConnections(server: Server): Promise<number> {
  // Engine.IO polling sessions that nobody polls go after its ping time-out; sockets that were cut go at once.
  for (let tries = 0; ; tries++) {
    const metrics = await (await fetch(`${server.url}/metrics`)).text();
    const count = [
      ...metrics.matchAll(/^roomcast_connections\{transport="(?:websocket|sse|longpoll)"\} (\d+)/gm),
    ].reduce((sum, [, value]) => sum + Number(value), 0);
    if (tries === 30) return count;
    await sleep(100);
  }
}
