/**
 * The parity proof: what each of four transports brought of one room, event by event, held side by side.
 *
 * All lanes begin after the same cursor, so that their counts compare: what a lane has not received, it has missed, and
 * what it receives of that after a cut, it has caught up. A row agrees once all four brought the same bytes, once.
 */
import type { RoomcastError } from '../../client/http.ts';
import { ID_FIELDS, idOf, kindOf, type Room } from '../../contract/rooms.ts';
import { type Access, PATIENCE_MS } from './access.ts';
import { digest } from './digest.ts';
import { type Changes, createChanges } from './model.ts';
import { createPasses, LANES, type Lane, type LaneName, type LaneState, openLane } from './stock-clients.ts';
import { publish, sampleTicket, TICKETS_UPDATED } from './test-events.ts';

export interface Arrival {
  /** On the page's clock. */
  readonly atMs: number;
  hash: string | null;
  times: number;
  /** Came after the lane had been away. */
  readonly isLate: boolean;
}

export interface Row {
  readonly cursor: string;
  readonly event: string;
  /** Null while it is only known to be published. */
  firstAtMs: number | null;
  /** When this page sent it; null for what others published. */
  sentAtMs: number | null;
  readonly by: Partial<Record<LaneName, Arrival>>;
}

export type Verdict = 'waiting' | 'agree' | 'differ';

export interface Resume {
  readonly missed: number;
  readonly caughtUp: number;
  readonly how: string;
}

export interface LaneView {
  readonly name: LaneName;
  readonly state: LaneState;
  /** Why it is down; else empty. */
  readonly reason: string;
  readonly received: number;
  readonly doubles: number;
  readonly disorder: number;
  readonly resets: number;
  /** How it came back the last time. */
  readonly resume: Resume | null;
}

export interface Proof {
  readonly changes: Changes;
  /** Null while nothing is compared. */
  readonly room: Room | null;
  readonly error: Error | null;
  readonly lanes: readonly LaneView[];
  /** Newest first. */
  readonly rows: readonly Row[];
  readonly agreed: number;
  readonly differing: number;
  readonly burst: { readonly sent: number; readonly of: number } | null;
  start(room: Room, eventNames: readonly string[]): Promise<void>;
  stop(): void;
  cut(name: LaneName): void;
  /** Publishes test events of the tenant to the room, one after the other. */
  publishBurst(tenantId: string): Promise<void>;
}

export const BURST = { events: 40, everyMs: 120 } as const;
/** The newest are shown; more are kept, so that a lane that was cut in a busy room finds what it missed. */
const MOST_SHOWN = 150;
const MOST_KEPT = 10_000;
const DRAW_MS = 100;

interface LaneTally {
  state: LaneState;
  reason: string;
  received: number;
  doubles: number;
  disorder: number;
  resets: number;
  last: string;
  isAway: boolean;
  wasOpen: boolean;
  resume: { missed: number; receivedBefore: number; how: string } | null;
  lane: Lane | null;
}

export function verdictOf({ by }: Row): Verdict {
  const arrivals = LANES.flatMap((name) => by[name] ?? []);
  const hashes = new Set(arrivals.flatMap(({ hash }) => hash ?? []));
  if (hashes.size > 1 || arrivals.some(({ times }) => times > 1)) return 'differ';
  return arrivals.length === LANES.length && arrivals.every(({ hash }) => hash !== null) ? 'agree' : 'waiting';
}

export function createProof(access: Access): Proof {
  const changes = createChanges(DRAW_MS);
  let room: Room | null = null;
  let error: Error | null = null;
  let tallies = new Map<LaneName, LaneTally>();
  let rows = new Map<string, Row>();
  /** The newest cursor of the rows that were let go of. */
  let forgotten = '';
  /** Of rows that are let go of, too. */
  let distinct = 0;
  let agreed = 0;
  let differing = 0;
  let burst: { sent: number; of: number } | null = null;
  let over = new AbortController();

  async function start(of: Room, eventNames: readonly string[]): Promise<void> {
    stop();
    over = new AbortController();
    const { signal } = over;
    room = of;
    error = null;
    rows = new Map();
    forgotten = '';
    distinct = 0;
    agreed = 0;
    differing = 0;
    tallies = new Map(LANES.map((name) => [name, newTally()]));
    changes.tell();
    try {
      const query = { [ID_FIELDS[kindOf(of)]]: idOf(of), after: 'now' };
      const { cursor } = (await access.http.json('events', { query, signal, timeoutMs: PATIENCE_MS })) as {
        readonly cursor: string;
      };
      if (signal.aborted) return;
      const pass = createPasses(access.http, access.token !== null);
      for (const [name, tally] of tallies) {
        const events = {
          arrived: (event: string, at: string, text: string) => arrived(name, tally, event, at, text),
          state: (state: LaneState, how?: string) => turned(tally, state, how),
          reset: () => {
            tally.resets++;
            changes.tell();
          },
        };
        tally.lane = openLane(name, { room: of, after: cursor, eventNames, pass }, events);
      }
    } catch (problem) {
      if (signal.aborted) return;
      stop();
      error = problem as Error;
    }
    changes.tell();
  }

  function arrived(name: LaneName, tally: LaneTally, event: string, cursor: string, text: string): void {
    if (tally.isAway) back(tally);
    if (cursor < tally.last) tally.disorder++;
    else tally.last = cursor;
    const atMs = performance.now();
    const row = rowOf(cursor, event);
    const known = row?.by[name];
    if (row !== null) row.firstAtMs ??= atMs;
    if (known !== undefined) {
      known.times++;
      tally.doubles++;
      if (known.times === 2) differing++;
    } else {
      tally.received++;
      const { resume } = tally;
      const isLate = resume !== null && tally.received - resume.receivedBefore <= resume.missed;
      const arrival: Arrival = { atMs, hash: null, times: 1, isLate };
      if (row !== null) {
        row.by[name] = arrival;
        void judge(row, arrival, text);
      }
    }
    changes.tell();
  }

  /** Null when it was let go of already. */
  function rowOf(cursor: string, event: string): Row | null {
    const known = rows.get(cursor);
    if (known !== undefined) return known;
    if (cursor <= forgotten) return null;
    const row: Row = { cursor, event, firstAtMs: null, sentAtMs: null, by: {} };
    rows.set(cursor, row);
    distinct++;
    for (const oldest of rows.keys()) {
      if (rows.size <= MOST_KEPT) break;
      rows.delete(oldest);
      if (oldest > forgotten) forgotten = oldest;
    }
    return row;
  }

  async function judge(row: Row, arrival: Arrival, text: string): Promise<void> {
    const before = verdictOf(row);
    arrival.hash = await digest(text);
    const after = verdictOf(row);
    if (after === 'agree') agreed++;
    if (after === 'differ' && before !== 'differ') differing++;
    changes.tell();
  }

  function turned(tally: LaneTally, state: LaneState, how: string | undefined): void {
    if (state === 'open') {
      if (tally.isAway) back(tally);
      if (tally.resume !== null && how !== undefined) tally.resume.how = how;
      tally.wasOpen = true;
    } else if (tally.wasOpen) tally.isAway = true;
    // What brought it down after the button is the button.
    if (!(state === 'down' && tally.state === 'cut')) tally.state = state;
    tally.reason = state === 'down' ? (how ?? '') : '';
    changes.tell();
  }

  function back(tally: LaneTally): void {
    tally.isAway = false;
    tally.resume = { missed: Math.max(0, distinct - tally.received), receivedBefore: tally.received, how: '' };
  }

  function stop(): void {
    over.abort();
    for (const tally of tallies.values()) tally.lane?.close();
    for (const tally of tallies.values()) tally.lane = null;
    room = null;
    burst = null;
    changes.tell();
  }

  async function publishBurst(tenantId: string): Promise<void> {
    if (room === null || burst !== null) return;
    const { signal } = over;
    const mine = { sent: 0, of: BURST.events };
    burst = mine;
    error = null;
    changes.tell();
    const ids = { tenantId, ticketId: 'parity-test', [ID_FIELDS[kindOf(room)]]: idOf(room) };
    try {
      while (mine.sent < mine.of && !signal.aborted) {
        const sentAtMs = performance.now();
        const { id } = await publish(access.http, TICKETS_UPDATED, sampleTicket(ids, mine.sent), signal);
        mine.sent++;
        // All four may be cut: what they miss is known by this.
        const row = signal.aborted ? null : rowOf(id, TICKETS_UPDATED);
        if (row !== null) row.sentAtMs = sentAtMs;
        changes.tell();
        await new Promise((resolve) => setTimeout(resolve, BURST.everyMs));
      }
    } catch (problem) {
      if (!signal.aborted) error = problem as RoomcastError;
    }
    if (burst === mine) burst = null;
    changes.tell();
  }

  access.changes.on(stop);

  return {
    changes,
    get room() {
      return room;
    },
    get error() {
      return error;
    },
    get lanes() {
      return [...tallies].map(([name, { state, reason, received, doubles, disorder, resets, resume }]) => ({
        ...{ name, state, reason, received, doubles, disorder, resets },
        resume: resume && {
          missed: resume.missed,
          caughtUp: Math.min(resume.missed, received - resume.receivedBefore),
          how: resume.how,
        },
      }));
    },
    get rows() {
      return [...rows.values()].sort((a, b) => (a.cursor < b.cursor ? 1 : -1)).slice(0, MOST_SHOWN);
    },
    get agreed() {
      return agreed;
    },
    get differing() {
      return differing;
    },
    get burst() {
      return burst;
    },
    start,
    stop,
    cut(name) {
      tallies.get(name)?.lane?.cut();
    },
    publishBurst,
  };
}

function newTally(): LaneTally {
  return {
    state: 'connecting',
    reason: '',
    received: 0,
    doubles: 0,
    disorder: 0,
    resets: 0,
    last: '',
    isAway: false,
    wasOpen: false,
    resume: null,
    lane: null,
  };
}
