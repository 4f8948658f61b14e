/** Signals beside records (protocol §14): the network cut, the server killed, and floods that readers cannot take. */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { io, type Socket } from 'socket.io-client';
import { underAttack } from './attack.ts';
import type { Objection } from './checker.ts';
import { TRANSPORTS } from './listeners.ts';
import { latecomers, sqlite } from './scenarios-crash.ts';
import type { Server } from './server.ts';
import { SIGNALS } from './signals.ts';
import { type Kit, OPERATOR, onStage, signToken, type Verdict } from './stage.ts';

const objection = (detail: string): Objection => ({ law: 'lost', who: 'server', detail });

/** Signals sent to a quiet bridge, and their payload: five megabytes, of which none may reach the disk. */
const QUIET = { count: 5_000, bytes: 1_000 };
/** What sessions of listeners write meanwhile. */
const MOST_GROWTH_BYTES = 1_000_000;

/** With fewer heard signals a run proves nothing; a busy machine gets more time for them. */
const FEW = 100;
const PATIENCE_MS = 40_000;

/** Kills, drains and cuts while signals and records are sent; then signals alone, which the log must not notice. */
export function signalsBesideRecords(kit: Kit): Promise<Verdict> {
  const env = { ...sqlite(kit), DRAIN_MS: '1000', RATE_SIGNALS: '1000000' };
  return onStage(kit, { env, auth: 'jwt' }, async (stage) => {
    await stage.audience(2);
    const stop = stage.publishing(3, 5);
    const stopComing = latecomers(kit, stage, 150);
    const heard = (): number => stage.listeners.reduce((sum, { signals }) => sum + signals.length, 0);
    const ends = Date.now() + Math.max(5_000, kit.budgetMs);
    let faults = 0;
    while (Date.now() < ends || (heard() < FEW && Date.now() < ends + PATIENCE_MS)) {
      await sleep(kit.random.whole(50, 400));
      faults++;
      if (kit.random.chance(0.2)) await stage.restart(kit.random.pick(['SIGKILL', 'SIGTERM'] as const));
      else kit.random.pick(stage.relays).cut();
      kit.progress(`${faults} faults`);
    }
    await stopComing();
    await stop();
    // Signals of the last senders end 5 s after them, and others within a minute.
    const before = diskBytes(kit.scratch);
    await quietSignals(stage.server, stage.tenants[0] as string);
    const grewBytes = diskBytes(kit.scratch) - before;
    const objections: Objection[] = [];
    if (grewBytes > MOST_GROWTH_BYTES) objections.push(objection(`signals made the store grow by ${grewBytes} bytes`));
    const verdict = await stage.verdict({ faults, 'disk grew KiB': Math.round(grewBytes / 1024) }, { objections });
    if (heard() >= FEW) return verdict;
    return { ...verdict, objections: [...verdict.objections, objection('hardly any signal was heard')] };
  });
}

function diskBytes(directory: string): number {
  return readdirSync(directory).reduce((sum, name) => sum + statSync(join(directory, name)).size, 0);
}

async function quietSignals({ url }: Server, tenantId: string): Promise<void> {
  const headers = { 'content-type': 'application/json', authorization: `Bearer ${OPERATOR}` };
  const text = 'x'.repeat(QUIET.bytes);
  for (let at = 0; at < QUIET.count; at += 50) {
    await Promise.all(
      Array.from({ length: 50 }, async (_, index) => {
        // A room that nobody hears, and a ticket of the audience, by turns.
        const payload = { tenant: tenantId, target: `ticket:quiet-${at + index}`, n: 0, lifeSeconds: 1, text };
        const body = JSON.stringify({ event: SIGNALS[0], room: payload.target, payload, ttlSeconds: 1, tenantId });
        const response = await fetch(`${url}/signals`, { method: 'POST', headers, body });
        if (response.status !== 202) throw new Error(`a signal got ${response.status} ${await response.text()}`);
        await response.text();
      }),
    );
  }
}

const FLOODERS = 4;
/** The flood's numbers are none of the stage's. */
const FLOOD_NUMBERS = 1_000_000_000;
/** The largest that is allowed, all but. */
const FLOOD_TEXT = 'é'.repeat(1_900);
/** Of the flood itself: what a client's own buffer may hold before it waits for an answer. */
const UNANSWERED = 200;

/**
 * Clients that send signals as fast as they can, into a room with good and bad readers, beside records in the same room.
 * @param rate RATE_SIGNALS: low, so that nearly all are refused, or so high that the readers must do without
 */
export function signalFlood(rate: number) {
  return (kit: Kit): Promise<Verdict> => {
    const env = {
      ...sqlite(kit),
      RATE_SIGNALS: String(rate),
      MAX_BUFFER_BYTES: String(256 * 1024),
      METRICS_TOKEN: 'scrape',
    };
    return onStage(kit, { env, auth: 'jwt', tenants: 1 }, async (stage) => {
      const [tenant] = stage.tenants as [string];
      const [room] = ['ticket:ticket-1'];
      for (const transport of TRANSPORTS) {
        await stage.listen(transport, { tenant, rooms: [room], legacy: true });
        // Less than the flood, more than the records.
        (await stage.listen(transport, { tenant, rooms: [room] })).throttle(40_000);
      }
      const stopped = await stage.listen('sse', { tenant, rooms: [room] });
      await stage.untilReady();
      stopped.stopReading();
      const token = signToken({ tenantId: tenant, sub: 'flood', scope: 'subscribe signal' });
      const counts = { sent: 0, answered: 0, refused: 0 };
      const attack = async (signal: AbortSignal) => {
        const sockets: Socket[] = [];
        const flood = async (): Promise<void> => {
          const socket = io(stage.server.url, { transports: ['websocket'], forceNew: true, auth: { token } });
          sockets.push(socket);
          await new Promise<void>((resolve) => socket.once('connect', () => resolve()));
          let open = 0;
          while (!signal.aborted) {
            for (; open < UNANSWERED; open++) {
              counts.sent++;
              const payload = {
                tenant,
                target: room,
                n: FLOOD_NUMBERS + counts.sent,
                lifeSeconds: 10,
                text: FLOOD_TEXT,
              };
              socket.emit('signal', { event: SIGNALS[0], room, payload }, ({ ok }: { ok: boolean }) => {
                open--;
                counts.answered++;
                if (!ok) counts.refused++;
              });
            }
            await sleep(1);
          }
        };
        await Promise.all(Array.from({ length: FLOODERS }, flood));
        for (const socket of sockets) socket.disconnect();
      };
      const headers = { authorization: `Bearer ${signToken({ tenantId: 'bystander', scope: 'publish subscribe' })}` };
      const stop = stage.publishing(1, 20, { event: 'leads.updated', tenant });
      const { figures, objections } = await underAttack(kit, { server: stage.server, headers, attack });
      await stop();
      const metrics = await (
        await fetch(`${stage.server.url}/metrics`, { headers: { authorization: 'Bearer scrape' } })
      ).text();
      const dropped = [...metrics.matchAll(/^roomcast_signals_dropped_total\{[^}]*\} (\d+)/gm)].reduce(
        (sum, [, count]) => sum + Number(count),
        0,
      );
      const isRefusing = rate < 100;
      if (isRefusing && counts.refused < counts.answered / 4)
        objections.push(objection(`only ${counts.refused} of ${counts.answered} were refused`));
      if (!isRefusing && dropped === 0) objections.push(objection('no dropped signal was counted'));
      for (const relay of stage.relays) relay.restore();
      return stage.verdict(
        { flooded: counts.sent, answered: counts.answered, refused: counts.refused, dropped, ...figures },
        { objections, patienceMs: 60_000 },
      );
    });
  };
}
