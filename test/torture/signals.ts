/**
 * Signals beside the records of every scenario (protocol §14): senders that go on whatever happens, and what no listener may
 * get of it: a signal of another tenant or room, one that is older than another of the same sender, one that outlives its
 * time by more than a second, or one in the log. A signal may be lost, so nothing here asks whether it came.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { io, type Socket } from 'socket.io-client';
import type { Random } from '../support/random.ts';
import type { Objection } from './checker.ts';

export const SIGNALS = ['tickets.typing', 'tickets.viewing'];

/** A signal as it came to a listener. */
export interface HeardSignal {
  readonly event: string;
  readonly payload: SentSignal & { readonly room: string; readonly sender: string; readonly ttlSeconds: number };
  /** Milliseconds of `performance.now`. */
  readonly atMs: number;
  /** Arguments after the payload, of Socket.IO. */
  readonly more: number;
}

/** What senders put into the payload. */
export interface SentSignal {
  readonly tenant: string;
  readonly target: string;
  /** Rises with each signal of one sender. */
  readonly n: number;
  readonly lifeSeconds: number;
}

export interface SignalListener {
  readonly name: string;
  readonly rooms: readonly string[];
  /** Null: no tokens. */
  readonly tenants: readonly string[] | null;
  readonly signals: readonly HeardSignal[];
  /** Something between it and the server held bytes back, so that its times say nothing. */
  readonly isDelayed: boolean;
}

/** protocol §14: what is sent to a joiner is rounded to whole seconds, and no signal outlives its time by more. */
const MOST_OVER_MS = 1_000;

/**
 * @param answeredAt when the sender had the answer to each number: by then it was accepted. One without an answer may have
 * been accepted at any time, so its end is not judged.
 * @param slackMs what a busy machine adds
 */
export function checkSignals(
  listeners: readonly SignalListener[],
  answeredAt: ReadonlyMap<number, number>,
  slackMs: number,
): Objection[] {
  return listeners.flatMap(({ name: who, rooms, tenants, signals, isDelayed }) => {
    const found: Objection[] = [];
    const newest = new Map<string, number>();
    for (const { event, payload, atMs, more } of signals) {
      const { tenant, target, room, sender, n, lifeSeconds, ttlSeconds } = payload;
      const detail = `${event} ${JSON.stringify({ tenant, target, room, sender, n, lifeSeconds, ttlSeconds })}`;
      if (room !== target || !rooms.includes(room) || tenants?.includes(tenant) === false) {
        found.push({ law: 'foreign', who, detail });
      }
      if (more > 0) found.push({ law: 'altered', who, detail: `${detail} has ${more} trailing arguments` });
      const key = `${event} ${room} ${sender} ${tenant}`;
      // One with less than its whole time was active when the listener joined. A node that lost later ones, while Redis was
      // away, still has the older one as active.
      const isFresh = ttlSeconds === lifeSeconds;
      const before = newest.get(key) ?? n;
      if (isFresh && n < before) found.push({ law: 'order', who, detail: `${detail} after ${before}` });
      newest.set(key, Math.max(n, before));
      const endsAtMs = (answeredAt.get(n) ?? Number.POSITIVE_INFINITY) + lifeSeconds * 1000;
      const overMs = atMs + ttlSeconds * 1000 - endsAtMs;
      if (ttlSeconds > 0 && !isDelayed && overMs > MOST_OVER_MS + slackMs) {
        found.push({ law: 'outlives', who, detail: `${detail} by ${Math.round(overMs)} ms` });
      }
    }
    return found;
  });
}

export interface SignallersOptions {
  readonly random: Random;
  readonly tenants: readonly string[];
  readonly roomsOf: (tenant: string) => readonly string[];
  readonly urls: () => readonly string[];
  readonly tokenOf: (tenant: string) => string | null;
  readonly pauseMs?: number;
}

const LIVES_SECONDS = [1, 2, 3, 10, 60];
/** Then the sender of POSTs takes another name: signals of one sender keep their order on one node only. */
const SAME_CLIENT = 20;

export interface Signallers {
  readonly answeredAt: ReadonlyMap<number, number>;
  /** For each tenant one stock client, and one that POSTs. They go on until the returned function is called. */
  start(): () => Promise<void>;
}

export function createSignallers(options: SignallersOptions): Signallers {
  const { random, tenants, roomsOf, urls, tokenOf, pauseMs = 25 } = options;
  const answeredAt = new Map<number, number>();
  let count = 0;

  function draw(tenant: string) {
    const lifeSeconds = random.chance(0.1) ? 0 : random.pick(LIVES_SECONDS);
    const room = random.pick(roomsOf(tenant));
    const payload: SentSignal = { tenant, target: room, n: ++count, lifeSeconds };
    return { event: random.pick(SIGNALS), room, payload, ttlSeconds: lifeSeconds, tenantId: tenant };
  }

  async function byPost(tenant: string, signal: AbortSignal): Promise<void> {
    const token = tokenOf(tenant);
    const headers = {
      'content-type': 'application/json',
      ...(token === null ? {} : { authorization: `Bearer ${token}` }),
    };
    for (let sent = 0; !signal.aborted; ) {
      const [client, url] = [`c${count}`, random.pick(urls())];
      for (const end = sent + SAME_CLIENT; sent < end && !signal.aborted; sent++) {
        const drawn = draw(tenant);
        const response = await fetch(`${url}/signals`, {
          method: 'POST',
          headers,
          body: JSON.stringify({ ...drawn, client }),
          signal: AbortSignal.timeout(5_000),
        }).catch(() => null);
        await response?.text().catch(() => '');
        if (response?.status === 202) answeredAt.set(drawn.payload.n, performance.now());
        await sleep(pauseMs);
      }
    }
  }

  async function bySocket(tenant: string, signal: AbortSignal): Promise<void> {
    const token = tokenOf(tenant);
    while (!signal.aborted) {
      const socket: Socket = io(random.pick(urls()), {
        transports: ['websocket'],
        forceNew: true,
        reconnection: false,
        auth: token === null ? {} : { token },
      });
      await Promise.race([new Promise<void>((resolve) => socket.once('connect', () => resolve())), sleep(500)]);
      for (let left = random.whole(1, 100); left > 0 && socket.connected && !signal.aborted; left--) {
        const drawn = draw(tenant);
        socket.emit('signal', drawn, ({ ok }: { ok: boolean }) => {
          if (ok) answeredAt.set(drawn.payload.n, performance.now());
        });
        await sleep(pauseMs);
      }
      // As often as not the server has to find out by itself.
      if (random.chance(0.5)) socket.disconnect();
      else socket.io.engine?.close();
      await sleep(pauseMs);
    }
  }

  return {
    answeredAt,
    start() {
      const stopping = new AbortController();
      const all = tenants.flatMap((tenant) => [byPost(tenant, stopping.signal), bySocket(tenant, stopping.signal)]);
      return async () => {
        stopping.abort();
        await Promise.all(all);
      };
    },
  };
}
