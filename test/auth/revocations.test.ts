/** protocol §15: the index of revocations on one node, and the connections that it ends. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ANONYMOUS, type TokenHolder } from '../../src/auth/principal.ts';
import { claimsOf, createRevoked, type TokenClaims, type WatchedConnection } from '../../src/auth/revocations.ts';
import { BridgeError } from '../../src/contract/errors.ts';
import { createLogger } from '../../src/logger.ts';
import { type Revocation, withoutIds } from '../../src/store/revocations.ts';
import { until } from '../support/until.ts';

const AT_S = 1_767_225_600;
const claims = (overrides: Partial<TokenClaims> = {}): TokenClaims => ({
  ...{ tenants: ['t1'], subject: 'u1', tokenId: 'j1', issuedAtS: AT_S },
  ...overrides,
});
const holder = (overrides: Partial<TokenClaims> = {}): TokenHolder => ({
  ...{ kind: 'token', scopes: new Set(), narrowing: null, openKinds: [], claimed: new Map(), expiresAtMs: null },
  ...claims(overrides),
});
let count = 0;
const revocation = (overrides: Partial<Revocation> = {}): Revocation => ({
  ...{ id: `${++count}-a`, sub: null, tenantId: null, jti: null, beforeMs: AT_S * 1000, createdAtMs: 0 },
  ...overrides,
});
const revokedCode = (error: unknown) => error instanceof BridgeError && error.code === 'token_revoked';

function connection(of: TokenClaims, onEnd = () => {}) {
  const self = {
    claims: of,
    ends: 0,
    revoked() {
      self.ends++;
      onEnd();
    },
  };
  return self satisfies WatchedConnection;
}

test('a token loses the tenants that are revoked for it, and is refused with the last one', async () => {
  const revoked = createRevoked(createLogger('silent'));
  const both = holder({ tenants: ['t1', 't2'] });
  assert.equal(revoked.current(both), both);
  revoked.added([revocation({ tenantId: 't1', sub: 'u1' })]);
  assert.deepEqual(revoked.current(both), { ...both, tenants: ['t2'] });
  assert.equal(revoked.current(ANONYMOUS), ANONYMOUS);
  for (const kept of [holder({ subject: 'u2' }), holder({ tenants: '*' }), holder({ issuedAtS: AT_S + 1 })]) {
    assert.equal(revoked.current(kept), kept);
  }
  for (const gone of [holder(), holder({ issuedAtS: null }), holder({ tokenId: null })]) {
    assert.throws(() => revoked.current(gone), revokedCode);
  }
  const none = holder({ tenants: [] });
  assert.equal(revoked.current(none), none);
  revoked.added([revocation({ tenantId: 't2' })]);
  assert.throws(() => revoked.current(both), revokedCode);
  await revoked.replaced([]);
  assert.equal(revoked.current(both), both);
});

test('the latest of several revocations counts', () => {
  const revoked = createRevoked(createLogger('silent'));
  revoked.added([revocation({ sub: 'u1', beforeMs: AT_S * 1000 + 999 }), revocation({ sub: 'u1', beforeMs: 0 })]);
  assert.throws(() => revoked.current(holder()), revokedCode);
  assert.doesNotThrow(() => revoked.current(holder({ issuedAtS: AT_S + 1 })));
});

test('a revocation of an erased tenant still matches', async () => {
  const revoked = createRevoked(createLogger('silent'));
  const erased = withoutIds(revocation({ tenantId: 't1', sub: 'u1', jti: 'j1' }), 't1');
  await revoked.replaced([erased]);
  assert.throws(() => revoked.current(holder()), revokedCode);
  for (const kept of [holder({ tenants: ['t2'] }), holder({ subject: 'u2' }), holder({ tokenId: null })]) {
    assert.equal(revoked.current(kept), kept);
  }
});

test('connections end once, also where the end of one throws, or comes while it connects', async () => {
  const revoked = createRevoked(createLogger('silent'));
  const fails = connection(claims(), () => {
    throw new Error('the connection fails on purpose');
  });
  const ends = Array.from({ length: 2_500 }, () => connection(claims()));
  const stays = [connection(claims({ subject: 'u2' })), connection(claimsOf(ANONYMOUS))];
  const left = connection(claims());
  for (const one of [fails, ...ends, ...stays, left]) revoked.watch(one);
  revoked.unwatch(left);
  revoked.added([revocation({ sub: 'u1' })]);
  await until('all have ended', () => [fails, ...ends].every((one) => one.ends === 1));
  revoked.added([revocation({ sub: 'u1' }), revocation({ tenantId: 'other' })]);
  assert.throws(() => revoked.watch(connection(claims())), revokedCode);
  revoked.added([revocation({ tenantId: 't9' })]);
  const partly = connection(claims({ subject: 'u3', tenants: ['t8', 't9'] }));
  assert.throws(
    () => revoked.watch(partly),
    (error) => error instanceof BridgeError && error.passing,
  );
  await revoked.replaced([revocation({ tenantId: 't1' })]);
  await until('the whole is looked at, too', () => stays[0]?.ends === 1);
  assert.deepEqual(
    [...stays.slice(1), left, ...ends].map((one) => one.ends),
    [0, 0, ...ends.map(() => 1)],
  );
});
