/**
 * The signals of others that are active now (protocol §14). A connection brings the active signals of its rooms, then each
 * later one. A list from the bridge replaces what is known: it shows what ended while there was no connection. Signals end
 * on time, also when nothing arrives.
 *
 * A signal has no cursor, so nothing here touches the stream of events.
 */
import { idsByField, type Room } from '../../contract/rooms.ts';
import type { TransportName } from '../events.ts';
import { type Http, requireList } from '../http.ts';
import { dropOldest, type Payload } from '../stream.ts';

interface Sender {
  readonly room: Room;
  readonly from: string | null;
  readonly sender: string;
}

/** As a connection brings it, with the sender's own members. */
export type ReceivedSignal = Payload & Sender & { readonly ttlSeconds: number };

type ListedSignal = Omit<SignalState, 'expiresAt'> & { readonly expiresAt: string };

/** An active signal, before the application's types. */
export interface SignalState extends Sender {
  readonly event: string;
  readonly payload: Payload;
  readonly expiresAt: Date;
}

export interface ActiveSignalsOptions {
  readonly http: Http;
  /** The rooms that are joined. A signal of another one is ignored. */
  readonly rooms: ReadonlyMap<Room, unknown>;
  readonly signal: AbortSignal;
  /** Whether this client sent it, perhaps over an earlier connection. */
  isOwn(sender: string): boolean;
  /** A signal arrived, or its end. */
  heard(event: string, payload: Payload, transport: TransportName): void;
  /** The active signals of the room changed. A renewal is no change. */
  changed(room: Room): void;
}

export interface ActiveSignals {
  /** Takes what a connection received without a cursor. */
  take(event: string, received: ReceivedSignal, transport: TransportName): void;
  /** Reads the list of the bridge. If there is no answer, what is known stays. */
  refresh(): Promise<void>;
  /** In these rooms, nothing else is active. */
  adopt(asked: ReadonlySet<Room>, listed: readonly SignalState[]): void;
  /** Of one room, or of all. */
  list(room?: Room): SignalState[];
  /** The room was left. */
  forget(room: Room): void;
}

const TIMEOUT_MS = 10_000;
/** Past it, the oldest are dropped. */
const MAX_ACTIVE = 5_000;

export function createActiveSignals(options: ActiveSignalsOptions): ActiveSignals {
  const { http, rooms, signal } = options;
  const active = new Map<string, SignalState>();
  let timer: ReturnType<typeof setTimeout> | undefined;
  /** The keys that arrived since the newest refresh began. They are newer than its list. */
  let arrived = new Set<string>();

  function put(next: SignalState): void {
    const key = keyOf(next);
    const known = active.get(key);
    active.delete(key); // so that it becomes the newest
    active.set(key, next);
    dropOldest(active, MAX_ACTIVE);
    setTimer();
    const isRenewal = known && isActive(known) && JSON.stringify(known.payload) === JSON.stringify(next.payload);
    if (!isRenewal) options.changed(next.room);
  }

  function drop(hasEnded: (one: SignalState, key: string) => boolean): void {
    const ended = [...active].filter(([key, one]) => hasEnded(one, key));
    for (const [key] of ended) active.delete(key);
    setTimer();
    for (const room of new Set(ended.map(([, one]) => one.room))) options.changed(room);
  }

  /** For the signal that ends first. */
  function setTimer(): void {
    clearTimeout(timer);
    const firstEndMs = Math.min(...[...active.values()].map(({ expiresAt }) => expiresAt.getTime()));
    if (active.size > 0)
      timer = setTimeout(drop, Math.max(0, firstEndMs - Date.now()), (one: SignalState) => !isActive(one));
  }

  /** What is in `newer` stays as it is. */
  function adopt(
    asked: ReadonlySet<Room>,
    listed: readonly SignalState[],
    newer: ReadonlySet<string> = new Set(),
  ): void {
    const keys = new Set(listed.map(keyOf));
    drop(({ room }, key) => asked.has(room) && !keys.has(key) && !newer.has(key));
    for (const one of listed) if (isOfOthers(one) && isActive(one) && !newer.has(keyOf(one))) put(one);
  }

  const isOfOthers = ({ room, sender }: Sender): boolean => rooms.has(room) && !options.isOwn(sender);

  signal.addEventListener('abort', () => drop(() => true));

  return {
    take(event, received, transport) {
      if (signal.aborted || !isOfOthers(received)) return;
      const { room, from, sender, ttlSeconds, ...payload } = received;
      const next = { event, room, from, sender, payload, expiresAt: new Date(Date.now() + ttlSeconds * 1000) };
      const key = keyOf(next);
      arrived.add(key);
      if (ttlSeconds > 0) put(next);
      else drop((_, other) => other === key);
      options.heard(event, received, transport);
    },
    async refresh() {
      const asked = new Set(rooms.keys());
      const since = new Set<string>();
      arrived = since;
      let listed: readonly ListedSignal[];
      try {
        const request = { query: idsByField([...asked]), listens: true, signal, timeoutMs: TIMEOUT_MS };
        listed = requireList<{ signals: readonly ListedSignal[] }>(
          'signals',
          await http.json('signals', request),
        ).signals;
      } catch {
        return; // without the list, each signal still ends on time
      }
      if (arrived !== since || signal.aborted) return;
      const here = ({ expiresAt, ...one }: ListedSignal): SignalState => ({
        ...one,
        expiresAt: new Date(Date.parse(expiresAt) + http.clockAheadMs),
      });
      adopt(asked, listed.map(here), since);
    },
    adopt: (asked, listed) => adopt(asked, listed),
    list: (room) => [...active.values()].filter((one) => isActive(one) && (room === undefined || one.room === room)),
    forget: (left) => drop(({ room }) => room === left),
  };
}

/** There is one of each event, room and sender. No name has a line break. */
const keyOf = ({ event, room, sender }: Omit<SignalState, 'expiresAt'>): string => [event, room, sender].join('\n');
const isActive = ({ expiresAt }: SignalState): boolean => expiresAt.getTime() > Date.now();
