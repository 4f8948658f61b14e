/** The laws of the port of revocations (src/store/revocations.ts), for every engine. */
import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import {
  erasedClaim,
  erasedTenant,
  isErased,
  type NewRevocation,
  REVOCATION_SLICE,
  type Revocation,
} from '../../src/store/revocations.ts';
import type { Store } from '../../src/store/store.ts';
import { until } from '../support/until.ts';
import { type Engine, KEEP, refusedAs } from './conformance.ts';

const NOW = 1_767_225_600_000;

export const revocation = (overrides: Partial<NewRevocation> = {}): NewRevocation => ({
  ...{ sub: 'u1', tenantId: 't1', jti: null, beforeMs: NOW, createdAtMs: NOW },
  ...overrides,
});

/** What a node knows: its listener applies every change to `known`. */
export async function followerOf(store: Store) {
  const followed = { known: [] as Revocation[], replacements: 0 };
  await store.followRevocations({
    added: (revocations) => void followed.known.push(...revocations),
    async replaced(revocations) {
      followed.replacements++;
      followed.known = [...revocations];
    },
  });
  return followed;
}

async function revoke(store: Store, overrides: Partial<NewRevocation> = {}): Promise<Revocation> {
  const added = await store.revoke(revocation(overrides), { inAll: 1e6, ofTenant: 1e6 });
  assert.notEqual(added, 'full');
  return added as Revocation;
}

const ALL = { tenants: null, limit: 1000, page: null } as const;
const listed = async (store: Store, tenants: readonly string[] | null = null): Promise<readonly Revocation[]> =>
  (await store.revocations({ ...ALL, tenants })).items;

export function revocationConformance(name: string, engine: Engine): void {
  async function setUp(t: TestContext) {
    const log = await engine.create();
    const stores: Store[] = [];
    const open = async (): Promise<Store> => {
      const store = await log.open();
      stores.push(store);
      return store;
    };
    const close = () => Promise.all(stores.map((store) => store.close()));
    t.after(async () => {
      await close();
      await log.remove();
    });
    const store = await open();
    return { store, open, reopen: () => close().then(open) };
  }

  describe(`revocations: ${name}`, () => {
    it('reach the listener, the list and a search by id, and leave them when they are lifted', async (t) => {
      const { store } = await setUp(t);
      const before = await revoke(store);
      const followed = await followerOf(store);
      assert.deepEqual(followed.known, [before], 'what was there');
      const full = revocation({ sub: 'ü "1"\n', jti: 'j 1', beforeMs: -1 });
      const second = await revoke(store, full);
      assert.deepEqual(second, { id: second.id, ...full });
      assert.deepEqual(followed.known, [before, second], 'at once on its own node');
      const third = await revoke(store, { sub: null, tenantId: null, jti: 'j2' });
      assert.deepEqual(await listed(store), [third, second, before], 'newest first');
      assert.deepEqual(await store.findRevocation(second.id), second);
      assert.equal(new Set([before, second, third].map(({ id }) => id)).size, 3);

      assert.equal(await store.liftRevocation(second.id), true);
      assert.deepEqual(followed.known, [before, third]);
      assert.equal(await store.liftRevocation(second.id), false);
      assert.equal(await store.findRevocation(second.id), null);
      for (const id of ['', 'x', '1', '1-', `${third.id}x`, '9'.repeat(30), third.id.replace('-', '_')]) {
        assert.equal(await store.findRevocation(id), null, id);
        assert.equal(await store.liftRevocation(id), false, id);
      }
      assert.deepEqual(await listed(store), [third, before]);
      const fourth = await revoke(store);
      assert.deepEqual(followed.known, [before, third, fourth]);
    });

    it('are listed in pages, for some tenants or all', async (t) => {
      const { store } = await setUp(t);
      const added: Revocation[] = [];
      for (let n = 0; n < 23; n++) added.unshift(await revoke(store, { sub: `u${n}`, tenantId: `t${n % 3}` }));
      added.unshift(await revoke(store, { tenantId: null }));
      const pages = async (tenants: readonly string[] | null, limit: number) => {
        const sizes: number[] = [];
        const items: Revocation[] = [];
        for (let page: string | null = null; ; ) {
          const found = await store.revocations({ tenants, limit, page });
          sizes.push(found.items.length);
          items.push(...found.items);
          if (found.nextPage === null) return { sizes, items };
          page = found.nextPage;
        }
      };
      const of = (...tenants: string[]) => added.filter(({ tenantId }) => tenants.includes(tenantId ?? ''));
      assert.deepEqual(await pages(null, 10), { sizes: [10, 10, 4], items: added });
      assert.deepEqual(await pages(['t1'], 4), { sizes: [4, 4], items: of('t1') });
      assert.deepEqual(await pages(['t0', 't2', 'none'], 5), { sizes: [5, 5, 5], items: of('t0', 't2') });
      assert.deepEqual(await pages(['none'], 5), { sizes: [0], items: [] });
      for (const page of ['', 'x', '1', '-1-a', ' 1-a']) {
        await assert.rejects(store.revocations({ ...ALL, page }), refusedAs('invalid_request'), page);
      }
      const [, , third] = added as [Revocation, Revocation, Revocation];
      await store.liftRevocation(third.id);
      const afterLifted = await store.revocations({ tenants: null, limit: 2, page: third.id });
      assert.deepEqual(afterLifted.items, added.slice(3, 5), 'the last item of a page may be lifted meanwhile');
    });

    it('are removed once they are too old', async (t) => {
      const { store } = await setUp(t);
      const followed = await followerOf(store);
      const old = await revoke(store, { createdAtMs: NOW - 2 });
      const young = await revoke(store, { createdAtMs: NOW });
      await store.trim({ ...KEEP, revokedBeforeMs: NOW - 2 });
      assert.deepEqual(await listed(store), [young, old]);
      await store.trim({ ...KEEP, revokedBeforeMs: NOW });
      assert.deepEqual(await listed(store), [young]);
      assert.deepEqual(await listed(store, ['t1']), [young]);
      await until('the listener knows', () => followed.known.length === 1);
      assert.deepEqual(followed.known, [young]);
    });

    it('keep their force and lose their ids when their tenant is erased', async (t) => {
      const { store } = await setUp(t);
      const followed = await followerOf(store);
      const ofTenant = await revoke(store, { tenantId: 'gone', sub: 'u1', jti: 'j1' });
      const whole = await revoke(store, { tenantId: 'gone', sub: null });
      const others = [await revoke(store), await revoke(store, { tenantId: null, sub: 'u1' })];
      await store.erase({ tenantId: 'gone', ticketId: 'k1' });
      assert.equal((await listed(store, ['gone'])).length, 2, 'the erasure of a ticket does not concern them');

      await store.erase({ tenantId: 'gone', ticketId: null });
      const erased = [
        { ...whole, tenantId: erasedTenant('gone') },
        {
          ...ofTenant,
          ...{ sub: erasedClaim('gone', 'u1'), tenantId: erasedTenant('gone'), jti: erasedClaim('gone', 'j1') },
        },
      ];
      assert.deepEqual(await listed(store), [...others.toReversed(), ...erased]);
      assert.deepEqual(await listed(store, ['gone']), []);
      assert.deepEqual(await listed(store, [erasedTenant('gone')]), erased);
      assert.deepEqual(erased.map(isErased), [true, true]);
      assert.deepEqual(others.map(isErased), [false, false]);
      await until('the listener knows', () => followed.known.some(isErased));
      assert.deepEqual(followed.known, [...others, ...erased].toSorted(byNumber));

      const again = await revoke(store, { tenantId: 'gone' });
      await store.erase({ tenantId: 'gone', ticketId: null });
      assert.equal((await listed(store, [erasedTenant('gone')])).length, 3);
      assert.equal(await store.liftRevocation(again.id), true);
      assert.equal((await listed(store, [erasedTenant('gone')])).length, 2);
    });

    it('are bounded, for each tenant too', async (t) => {
      const { store } = await setUp(t);
      const limits = { inAll: 5, ofTenant: 3 };
      const add = (tenantId: string | null) => store.revoke(revocation({ tenantId }), limits);
      const first = (await add('t1')) as Revocation;
      await add('t1');
      await add('t1');
      assert.equal(await add('t1'), 'full');
      assert.notEqual(await add('t2'), 'full');
      assert.notEqual(await add(null), 'full');
      assert.equal(await add(null), 'full');
      assert.equal((await listed(store)).length, 5);
      await store.liftRevocation(first.id);
      assert.notEqual(await add('t1'), 'full');
      assert.equal(await add('t2'), 'full');
    });

    it('are read and removed in slices', async (t) => {
      const { store } = await setUp(t);
      const count = 2 * REVOCATION_SLICE + 1;
      // Each call has 5 s, so not all of them wait at once.
      for (let n = 0; n < count; n += 100) {
        const some = Array.from({ length: Math.min(100, count - n) }, (_, index) => `u${n + index}`);
        await Promise.all(some.map((sub) => revoke(store, { sub })));
      }
      const followed = await followerOf(store);
      assert.equal(new Set(followed.known.map(({ sub }) => sub)).size, count);
      await store.erase({ tenantId: 't1', ticketId: null });
      assert.deepEqual(await listed(store, ['t1']), []);
      await until('the listener knows', () => followed.known.every(isErased));
      assert.equal(followed.known.length, count);
      await store.trim({ ...KEEP, revokedBeforeMs: NOW + 1 });
      assert.deepEqual(await listed(store), []);
      await until('the listener knows', () => followed.known.length === 0);
    });

    if (engine.keeps) {
      it('are still there when the log is opened again', async (t) => {
        const { store, reopen } = await setUp(t);
        const added = [await revoke(store), await revoke(store, { tenantId: null, sub: 'u2' })];
        const reopened = await reopen();
        assert.deepEqual((await followerOf(reopened)).known, added);
        assert.deepEqual(await listed(reopened), added.toReversed());
      });
    }

    if (engine.nodes === 'many') {
      it('reach the listeners of all nodes', async (t) => {
        const { store: a, open } = await setUp(t);
        const b = await open();
        const [ofA, ofB] = [await followerOf(a), await followerOf(b)];
        const first = await revoke(a);
        const second = await revoke(b);
        await until('both know both', () => ofA.known.length === 2 && ofB.known.length === 2);
        assert.deepEqual(ofB.known, [first, second]);
        const { replacements } = ofB;
        await a.liftRevocation(first.id);
        await until('both know', () => ofA.known.length === 1 && ofB.known.length === 1);
        assert.equal(ofB.replacements, replacements + 1);
        await revoke(a);
        await until('both know', () => ofB.known.length === 2);
        assert.equal(ofB.replacements, replacements + 1, 'an addition costs no more than itself');
      });
    }
  });
}

const byNumber = (a: Revocation, b: Revocation): number => Number.parseInt(a.id, 10) - Number.parseInt(b.id, 10);
