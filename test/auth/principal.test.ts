/** protocol §11: what a principal may hear, read, publish and administer. A table, and a generated matrix of tenants. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  ANONYMOUS,
  audiencesFor,
  callerKey,
  hearingOf,
  mayAdminister,
  mayPublish,
  mayResume,
  type Principal,
  publisherKey,
  sessionHolder,
  type TokenHolder,
  whyDeaf,
  whyUnheard,
} from '../../src/auth/principal.ts';
import { audienceOf, createHears, HEARS_ALL } from '../../src/contract/audiences.ts';
import { BUILT_IN_KINDS, formatRoom, type Room } from '../../src/contract/rooms.ts';

function holder(overrides: Partial<TokenHolder> = {}): TokenHolder {
  return {
    kind: 'token',
    tenants: ['t1'],
    subject: 'u1',
    scopes: new Set(['subscribe', 'publish']),
    narrowing: null,
    openKinds: ['ticket', 'agreement'],
    claimed: new Map(),
    tokenId: null,
    issuedAtS: null,
    expiresAtMs: null,
    ...overrides,
  };
}

/** The claims `ticketIds` and `agreementIds`. */
function narrowedTo(ticketIds: Iterable<string> | null, agreementIds: Iterable<string> | null = null) {
  const narrowing = new Map<string, ReadonlySet<string>>();
  if (ticketIds !== null) narrowing.set('ticket', new Set(ticketIds));
  if (agreementIds !== null) narrowing.set('agreement', new Set(agreementIds));
  return { narrowing: narrowing.size === 0 ? null : narrowing };
}

const whole = holder();
const narrowed = holder(narrowedTo(['1'], ['a']));
const byTicket = holder(narrowedTo(['1']));
const nothing = holder(narrowedTo([]));
const service = holder({ tenants: '*', scopes: new Set(['subscribe', 'publish', 'admin']) });
const mute = holder({ scopes: new Set(['publish']) });

test('who listens to nothing, and why', () => {
  for (const principal of [ANONYMOUS, whole, narrowed, nothing]) assert.equal(whyDeaf(principal), null);
  assert.match(whyDeaf(mute) ?? '', /lacks the scope subscribe/);
  assert.match(whyDeaf(service) ?? '', /Use one that names its tenants/);
  assert.match(whyDeaf(holder({ tenants: [] })) ?? '', /lacks the claim tenantId/);
  const deaf = holder({ subject: null, ...narrowedTo([]) });
  assert.match(whyDeaf(deaf) ?? '', /claim ticketIds names none, and it has no sub/);
});

test('why a room is not heard', () => {
  const team = holder({ claimed: new Map([['team', new Set(['a'])]]) });
  for (const [principal, room, reason] of [
    [whole, 'tenant:t2', /tenant:t2: its claim tenantId names t1\.$/],
    [holder({ tenants: ['a', 'b', 'c', 'd'] }), 'tenant:t2', /names a, b, c, …\.$/],
    [narrowed, 'tenant:t1', /tenant:t1: its claim ticketIds, agreementIds limits it to other rooms\.$/],
    [byTicket, 'ticket:2', /ticket:2: its claim ticketIds limits it/],
    [whole, 'user:u2', /user:u2: only the user with this sub may\.$/],
    [whole, 'team:a', /team:a: it lacks the claim teamIds\.$/],
    [team, 'team:b', /team:b: its claim teamIds does not name it\.$/],
    [service, 'tenant:t1', /Use one that names its tenants/],
    [mute, 'tenant:t1', /lacks the scope subscribe/],
  ] as const) {
    assert.deepEqual(audiencesFor(principal, room as Room), []);
    assert.match(whyUnheard(principal, room as Room), reason);
  }
});

test('which rooms are heard', () => {
  const table: readonly [TokenHolder, Room, boolean][] = [
    [whole, 'tenant:t1', true],
    [whole, 'tenant:t2', false],
    [whole, 'ticket:1', true],
    [whole, 'agreement:a', true],
    [whole, 'user:u1', true],
    [whole, 'user:u2', false],
    [holder({ subject: null }), 'user:u1', false],
    [narrowed, 'tenant:t1', false],
    [narrowed, 'ticket:1', true],
    [narrowed, 'ticket:2', false],
    [narrowed, 'agreement:a', true],
    [narrowed, 'agreement:b', false],
    [narrowed, 'user:u1', true],
    [narrowed, 'user:u2', false],
    [byTicket, 'ticket:1', true],
    [byTicket, 'agreement:a', false],
    [nothing, 'tenant:t1', false],
    [nothing, 'ticket:1', false],
    [nothing, 'agreement:a', false],
    [nothing, 'user:u1', true],
    [service, 'tenant:t1', false],
    [service, 'tenant:*', false],
    [service, 'ticket:1', false],
    [service, 'user:u1', false],
    [mute, 'tenant:t1', false],
    [mute, 'ticket:1', false],
    [holder({ scopes: new Set() }), 'ticket:1', false],
    [holder({ tenants: [] }), 'ticket:1', false],
    [holder({ tenants: [] }), 'user:u1', false],
  ];
  for (const [principal, room, heard] of table) {
    const audiences = audiencesFor(principal, room);
    assert.deepEqual(audiences, heard ? [`t1\n${room}`] : [], `${room} for ${JSON.stringify(principal)}`);
  }
});

test('a token of several tenants hears a room in each, and a tenant room in its own only', () => {
  const principal = holder({ tenants: ['t1', 't2'] });
  assert.deepEqual(audiencesFor(principal, 'ticket:1'), ['t1\nticket:1', 't2\nticket:1']);
  assert.deepEqual(audiencesFor(principal, 'tenant:t2'), ['t2\ntenant:t2']);
});

test('no principal has a key of an audience of a tenant that its token does not name', () => {
  const tenants = ['t1', 't2', '*', 't1:ticket', 'ticket:1', '__proto__', 'constructor'];
  const ids = [...tenants, '1', 'a', 'u1', 'u2', 'user:u1', 'tenant:t1', 't2\u2028x'.slice(0, 2)];
  const narrowings = [null, new Set<string>(), new Set(['1', 'a', 't2', 'ticket:1'])];
  const scopes = ['', 'subscribe', 'publish', 'subscribe publish admin'].map((text) => new Set(text.split(' ')));
  let tried = 0;
  for (const named of [[], ['t1'], ['t1', 't1:ticket'], '*' as const]) {
    for (const ticketIds of narrowings) {
      for (const agreementIds of narrowings) {
        for (const scope of scopes) {
          const principal = holder({ tenants: named, ...narrowedTo(ticketIds, agreementIds), scopes: scope });
          const reachable = new Set(
            ids.flatMap((id) => BUILT_IN_KINDS.flatMap((kind) => audiencesFor(principal, formatRoom(kind, id)))),
          );
          for (const tenant of tenants.filter((id) => named !== '*' && named.includes(id))) {
            // What may be read is what may be heard.
            const hears = createHears(hearingOf(principal, tenant) ?? { kinds: [], rooms: [] });
            for (const room of ids.flatMap((id) => BUILT_IN_KINDS.map((kind) => formatRoom(kind, id)))) {
              assert.equal(hears(room), reachable.has(audienceOf('tenant', tenant, room)), `${tenant} ${room}`);
            }
          }
          for (const tenant of tenants.filter((id) => named === '*' || !named.includes(id))) {
            for (const id of ids) {
              for (const kind of BUILT_IN_KINDS) {
                tried++;
                assert.ok(!reachable.has(audienceOf('tenant', tenant, formatRoom(kind, id))));
              }
            }
            assert.equal(hearingOf(principal, tenant), null);
            if (named !== '*') {
              assert.equal(mayPublish(principal, tenant), false);
              assert.equal(mayAdminister(principal, tenant), false);
            }
          }
        }
      }
    }
  }
  assert.ok(tried > 10_000);
});

test('whose state is read', () => {
  assert.deepEqual(hearingOf(whole, 't1'), { kinds: ['ticket', 'agreement'], rooms: ['tenant:t1', 'user:u1'] });
  assert.deepEqual(hearingOf(narrowed, 't1'), { kinds: [], rooms: ['user:u1', 'ticket:1', 'agreement:a'] });
  assert.deepEqual(hearingOf(nothing, 't1'), { kinds: [], rooms: ['user:u1'] });
  assert.deepEqual(hearingOf(holder({ subject: null, ...narrowedTo(null, []) }), 't1'), { kinds: [], rooms: [] });
  for (const [principal, tenantId] of [
    [whole, 't2'],
    [service, 't1'],
    [service, '*'],
    [mute, 't1'],
  ] as const) {
    assert.equal(hearingOf(principal, tenantId), null);
  }
});

test('who publishes and who administers', () => {
  assert.equal(mayPublish(whole, 't1'), true);
  assert.equal(mayPublish(whole, 't2'), false);
  assert.equal(mayPublish(service, 't2'), true);
  assert.equal(mayPublish(holder({ scopes: new Set(['subscribe']) }), 't1'), false);
  assert.equal(mayAdminister(whole, 't1'), false);
  const admin = holder({ scopes: new Set(['admin']) });
  assert.equal(mayAdminister(admin, 't1'), true);
  assert.equal(mayAdminister(admin, 't2'), false);
  assert.equal(mayAdminister(admin, null), false);
  assert.equal(mayAdminister(service, null), true);
  assert.equal(mayAdminister(holder({ scopes: new Set(['admin']), ...narrowedTo(['1']) }), 't1'), false);
});

test('without tokens everyone may do everything, and audiences are rooms', () => {
  assert.deepEqual(audiencesFor(ANONYMOUS, 'user:u1'), ['user:u1']);
  assert.deepEqual(hearingOf(ANONYMOUS, 't1'), HEARS_ALL);
  assert.ok(mayPublish(ANONYMOUS, 't1') && mayAdminister(ANONYMOUS, null));
});

test('a publisher is known by its subject and tenants, in whatever order they are named', () => {
  assert.equal(publisherKey(holder({ tenants: ['a', 'b'] })), publisherKey(holder({ tenants: ['b', 'a'] })));
  const others = [
    ANONYMOUS,
    whole,
    service,
    holder({ subject: null }),
    holder({ subject: 'u2' }),
    holder({ tenants: ['t2'] }),
    holder({ subject: 'u1\nt1' }),
  ];
  assert.equal(new Set(others.map(publisherKey)).size, others.length);
});

test('a caller is a token’s subject and tenants, or an address without tokens', () => {
  assert.equal(callerKey(whole, '192.0.2.1'), callerKey(holder({ scopes: new Set(['subscribe']) }), '192.0.2.2'));
  assert.notEqual(callerKey(whole, '192.0.2.1'), callerKey(holder({ subject: 'u2' }), '192.0.2.1'));
  assert.notEqual(callerKey(ANONYMOUS, '192.0.2.1'), callerKey(ANONYMOUS, '192.0.2.2'));
  assert.equal(callerKey(ANONYMOUS, '2001:db8::1'), callerKey(ANONYMOUS, '2001:db8::2'), 'one network');
});

test('a session goes on for the same user, still of one of its tenants, and for nobody else', () => {
  const of = (tenants: readonly string[] | '*', subject: string | null) => holder({ tenants, subject });
  const narrowed = (subject: string | null, ...ticketIds: string[]) =>
    holder({ tenants: ['a'], subject, ...narrowedTo(ticketIds) });
  const cases: [Principal, Principal, boolean][] = [
    [of(['a'], 'u'), of(['a'], 'u'), true],
    [of(['a'], 'u'), of(['b', 'a'], 'u'), true],
    [of(['a', 'b'], 'u'), of(['b'], 'u'), true],
    [of(['a'], null), of(['a'], null), true],
    [of(['a'], 'u'), narrowed('u', '1'), true],
    [of(['a'], 'u'), narrowed('u', '2'), false],
    [narrowed('u', '1'), of(['a'], 'u'), true],
    [narrowed(null, '1'), narrowed(null, '1', '2'), true],
    [narrowed(null, '1'), narrowed(null, '2'), false],
    [of(['a'], null), narrowed(null, '1'), false],
    [narrowed(null, '1'), of(['a'], null), false],
    [of(['a'], 'u'), of(['a'], 'v'), false],
    [of(['a'], 'u'), of(['a'], null), false],
    [of(['a'], null), of(['a'], 'u'), false],
    [of(['a'], 'u'), of(['b'], 'u'), false],
    [of(['a'], 'u'), of([], 'u'), false],
    [of(['a'], 'u'), of('*', 'u'), false],
    [of('*', 'u'), of('*', 'u'), false],
    [ANONYMOUS, ANONYMOUS, true],
    [ANONYMOUS, of(['a'], 'u'), false],
    [of(['a'], 'u'), ANONYMOUS, false],
  ];
  for (const [before, now, goesOn] of cases) {
    assert.equal(mayResume(now, sessionHolder(before), ['ticket:1']), goesOn, JSON.stringify([before, now]));
  }
});
