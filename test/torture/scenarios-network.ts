/** Networks that end in the middle of a frame, go silent, crawl, or come back all at once. */
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from '../support/ports.ts';
import type { Objection } from './checker.ts';
import { startCrowd } from './crowd.ts';
import { TRANSPORTS } from './listeners.ts';
import { sqlite } from './scenarios-crash.ts';
import { eventually, type Kit, onStage, quantile, type Verdict } from './stage.ts';

/** The long form takes every offset; the short one begins anywhere and takes every n-th. */
const SHORT_STRIDE = 61;
const CLIENTS_AT_ONCE = 32;
/** A live legacy group of a small record is shorter than this on every transport. */
const FRAME_BYTES = 2_600;
/** From the first byte of the response to the first events of a replay. */
const HANDSHAKE_BYTES = 1_600;

/**
 * A connection that is cut after exactly k bytes from the server, for k over a whole live group (several clients at
 * once, each with its own k), and again somewhere in the handshake and replay of the next connection.
 */
export function cutEverywhere(kit: Kit): Promise<Verdict> {
  return onStage(kit, { env: sqlite(kit), tenants: 1 }, async (stage) => {
    const stride = kit.long ? 1 : SHORT_STRIDE;
    let cuts = 0;
    const verdicts: Verdict[] = [];
    for (const transport of TRANSPORTS) {
      const offsets: number[] = [];
      for (let offset = kit.random.whole(0, stride - 1); offset < FRAME_BYTES; offset += stride) offsets.push(offset);
      for (let begin = 0; begin < offsets.length; begin += CLIENTS_AT_ONCE) {
        const chosen = offsets.slice(begin, begin + CLIENTS_AT_ONCE);
        const relays = await Promise.all(
          chosen.map(() => stage.listen(transport, { legacy: true, plainJoin: kit.random.chance(0.5) })),
        );
        await stage.untilReady();
        for (const [index, relay] of relays.entries()) {
          relay.cutAfter(chosen[index] ?? 0);
          if (transport !== 'longpoll') relay.cutNextAfter(kit.random.whole(0, HANDSHAKE_BYTES));
        }
        for (let count = 0; count < 3; count++) await stage.publish({ bytes: 100 });
        const mine = stage.listeners.slice(-chosen.length);
        await eventually(
          `all ${transport} listeners have all events`,
          () => mine.every(({ cameAt }) => cameAt.size >= 3),
          15_000,
        ).catch(() => {}); // the verdict tells which
        cuts += chosen.length;
        verdicts.push(await stage.verdict());
        for (const listener of stage.listeners.splice(0)) listener.close();
        kit.progress(`${transport}: ${cuts} cuts`);
        if (verdicts.at(-1)?.objections.length) break;
      }
    }
    return {
      objections: verdicts.flatMap(({ objections }) => objections),
      stories: verdicts.flatMap(({ stories = [] }) => stories),
      figures: { cuts, stride, seen: verdicts.reduce((sum, { figures }) => sum + Number(figures.seen), 0) },
    };
  });
}

/** Silence in both directions, orphaned server sides, readers that stop and readers of 1 byte a second. */
export function badReaders(kit: Kit): Promise<Verdict> {
  const maxBuffer = 128 * 1024;
  return onStage(kit, { env: { ...sqlite(kit), MAX_BUFFER_BYTES: String(maxBuffer) }, tenants: 1 }, async (stage) => {
    // Two of each that stop, crawl, are half open, are orphaned, and two that behave.
    const troubles = ['stop', 'slow', 'freeze', 'orphan', 'none'] as const;
    const relays = new Map<(typeof troubles)[number], (typeof stage.relays)[number][]>();
    for (const trouble of troubles) {
      for (const transport of TRANSPORTS) {
        const relay = await stage.listen(transport, { legacy: kit.random.chance(0.5) });
        relays.set(trouble, [...(relays.get(trouble) ?? []), relay]);
      }
    }
    await stage.untilReady();
    const behaved = stage.listeners.slice(-TRANSPORTS.length);
    const before = stage.server.memoryMiB();
    for (const relay of relays.get('stop') ?? []) relay.stopReading();
    for (const relay of relays.get('slow') ?? []) relay.throttle(1);
    for (const relay of relays.get('freeze') ?? []) relay.freeze();
    for (const relay of relays.get('orphan') ?? []) relay.orphan();
    let peak = before;
    const acknowledgedAt = new Map<string, number>();
    // More than the kernel's buffers and the server's budget take together.
    const total = kit.long ? 800 : 300;
    for (let count = 0; count < total; count++) {
      const id = await stage.publish({ bytes: 50_000 });
      if (id !== null) acknowledgedAt.set(id, performance.now());
      if (count % 20 === 0) peak = Math.max(peak, stage.server.memoryMiB());
      kit.progress(`${count} of ${total} published`);
    }
    await sleep(1_000);
    const lags = behaved.flatMap(({ cameAt }) =>
      [...acknowledgedAt].flatMap(([id, at]) => (cameAt.has(id) ? [(cameAt.get(id) ?? 0) - at] : [])),
    );
    const metrics = await (await fetch(`${stage.server.url}/metrics`)).text();
    const cut = [...metrics.matchAll(/^roomcast_slow_consumers_total\{[^}]*\} (\d+)/gm)].reduce(
      (sum, [, count]) => sum + Number(count),
      0,
    );
    const objections: Objection[] = [];
    if (cut === 0) objections.push({ law: 'gap', who: 'server', detail: 'no slow reader was cut off' });
    // Bounded by connections × a small figure: budgets, one group each, and what the allocator keeps.
    if (peak - before > 250) {
      objections.push({ law: 'gap', who: 'server', detail: `memory rose from ${before} to ${peak} MiB` });
    }
    for (const relay of stage.relays) relay.restore();
    // The network tells of a half-open connection sooner or later; stock EventSource itself never would.
    for (const relay of relays.get('freeze') ?? []) relay.cut();
    return stage.verdict(
      {
        'slow readers cut': cut,
        'others lag p99 ms': Math.round(quantile(lags, 0.99)),
        'memory rose MiB': Math.round(peak - before),
      },
      { objections, patienceMs: 60_000 },
    );
  });
}

/** Thousands of listeners lose their connections at once and come back at once, while events are published. */
export async function storm(kit: Kit): Promise<Verdict> {
  const env = { ...sqlite(kit), PORT: String(await freePort()) };
  return onStage(kit, { env, tenants: 1 }, async (stage) => {
    const size = kit.long ? 4_000 : 1_000;
    const crowd = await startCrowd({
      url: () => stage.server.url,
      listeners: size,
      rooms: (index) => [`ticket:storm-${index % 20}`],
      mix: { sse: 0.75, websocket: 0.2, longpoll: 0.05, polling: 0 },
    });
    try {
      for (const transport of TRANSPORTS) await stage.listen(transport);
      await stage.untilReady();
      await crowd.untilReady(60_000);
      let count = 0;
      const send = async (): Promise<void> => {
        const body = JSON.stringify({
          event: 'leads.updated',
          payload: { tenantId: stage.tenants[0], ticketId: `storm-${count % 20}`, n: Math.floor(count / 20) },
        });
        for (;;) {
          const response = await fetch(`${stage.server.url}/events`, {
            method: 'POST',
            headers: { 'content-type': 'application/json', 'idempotency-key': `storm-${count}` },
            body,
          }).catch(() => null);
          await response?.text().catch(() => '');
          if (response?.status === 201 || response?.status === 200) break;
          await sleep(50);
        }
        count++;
      };
      const rounds = kit.long ? 5 : 2;
      let slowestMs = 0;
      for (let round = 0; round < rounds; round++) {
        for (let sent = 0; sent < 40; sent++) await send();
        if (round % 2 === 0) crowd.cutAll();
        else await stage.restart('SIGKILL');
        const cutAt = performance.now();
        for (let sent = 0; sent < 40; sent++) await send();
        await eventually('everyone is back', () => crowd.connected() >= size * 0.999, 60_000);
        slowestMs = Math.max(slowestMs, performance.now() - cutAt);
        kit.progress(`${round + 1} of ${rounds} storms`);
      }
      await eventually('the crowd has everything', () => crowd.complete(count / 20), 30_000).catch(() => {});
      const objections: Objection[] = crowd.wrongs(count / 20).map((detail) => ({ law: 'gap', who: 'crowd', detail }));
      return await stage.verdict(
        { crowd: size, storms: rounds, 'slowest return ms': Math.round(slowestMs) },
        // The crowd's events were not published through the stage.
        { objections, log: await stage.readLog() },
      );
    } finally {
      crowd.close();
    }
  });
}
