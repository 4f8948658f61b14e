/**
 * The model of the view Compare: compares what four stock clients receive of one room, event by event.
 *
 * All clients start after the same cursor, so their counts compare: an event that one of them has not received, it has
 * missed; a missed event that arrives after a cut, it has caught up. An event agrees when all four clients received the
 * same bytes of it, exactly once.
 */
import type { RoomcastError } from '../../client/http.ts';
import { TRANSPORTS, type TransportName } from '../../contract/names.ts';
import { idField, idOf, kindOf, type Room } from '../../contract/rooms.ts';
import type { Access } from './access.ts';
import { createChanges, type Model, type Mutable } from './model.ts';
import { type ClientState, createPasses, openStockClient, type ResumeKind, type StockClient } from './stock-clients.ts';
import { publish, sampleTicket, TICKETS_UPDATED } from './test-events.ts';

export interface Arrival {
  /** On the page's clock. */
  readonly atMs: number;
  hash: string | null;
  times: number;
  /** The client had missed the event and caught it up. */
  readonly isLate: boolean;
}

export interface ComparedEvent {
  readonly cursor: string;
  readonly event: string;
  /** Null until a client has received it. */
  firstAtMs: number | null;
  /** When this page sent it; null if somebody else did. */
  sentAtMs: number | null;
  readonly arrivals: Partial<Record<TransportName, Arrival>>;
}

export type Agreement = 'waiting' | 'agree' | 'differ';

export interface ClientSummary {
  readonly transport: TransportName;
  readonly state: ClientState;
  /** Why the client is down, or empty. */
  readonly reason: string;
  readonly received: number;
  readonly duplicates: number;
  readonly outOfOrder: number;
  readonly resets: number;
  readonly lastResume: { readonly missed: number; readonly caughtUp: number; readonly how: ResumeKind | null } | null;
}

export interface Comparison extends Model {
  /** Null while the clients are closed. */
  readonly room: Room | null;
  readonly error: RoomcastError | null;
  readonly clients: readonly ClientSummary[];
  /** Newest first. */
  readonly events: readonly ComparedEvent[];
  readonly agreed: number;
  readonly differing: number;
  /** Progress of `publishTestEvents`. */
  readonly publishing: { readonly sent: number; readonly of: number } | null;
  start(room: Room, eventNames: readonly string[]): Promise<void>;
  stop(): void;
  cut(transport: TransportName): void;
  /** Publishes test events of the tenant to the room, one after another. */
  publishTestEvents(tenantId: string): Promise<void>;
}

export const TEST_EVENTS = 40;
const TEST_EVENT_MS = 120;
const MAX_SHOWN = 150;
/** More than are shown, so that a client that was cut in a busy room still finds the events that it missed. */
const MAX_KEPT = 10_000;
const RENDER_MS = 100;

interface Tally {
  state: ClientState;
  reason: string;
  received: number;
  duplicates: number;
  outOfOrder: number;
  resets: number;
  lastCursor: string;
  isAway: boolean;
  wasOpen: boolean;
  resume: { missed: number; receivedBefore: number; how: ResumeKind | null } | null;
  client: StockClient | null;
}

export function agreementOf({ arrivals }: ComparedEvent): Agreement {
  const received = TRANSPORTS.flatMap((transport) => arrivals[transport] ?? []);
  const hashes = new Set(received.flatMap(({ hash }) => hash ?? []));
  if (hashes.size > 1 || received.some(({ times }) => times > 1)) return 'differ';
  return received.length === TRANSPORTS.length && received.every(({ hash }) => hash !== null) ? 'agree' : 'waiting';
}

export function createComparison(access: Access): Comparison {
  const changes = createChanges(RENDER_MS);
  let tallies = new Map<TransportName, Tally>();
  let events = new Map<string, ComparedEvent>();
  /** The newest cursor among the events that are no longer kept. */
  let dropped = '';
  /** How many different events were seen, including those no longer kept. */
  let seen = 0;
  let ending = new AbortController();
  const model: Mutable<Comparison> = {
    changes,
    room: null,
    error: null,
    get clients() {
      return [...tallies].map(([transport, { state, reason, received, duplicates, outOfOrder, resets, resume }]) => ({
        ...{ transport, state, reason, received, duplicates, outOfOrder, resets },
        lastResume: resume && {
          missed: resume.missed,
          caughtUp: Math.min(resume.missed, received - resume.receivedBefore),
          how: resume.how,
        },
      }));
    },
    get events() {
      return [...events.values()].sort((a, b) => (a.cursor < b.cursor ? 1 : -1)).slice(0, MAX_SHOWN);
    },
    agreed: 0,
    differing: 0,
    publishing: null,
    start,
    stop,
    cut: (transport) => tallies.get(transport)?.client?.cut(),
    publishTestEvents,
  };

  async function start(started: Room, eventNames: readonly string[]): Promise<void> {
    stop();
    ending = new AbortController();
    const { signal } = ending;
    model.room = started;
    model.error = null;
    events = new Map();
    dropped = '';
    seen = 0;
    model.agreed = 0;
    model.differing = 0;
    tallies = new Map(TRANSPORTS.map((transport) => [transport, newTally()]));
    changes.notify();
    try {
      const query = { [idField(kindOf(started))]: idOf(started), after: 'now' };
      const { cursor } = await access.request<{ readonly cursor: string }>('events', { query, signal });
      if (signal.aborted) return;
      const options = { room: started, after: cursor, eventNames, pass: createPasses(access) };
      for (const [transport, tally] of tallies) {
        tally.client = openStockClient(transport, options, {
          onEvent: (event, at, text) => addArrival(transport, tally, event, at, text),
          onOpen: (how) => opened(tally, how),
          onCut: () => away(tally, 'cut', ''),
          onDown: (reason = '') => away(tally, 'down', reason),
          onReset: () => {
            tally.resets++;
            changes.notify();
          },
        });
      }
    } catch (problem) {
      if (signal.aborted) return;
      stop();
      model.error = problem as RoomcastError;
    }
    changes.notify();
  }

  function addArrival(transport: TransportName, tally: Tally, event: string, cursor: string, text: string): void {
    if (tally.isAway) resumed(tally);
    if (cursor < tally.lastCursor) tally.outOfOrder++;
    else tally.lastCursor = cursor;
    const atMs = performance.now();
    const compared = comparedEvent(cursor, event);
    const earlier = compared?.arrivals[transport];
    if (compared !== null) compared.firstAtMs ??= atMs;
    if (earlier !== undefined) {
      earlier.times++;
      tally.duplicates++;
      if (earlier.times === 2) model.differing++;
    } else {
      tally.received++;
      const { resume } = tally;
      const isLate = resume !== null && tally.received - resume.receivedBefore <= resume.missed;
      const arrival: Arrival = { atMs, hash: null, times: 1, isLate };
      if (compared !== null) {
        compared.arrivals[transport] = arrival;
        void compare(compared, arrival, text);
      }
    }
    changes.notify();
  }

  /** Null if the event is no longer kept. */
  function comparedEvent(cursor: string, event: string): ComparedEvent | null {
    const existing = events.get(cursor);
    if (existing !== undefined) return existing;
    if (cursor <= dropped) return null;
    const created: ComparedEvent = { cursor, event, firstAtMs: null, sentAtMs: null, arrivals: {} };
    events.set(cursor, created);
    seen++;
    for (const oldest of events.keys()) {
      if (events.size <= MAX_KEPT) break;
      events.delete(oldest);
      if (oldest > dropped) dropped = oldest;
    }
    return created;
  }

  async function compare(event: ComparedEvent, arrival: Arrival, text: string): Promise<void> {
    const before = agreementOf(event);
    arrival.hash = await hashOf(text);
    const after = agreementOf(event);
    if (after === 'agree') model.agreed++;
    if (after === 'differ' && before !== 'differ') model.differing++;
    changes.notify();
  }

  function opened(tally: Tally, how: ResumeKind | null): void {
    if (tally.isAway) resumed(tally);
    if (tally.resume !== null && how !== null) tally.resume.how = how;
    tally.wasOpen = true;
    tally.state = 'open';
    tally.reason = '';
    changes.notify();
  }

  function away(tally: Tally, state: 'cut' | 'down', reason: string): void {
    if (tally.wasOpen) tally.isAway = true;
    // After a cut the client also reports that it is down; the cut is the better word.
    if (!(state === 'down' && tally.state === 'cut')) tally.state = state;
    tally.reason = reason;
    changes.notify();
  }

  function resumed(tally: Tally): void {
    tally.isAway = false;
    tally.resume = { missed: Math.max(0, seen - tally.received), receivedBefore: tally.received, how: null };
  }

  function stop(): void {
    ending.abort();
    for (const tally of tallies.values()) {
      tally.client?.close();
      tally.client = null;
    }
    model.room = null;
    model.publishing = null;
    changes.notify();
  }

  async function publishTestEvents(tenantId: string): Promise<void> {
    const { room } = model;
    if (room === null || model.publishing !== null) return;
    const { signal } = ending;
    const progress = { sent: 0, of: TEST_EVENTS };
    model.publishing = progress;
    model.error = null;
    changes.notify();
    // Only the compared room hears the test events.
    const rooms = [room];
    const ids = { tenantId, ticketId: 'compare-test' };
    try {
      while (progress.sent < progress.of && !signal.aborted) {
        const sentAtMs = performance.now();
        const event = { event: TICKETS_UPDATED, payload: sampleTicket(ids, progress.sent), rooms };
        const { id } = await publish(access, event, signal);
        progress.sent++;
        // Counted here too: while all four clients are cut, none of them knows what it misses.
        const compared = signal.aborted ? null : comparedEvent(id, TICKETS_UPDATED);
        if (compared !== null) compared.sentAtMs = sentAtMs;
        changes.notify();
        await new Promise((resolve) => setTimeout(resolve, TEST_EVENT_MS));
      }
    } catch (problem) {
      if (!signal.aborted) model.error = problem as RoomcastError;
    }
    if (model.publishing === progress) model.publishing = null;
    changes.notify();
  }

  access.changes.subscribe(stop);

  return model;
}

function newTally(): Tally {
  return {
    state: 'connecting',
    reason: '',
    received: 0,
    duplicates: 0,
    outOfOrder: 0,
    resets: 0,
    lastCursor: '',
    isAway: false,
    wasOpen: false,
    resume: null,
    client: null,
  };
}

/** Over plain http from another host, browsers offer no SHA-256. */
export const HAS_SHA256 = globalThis.crypto?.subtle !== undefined;
const HASH_BYTES = 5;

/** A short hash, to compare texts at a glance. */
async function hashOf(text: string): Promise<string> {
  const bytes = new TextEncoder().encode(text);
  if (!HAS_SHA256) return fnv1a(bytes);
  const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return [...hash.subarray(0, HASH_BYTES)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** FNV-1a of 32 bits (RFC 9923): detects accidents, not forgeries. */
function fnv1a(bytes: Uint8Array): string {
  let hash = 0x811c9dc5;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash.toString(16).padStart(8, '0');
}
