/**
 * Why a person sees nothing: the verdict on what the bridge answers about them, and on the claims of their token. One row
 * for each cause that support meets.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LogEntry } from '../../src/contract/log.ts';
import type { ConnectionItem, RefusalItem } from '../../src/contract/operating.ts';
import type { Room } from '../../src/contract/rooms.ts';
import type { Claims } from '../../src/pages/console/claims.ts';
import {
  type Diagnosis,
  diagnose,
  type Evidence,
  judgeClaims,
  type NextCode,
  type RoomTraffic,
  type Verdict,
} from '../../src/pages/console/diagnosis.ts';
import { serverFault } from '../../src/pages/console/server-fault.ts';

const NOW_MS = Date.parse('2026-03-01T12:00:00.000Z');
const ago = (seconds: number): string => new Date(NOW_MS - seconds * 1000).toISOString();

const connection = (overrides: Partial<ConnectionItem> = {}): ConnectionItem => ({
  id: 'c1',
  node: 'n1',
  transport: 'websocket',
  since: ago(600),
  address: '10.0.0.7',
  userAgent: null,
  tenantIds: ['acme'],
  sub: 'ana',
  rooms: ['ticket:5'],
  roomCount: overrides.rooms?.length ?? 1,
  cursor: 'aaaaaaaa-00000000009-aaaa',
  behindMs: 0,
  pendingBytes: 0,
  lastDeliveryAt: ago(3),
  expiresAt: null,
  ...overrides,
});

const refusal = (overrides: Partial<RefusalItem> = {}): RefusalItem => ({
  at: ago(10),
  node: 'n1',
  address: '10.0.0.7',
  transport: 'websocket',
  sub: 'ana',
  tenantIds: ['acme'],
  what: 'connect',
  code: 'token_expired',
  message: 'The token has expired. Use a new one.',
  ...overrides,
});

const event = (overrides: Partial<LogEntry> = {}): LogEntry => ({
  id: 'aaaaaaaa-00000000009-aaaa',
  event: 'messages.new',
  rooms: ['tenant:acme', 'ticket:5'],
  at: ago(120),
  payload: { tenantId: 'acme', ticketId: '5' },
  ...overrides,
});

const traffic = (room: string, last: LogEntry | null, isSearched = true): RoomTraffic => ({
  room: room as Room,
  last,
  isSearched,
  elsewhere: null,
});

const judge = (evidence: Partial<Evidence>): Diagnosis =>
  diagnose({
    nowMs: NOW_MS,
    connections: [],
    refusals: [],
    traffic: [],
    about: null,
    revocation: null,
    missing: [],
    ...evidence,
  });

const REVOCATION = { id: 'r1', sub: 'ana', tenantId: null, jti: null, before: ago(60), createdAt: ago(60) };

interface Row {
  readonly cause: string;
  readonly evidence: Partial<Evidence>;
  readonly level: Diagnosis['level'];
  readonly verdict: Partial<Verdict>;
  readonly next?: NextCode;
  readonly hints?: readonly string[];
}

const ROWS: readonly Row[] = [
  {
    cause: 'an expired token',
    evidence: { refusals: [refusal(), refusal({ at: ago(20) }), refusal({ at: ago(50) }), refusal({ at: ago(90) })] },
    level: 'bad',
    verdict: { code: 'refused', times: 3, withinMs: 60_000 },
    next: 'newToken',
  },
  {
    cause: 'a token that expired minutes ago, on SSE',
    evidence: { refusals: [refusal({ at: ago(300), what: 'GET /sse', transport: 'sse' })] },
    level: 'bad',
    verdict: { code: 'refused', times: 1, withinMs: 600_000 },
    next: 'newToken',
  },
  {
    cause: 'a refusal of an hour ago',
    evidence: { refusals: [refusal({ at: ago(3600) })] },
    level: 'bad',
    verdict: { code: 'refusedEarlier' },
    next: 'newToken',
  },
  {
    cause: 'a token with a bad signature, found by address',
    evidence: { refusals: [refusal({ sub: null, tenantIds: [], code: 'unauthorized' })] },
    level: 'bad',
    verdict: { code: 'refused' },
    next: 'checkKey',
  },
  {
    cause: 'a revoked user who tries again',
    evidence: { refusals: [refusal({ code: 'token_revoked' })], revocation: REVOCATION },
    level: 'bad',
    verdict: { code: 'refused' },
    next: 'signInAgain',
    hints: ['revoked'],
  },
  {
    cause: 'a revoked user who has given up',
    evidence: { revocation: REVOCATION },
    level: 'bad',
    verdict: { code: 'revoked' },
    next: 'signInAgain',
  },
  {
    cause: 'a misspelt parameter of a stream',
    evidence: { refusals: [refusal({ what: 'GET /sse', code: 'unknown_parameter' })] },
    level: 'bad',
    verdict: { code: 'refused' },
    next: 'fixRoomName',
  },
  {
    cause: 'nobody, and every node answered',
    evidence: {},
    level: 'bad',
    verdict: { code: 'absent' },
    next: 'lookInApp',
  },
  {
    cause: 'nobody, and a node did not answer',
    evidence: { missing: ['n2'] },
    level: 'fair',
    verdict: { code: 'absentOrMissing', nodes: ['n2'] },
    next: 'checkNodes',
  },
  {
    cause: 'a user who was refused a room and left',
    evidence: { refusals: [refusal({ what: 'join ticket:9', code: 'forbidden' })] },
    level: 'bad',
    verdict: { code: 'gone' },
    next: 'checkClaims',
  },
  {
    cause: 'the wrong room',
    evidence: { connections: [connection({ rooms: ['ticket:77'] })], about: traffic('ticket:5', event()) },
    level: 'bad',
    verdict: { code: 'notInRoom', room: 'ticket:5', instead: 'ticket:77' },
    next: 'fixRoomName',
  },
  {
    cause: 'a typo in the kind of the room',
    evidence: {
      connections: [connection({ rooms: ['tenant:other'] })],
      refusals: [refusal({ what: 'join tickett:5', code: 'invalid_room' })],
      about: traffic('ticket:5', event()),
    },
    level: 'bad',
    verdict: { code: 'notInRoom', room: 'ticket:5', instead: 'tickett:5' },
    next: 'fixRoomName',
    hints: ['alsoJoinRefused'],
  },
  {
    cause: 'a typo in the kind of the room, without a room to ask for',
    evidence: {
      connections: [connection({ rooms: [] })],
      refusals: [refusal({ what: 'join tickett:5', code: 'invalid_room' })],
    },
    level: 'bad',
    verdict: { code: 'joinRefused', room: 'tickett:5', meant: null },
    next: 'fixRoomName',
  },
  {
    cause: 'a typo in the id of the room',
    evidence: { connections: [connection({ rooms: ['ticket:5O'] })], traffic: [traffic('ticket:5O', null)] },
    level: 'fair',
    verdict: { code: 'quietRooms', rooms: ['ticket:5O'] },
    next: 'fixRoomName',
  },
  {
    cause: 'one quiet room among others',
    evidence: {
      connections: [connection({ rooms: ['ticket:5', 'ticket:6'] })],
      traffic: [traffic('ticket:5', event()), traffic('ticket:6', null)],
    },
    level: 'good',
    verdict: { code: 'upToDate', rooms: 2 },
    hints: ['quietRoom'],
  },
  {
    cause: 'a log that was not searched whole says nothing about a room',
    evidence: { connections: [connection()], traffic: [traffic('ticket:5', null, false)] },
    level: 'good',
    verdict: { code: 'upToDate' },
  },
  {
    cause: 'a narrow token that may not join the tenant',
    evidence: {
      connections: [connection()],
      refusals: [refusal({ what: 'join tenant:acme', code: 'forbidden' })],
    },
    level: 'bad',
    verdict: { code: 'joinRefused', room: 'tenant:acme' },
    next: 'checkClaims',
  },
  {
    cause: 'a narrow token that may not join the room in question',
    evidence: {
      connections: [connection({ rooms: ['ticket:1'] })],
      refusals: [refusal({ at: ago(7200), what: 'join ticket:5', code: 'forbidden' })],
      about: traffic('ticket:5', event()),
    },
    level: 'bad',
    verdict: { code: 'joinRefused', room: 'ticket:5' },
    next: 'checkClaims',
  },
  {
    cause: 'the wrong tenant, in a room with the right name',
    evidence: {
      connections: [connection({ tenantIds: ['globex'] })],
      about: traffic('ticket:5', event()),
    },
    level: 'bad',
    verdict: { code: 'otherTenant', own: ['globex'], tenantId: 'acme', room: 'ticket:5' },
    next: 'checkTenant',
  },
  {
    cause: 'the wrong tenant, which has a ticket with this number, too',
    evidence: {
      connections: [connection({ tenantIds: ['globex'] })],
      about: {
        ...traffic('ticket:5', event({ payload: { tenantId: 'globex' }, rooms: ['tenant:globex', 'ticket:5'] })),
        elsewhere: event(),
      },
    },
    level: 'fair',
    verdict: { code: 'otherTenant', own: ['globex'], tenantId: 'acme' },
    next: 'checkTenant',
    hints: ['ownTenantToo'],
  },
  {
    cause: 'no tokens, so no tenant is wrong',
    evidence: {
      connections: [connection({ tenantIds: [], sub: null })],
      about: traffic('ticket:5', event()),
    },
    level: 'good',
    verdict: { code: 'hears', room: 'ticket:5' },
  },
  {
    cause: 'an event of a ticket that the publisher sent elsewhere',
    evidence: {
      connections: [connection()],
      about: traffic('ticket:5', event({ rooms: ['user:boss'], payload: { tenantId: 'acme' } })),
    },
    level: 'bad',
    verdict: { code: 'notInRoom', instead: null },
    next: 'askPublisher',
    hints: ['lastWent'],
  },
  {
    cause: 'a room without events',
    evidence: { connections: [connection()], about: traffic('ticket:5', null) },
    level: 'fair',
    verdict: { code: 'noEvents', room: 'ticket:5' },
    next: 'askPublisher',
  },
  {
    cause: 'a room that hears through another room of the event',
    evidence: { connections: [connection({ rooms: ['tenant:acme'] })], about: traffic('ticket:5', event()) },
    level: 'good',
    verdict: { code: 'hears' },
  },
  {
    cause: 'a list that leaves out rooms cannot say that one is missing',
    evidence: {
      connections: [connection({ roomCount: 400 })],
      about: traffic('ticket:900', event({ rooms: ['ticket:900'] })),
    },
    level: 'good',
    verdict: { code: 'upToDate' },
  },
  {
    cause: 'a blocked websocket and SSE',
    evidence: { connections: [connection({ transport: 'longpoll', since: ago(1) })] },
    level: 'fair',
    verdict: { code: 'pollOnly' },
    next: 'sendCheck',
  },
  {
    cause: 'a blocked websocket, also if the room is right',
    evidence: { connections: [connection({ transport: 'longpoll' })], about: traffic('ticket:5', event()) },
    level: 'fair',
    verdict: { code: 'pollOnly' },
    next: 'sendCheck',
  },
  {
    cause: 'a blocked websocket of Socket.IO',
    evidence: { connections: [connection({ transport: 'polling' })] },
    level: 'fair',
    verdict: { code: 'pollingOnly' },
    next: 'sendCheck',
  },
  {
    cause: 'Socket.IO that has not changed to a websocket yet',
    evidence: { connections: [connection({ transport: 'polling', since: ago(2) })] },
    level: 'good',
    verdict: { code: 'upToDate' },
  },
  {
    cause: 'a held SSE stream looks good from here, and the hint says so',
    evidence: { connections: [connection({ transport: 'sse' })] },
    level: 'good',
    verdict: { code: 'upToDate', transports: ['sse'] },
    next: 'sendCheck',
    hints: ['sseHeld'],
  },
  {
    cause: 'no room joined',
    evidence: { connections: [connection({ rooms: [] })] },
    level: 'bad',
    verdict: { code: 'noRooms' },
    next: 'joinRoom',
  },
  {
    cause: 'a slow network',
    evidence: { connections: [connection({ behindMs: 8_000, pendingBytes: 70_000 })] },
    level: 'bad',
    verdict: { code: 'behind', behindMs: 8_000, pendingBytes: 70_000 },
    next: 'waitForSlow',
  },
  {
    cause: 'one slow tab beside a good one',
    evidence: { connections: [connection({ behindMs: 8_000 }), connection({ id: 'c2' })] },
    level: 'good',
    verdict: { code: 'upToDate' },
  },
  {
    cause: 'another tab is refused',
    evidence: { connections: [connection()], refusals: [refusal()] },
    level: 'good',
    verdict: { code: 'upToDate' },
    hints: ['alsoRefused'],
  },
  {
    cause: 'a join that succeeded after it was refused',
    evidence: { connections: [connection()], refusals: [refusal({ what: 'join ticket:5', code: 'forbidden' })] },
    level: 'good',
    verdict: { code: 'upToDate' },
    hints: [],
  },
  {
    cause: 'a token that expires in a minute',
    evidence: { connections: [connection({ expiresAt: ago(-60) })] },
    level: 'good',
    verdict: { code: 'upToDate' },
    hints: ['expiresSoon'],
  },
];

for (const { cause, evidence, level, verdict, next, hints } of ROWS) {
  test(`the verdict on ${cause}`, () => {
    const found = judge(evidence);
    assert.partialDeepStrictEqual(found.verdict, verdict);
    assert.equal(found.level, level);
    assert.ok(found.next.length > 0, 'there is always something to do');
    if (next !== undefined) assert.equal(found.next[0] === next || found.next.includes(next), true, found.next.join());
    if (hints !== undefined)
      assert.deepEqual(
        found.hints.map(({ code }) => code),
        hints,
      );
  });
}

const claims = (overrides: Partial<Claims> = {}): Claims => ({
  subject: 'ana',
  tenants: ['acme'],
  scopes: ['subscribe'],
  named: [],
  expiresAtMs: NOW_MS + 60_000,
  validFromMs: null,
  ...overrides,
});
const TICKETS = { claim: 'ticketIds', kind: 'ticket', rooms: ['ticket:1'] as Room[] };

for (const [cause, given, about, codes] of [
  ['good claims', claims(), null, ['fine']],
  ['an expired token', claims({ expiresAtMs: NOW_MS - 1 }), null, ['expired']],
  ['a token of tomorrow', claims({ validFromMs: NOW_MS + 1 }), null, ['notYet']],
  ['a token for all tenants', claims({ tenants: ['*'] }), null, ['forAllTenants']],
  ['a token without a tenant', claims({ tenants: [] }), null, ['noTenant']],
  ['a token without subscribe', claims({ scopes: ['publish'] }), null, ['noSubscribe']],
  ['a token without a scope', claims({ scopes: null }), null, ['noScope']],
  ['a narrow token', claims({ named: [TICKETS] }), null, ['narrowed']],
  [
    'a narrow token, and another room',
    claims({ named: [TICKETS] }),
    traffic('ticket:5', null),
    ['cannotHear', 'narrowed'],
  ],
  ['a narrow token, and its room', claims({ named: [TICKETS] }), traffic('ticket:1', null), ['narrowed']],
  ['another tenant', claims({ tenants: ['globex'] }), traffic('ticket:5', event()), ['otherTenant']],
  [
    'a claim of a declared kind, which may open rooms',
    claims({ named: [{ claim: 'queueIds', kind: 'queue', rooms: ['queue:1'] }] }),
    null,
    ['fine'],
  ],
] as const) {
  test(`what the claims say: ${cause}`, () => {
    assert.deepEqual(
      judgeClaims(given, NOW_MS, about).map(({ code }) => code),
      codes,
    );
  });
}

test('a fault of the bridge comes before any verdict', () => {
  const log = { healthy: true, reached: true };
  const fault = (stats: object, state = 'live', isFailing = false) =>
    serverFault({ state, stats: { redis: null, node: {}, log, ...stats } as never }, isFailing);
  assert.equal(fault({}), null);
  assert.equal(fault({}, 'live', true), 'logFull', 'a disk that takes small writes only');
  assert.equal(fault({ log: { healthy: false, reached: true } }), 'logFull');
  assert.equal(fault({ log: { healthy: true, reached: false } }), 'logAway');
  assert.equal(
    fault({ log: { healthy: false, reached: false }, redis: { reached: false, takesWrites: false } }),
    'redisAway',
  );
  assert.equal(fault({ redis: { reached: true, takesWrites: false } }), 'logFull');
  assert.equal(fault({ node: { draining: true }, log: { healthy: false, reached: true } }), 'draining');
  assert.equal(fault({ log: { healthy: false, reached: true } }, 'unreachable'), null, 'old figures prove nothing');
});
