/**
 * A reader never sees that a projection is behind (src/store/store.ts): in random lives of a log, on a disk that hangs or
 * is full, after everything was removed, and in what a killed process leaves.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { createEventCatalog } from '../../src/contract/events.ts';
import type { AppendEvent, Store } from '../../src/store/store.ts';
import { append, declared, KEEP, message, outcome, readAll, request, ticket } from './conformance.ts';
import { LATE, live, logsOf } from './lives.ts';
import { seqOf } from './looks.ts';
import type { WriterTask } from './writer.preload.ts';

function change(fields: object): AppendEvent {
  const payload = { tenantId: 't1', messageUpdatedAt: '2026-01-01T00:00:00Z', message: {}, ...fields };
  const result = createEventCatalog().check('messages.updated', payload);
  assert.ok(result.kind === 'ok');
  return { ...result.event, audiences: result.event.rooms };
}

const PRELOAD = import.meta.resolve('./writer.preload.ts');
const FAULTS = fileURLToPath(import.meta.resolve('./projection-faults.child.ts'));

describe('a projection that is behind', () => {
  for (const [seed, keying, life] of [
    // Nothing is removed: all that the first store knows stays unprojected to the end.
    [1, 'room', { steps: 80, looks: 20, trims: 0, erasures: 0, most: 4, atRecords: 5 }],
    [2, 'tenant', { steps: 120, looks: 12, trims: 40, erasures: 25, most: 3, atRecords: 7, declares: true }],
    // Whole stretches of the log.
    [3, 'room', { steps: 40, looks: 20, trims: 30, erasures: 20, most: 60, atRecords: 150 }],
  ] as const) {
    it(`is never seen in a random life (seed ${seed})`, (t) => live(t, seed, keying, life));
  }

  describe('when all is removed', () => {
    const everything = () => [
      ...[ticket(), message({ messageId: 'm' }), declared({ ticketId: 'k1' }), declared()],
      ...[ticket({ tenantId: 't2' }), message({ tenantId: 't2', ticketId: 'k2', messageId: 'm' })],
    ];
    const tenants = ['t1', 't2'];
    const removals: [string, (store: Store) => Promise<unknown>][] = [
      ['trim', (store) => store.trim({ ...KEEP, maxRecords: 0 })],
      [
        'trim with the state',
        (store) => store.trim({ ...KEEP, maxRecords: 0, stateBeforeMs: 2e12, dedupeBeforeMs: 2e12 }),
      ],
      ['erasure', (store) => Promise.all(tenants.map((tenantId) => store.erase({ tenantId, ticketId: null })))],
    ];
    for (const [what, remove] of removals) {
      it(`has a head that stays, also after a kill: ${what}`, async (t) => {
        const { open, killed } = logsOf(t, 'room');
        let file = 'log.db';
        let store = await open(file, { projectAt: LATE });
        const issued = new Set<number>();
        for (let round = 1; round <= 3; round++) {
          const before = await store.bounds();
          const ids = (await outcome(store, request(everything())))
            .filter(({ duplicate }) => !duplicate)
            .map(({ id }) => id);
          for (const id of ids) {
            assert.ok(id > before.head, 'cursors rise');
            assert.ok(!issued.has(seqOf(id)), 'and none is used again');
            issued.add(seqOf(id));
          }
          const head = ids.at(-1);
          assert.equal((await store.bounds()).head, head);
          await remove(store);
          for (const [when, reader] of [
            ['at once', store],
            ['after a kill', await open(killed(file), { projectAt: LATE })],
          ] as const) {
            const bounds = await reader.bounds();
            assert.deepEqual([bounds.head, bounds.oldest], [head, head], when);
            if (what !== 'erasure') assert.equal(bounds.floor, head, when);
            assert.equal((await reader.stats()).records, 0, when);
            assert.deepEqual(await reader.resolve(bounds.head), { kind: 'ok' }, when);
            assert.equal((await reader.resolve(ids[0] as string)).kind, what === 'erasure' ? 'ok' : 'expired', when);
            assert.deepEqual(await readAll(reader, ['tenant:t1', 'tenant:t2'], bounds.head), {
              records: [],
              position: head,
            });
          }
          // Goes on with what a kill leaves.
          const next = killed(file);
          await store.close();
          [file, store] = [next, await open(next, { projectAt: LATE })];
        }
      });
    }

    it('inherits no room of an erased ticket, also after a repeat of the message', async (t) => {
      const { open } = logsOf(t, 'room');
      const rooms = ['ticket:k1', 'ticket:k2'] as const;
      const first = { ...message({ ticketId: 'k2', messageId: 'm' }), rooms, roomsAreNamed: true, audiences: rooms };
      for (const isProjected of [true, false]) {
        const store = await open(':memory:');
        await append(store, [first, ticket()]);
        const repeat = async () => assert.equal((await outcome(store, request([first])))[0]?.duplicate, true);
        // A log in memory projects before it reads.
        if (isProjected) await store.bounds();
        await repeat();
        await store.erase({ tenantId: 't1', ticketId: 'k1' });
        const edit = change({ ticketId: 'k2', messageId: 'm' });
        assert.deepEqual((await outcome(store, request([edit])))[0]?.rooms, edit.rooms);
      }
    });
  });

  for (const [mode, what] of [
    ['hang', 'reads go on while a commit or a projection hangs'],
    ['fail', 'nothing is lost or hidden while it fails, at any statement'],
    ['stick', 'nothing is acknowledged without a sync while it can neither end nor be taken back'],
    ['refuse', 'appends are refused past a bound while it fails'],
  ] as const) {
    it(what, async (t) => {
      const folder = mkdtempSync(join(tmpdir(), 'roomcast-'));
      t.after(() => rmSync(folder, { recursive: true }));
      const writer: WriterTask = { mode: mode === 'hang' ? 'hang' : 'fail', folder };
      const child = spawn(
        process.execPath,
        ['--disable-warning=ExperimentalWarning', '--import', PRELOAD, FAULTS, mode, folder],
        {
          env: { ...process.env, WRITER: JSON.stringify(writer) },
          stdio: ['ignore', 'inherit', 'pipe'],
        },
      );
      t.after(() => child.kill('SIGKILL'));
      const errors: Buffer[] = [];
      child.stderr.on('data', (chunk: Buffer) => errors.push(chunk));
      const [code] = await once(child, 'close');
      assert.equal(code, 0, Buffer.concat(errors).toString());
    });
  }
});
