/** The server killed, drained and stopped dead at the moments that hurt; the network cut everywhere. */
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { WriterTask } from '../store/writer.preload.ts';
import type { Objection } from './checker.ts';
import { TRANSPORTS } from './listeners.ts';
import { eventually, type Kit, onStage, type Stage, type Verdict } from './stage.ts';

export const sqlite = (kit: Kit): { STORE_URL: string } => ({ STORE_URL: `sqlite:${kit.scratch}/log.db` });

/** Late listeners go on joining from old places, so that replays and handovers are always under way. */
export function latecomers(kit: Kit, stage: Stage, everyMs: number): () => Promise<void> {
  let stopping = false;
  const random = kit.random.fork('latecomers');
  const coming = (async () => {
    for (let count = 0; !stopping && count < 60; count++) {
      const places = stage.publications.flatMap(({ ids }) => ids);
      const after = places.length === 0 ? undefined : random.pick(places);
      await stage.listen(random.pick(TRANSPORTS), {
        tenant: random.pick(stage.tenants),
        legacy: random.chance(0.3),
        node: random.whole(0, stage.servers.length - 1),
        ...(after === undefined ? {} : { after }),
      });
      await sleep(everyMs);
    }
  })();
  return async () => {
    stopping = true;
    await coming;
  };
}

/** SIGKILL or SIGTERM during publish, replay and handover, again and again. */
export function killed(signal: 'SIGKILL' | 'SIGTERM') {
  return (kit: Kit): Promise<Verdict> =>
    onStage(kit, { env: { ...sqlite(kit), DRAIN_MS: '2000' }, auth: 'jwt' }, async (stage) => {
      await stage.audience();
      const stop = stage.publishing(4);
      const stopComing = latecomers(kit, stage, 120);
      const objections: Objection[] = [];
      const ends = Date.now() + kit.budgetMs;
      let rounds = 0;
      while (rounds < 3 || Date.now() < ends) {
        rounds++;
        await sleep(kit.random.whole(100, 900));
        // Killed again while it drains, now and then.
        const { server } = stage;
        const killing = signal === 'SIGTERM' && kit.random.chance(0.25) ? kit.random.whole(0, 200) : null;
        if (killing !== null) void sleep(killing).then(() => server.process.kill('SIGKILL'));
        const code = await stage.restart(signal);
        if (signal === 'SIGTERM' && killing === null && code !== 0) {
          objections.push({
            law: 'lost',
            who: 'server',
            detail: `SIGTERM ended it with ${code}: ${server.errors.join(' / ')}`,
          });
        }
        kit.progress(`${rounds} restarts, ${stage.counts.acknowledged} acknowledged`);
      }
      await stopComing();
      await stop();
      return stage.verdict({ restarts: rounds }, { objections });
    });
}

/**
 * The disk hangs while a projection is committed: whoever reads state or old records is answered and misses nothing, and
 * now and then the server is killed with the commit half done.
 */
export function projections(kit: Kit): Promise<Verdict> {
  const writer: WriterTask = { mode: 'hang', folder: kit.scratch };
  const preload = import.meta.resolve('../store/writer.preload.ts');
  const env = { ...sqlite(kit), NODE_OPTIONS: `--import=${preload}`, WRITER: JSON.stringify(writer) };
  return onStage(kit, { env }, async (stage) => {
    await stage.audience();
    const objections: Objection[] = [];
    const [hang, reached] = ['hang-projection', 'hang-projection.reached'].map((name) => join(kit.scratch, name)) as [
      string,
      string,
    ];
    const ends = Date.now() + kit.budgetMs;
    let rounds = 0;
    let kills = 0;
    for (; rounds < 3 || Date.now() < ends; rounds++) {
      const stopBefore = stage.publishing(4);
      await sleep(kit.random.whole(100, 500));
      await stopBefore();
      writeFileSync(hang, '');
      // In the quiet after this one, the log projects.
      await stage.publish();
      await eventually('a projection hangs', () => existsSync(reached));
      const stop = stage.publishing(4);
      const [tenant] = stage.tenants as [string];
      const paths = [`events?tenantId=${tenant}&after=start&limit=1000`, `tickets?tenantId=${tenant}`];
      for (const path of [...paths, `tickets/ticket-1/messages?tenantId=${tenant}`]) {
        const status = await fetch(`${stage.server.url}/${path}`, { signal: AbortSignal.timeout(3_000) }).then(
          (response) => response.status,
          (error: unknown) => String(error),
        );
        if (status !== 200) {
          objections.push({ law: 'state', who: path, detail: `while a projection hangs: ${status}` });
        }
      }
      await sleep(kit.random.whole(0, 500));
      const isKilled = kit.random.chance(0.5);
      if (isKilled) await stage.server.end('SIGKILL');
      for (const file of [hang, reached]) rmSync(file);
      if (isKilled) await stage.start();
      if (isKilled) kills++;
      await sleep(kit.random.whole(0, 300));
      await stop();
      kit.progress(`${rounds + 1} projections hung, ${kills} kills`);
    }
    return stage.verdict({ hung: rounds, kills }, { objections });
  });
}

/** Handover under load: many listeners begin at old places while events are published; nothing else goes wrong. */
export function handover(kit: Kit): Promise<Verdict> {
  return onStage(kit, { env: sqlite(kit), auth: 'jwt' }, async (stage) => {
    for (let count = 0; count < 100; count++) await stage.publish();
    await stage.audience();
    const stop = stage.publishing(4, 1);
    const stopComing = latecomers(kit, stage, 30);
    await sleep(Math.max(4_000, kit.budgetMs));
    await stopComing();
    await stop();
    return stage.verdict();
  });
}

/** Everything that a network does, at random, to every connection, while the server is killed now and then. */
export function mixed(kit: Kit): Promise<Verdict> {
  return onStage(kit, { env: { ...sqlite(kit), DRAIN_MS: '1000' }, auth: 'jwt', tenants: 3 }, async (stage) => {
    await stage.audience(2);
    const stop = stage.publishing(3, 2);
    const stopComing = latecomers(kit, stage, 250);
    const ends = Date.now() + Math.max(8_000, kit.budgetMs);
    const done: Record<string, number> = {};
    const faults = (): number => Object.values(done).reduce((sum, count) => sum + count, 0);
    while (Date.now() < ends || faults() < 40) {
      const relay = kit.random.pick(stage.relays);
      const fault = kit.random.pick([
        'cut',
        'cutAfter',
        'orphan',
        'freeze',
        'stop',
        'slow',
        'all',
        'kill',
        'halt',
      ] as const);
      done[fault] = (done[fault] ?? 0) + 1;
      if (fault === 'cut') relay.cut();
      if (fault === 'cutAfter') relay.cutAfter(kit.random.whole(0, 3_000));
      if (fault === 'orphan') relay.orphan();
      if (fault === 'all') for (const each of stage.relays) each.cut();
      if (fault === 'freeze' || fault === 'stop' || fault === 'slow') {
        if (fault === 'freeze') relay.freeze();
        if (fault === 'stop') relay.stopReading();
        if (fault === 'slow') relay.throttle(kit.random.whole(1, 5_000));
        const over = kit.random.whole(200, 2_000);
        // A frozen connection does not come back to life: when the network does, it is reset.
        void sleep(over).then(() => {
          relay.restore();
          if (fault === 'freeze') relay.cut();
        });
      }
      if (fault === 'kill' && kit.random.chance(0.3))
        await stage.restart(kit.random.pick(['SIGKILL', 'SIGTERM'] as const));
      if (fault === 'halt') {
        stage.server.process.kill('SIGSTOP');
        await sleep(kit.random.whole(50, 600));
        stage.server.process.kill('SIGCONT');
      }
      await sleep(kit.random.whole(5, 150));
      kit.progress(`${faults()} faults, ${stage.counts.acknowledged} acknowledged`);
    }
    await stopComing();
    for (const relay of stage.relays) relay.restore();
    await stop();
    return stage.verdict({ faults: faults() }, { patienceMs: 60_000 });
  });
}
