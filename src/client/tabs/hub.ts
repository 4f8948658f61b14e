/**
 * The hub of a group of tabs, in the tab that leads: one client, with its own stream and connection, for the rooms of all
 * members. It broadcasts what arrives, and each member keeps what concerns its rooms.
 *
 * Joins that arrive while another one is under way share the next one, so that twenty tabs which come back together cost
 * two. What the bridge refuses is refused to the member that asked, and the others continue.
 */
import type { Room } from '../../contract/rooms.ts';
import type { Core, CoreOptions } from '../core.ts';
import { RoomcastError, type Token } from '../http.ts';
import type { LockManager } from './locks.ts';
import {
  type Failure,
  failureOf,
  type HubMessage,
  isHidden,
  type JoinQuestion,
  type News,
  onPage,
  type Question,
} from './messages.ts';

/** What the hub decides of its client; the rest is as in the tab that leads. */
export type HubCore = Pick<
  CoreOptions,
  'token' | 'deliver' | 'heard' | 'signalsChanged' | 'reset' | 'cursorMoved' | 'statusChanged' | 'closed'
>;

export interface HubOptions {
  readonly name: string;
  readonly term: number;
  readonly locks: LockManager;
  openCore(options: HubCore): Core;
  /** The tab's token, or none. @throws {RoomcastError} */
  token: Token | undefined;
  readonly limits: HubLimits;
  ended(end: HubEnd): void;
}

/** What the hubs of one tab learnt from the bridge. */
export interface HubLimits {
  /** Members with rooms beyond it have connections of their own. */
  maxRooms: number;
  /** Per member, the rooms that the bridge refused, and why. */
  readonly refused: Map<string, { readonly rooms: string; readonly failure: Failure }>;
}

export interface HubEnd {
  /** How long another tab should lead; null if a next hub of this tab has what it needs to work. */
  readonly restMs: number | null;
}

export interface Hub {
  close(): void;
}

/** The bridge's default for `MAX_ROOMS`. */
const MAX_ROOMS = 500;
/** What the next hub may have of the rooms that were too many for this one. */
const FEWER = 0.75;
/** A hub that the bridge refuses this soon after a member came is refused because of that member. */
const SUSPECT_MS = 10_000;
/** A tab whose token does not work leaves the lead to others for this long. */
const REST_MS = 30_000;
/** Members whose token takes longer than this should not wait for it. */
const TOKEN_MS = 3_000;
/** Rooms that nobody has any more are left after this time: a page that is reloaded has them again. */
const LEAVE_MS = 1_000;

interface PortPair {
  readonly port1: {
    onmessage?: ((event: never) => void) | null;
    close(): void;
    /** In Node, which would wait for it. */
    unref?(): void;
  };
  readonly port2: { postMessage(message: null): void };
}

interface Member {
  rooms: readonly Room[];
  admittedMs: number;
}

export const createHubLimits = (): HubLimits => ({ maxRooms: MAX_ROOMS, refused: new Map() });

export function openHub(options: HubOptions): Hub {
  const { name, locks, limits } = options;
  const { refused } = limits;
  const id = crypto.randomUUID();
  const life = new AbortController();
  const { signal } = life;
  const channel = new BroadcastChannel(name);
  const members = new Map<string, Member>();
  const waiting = new Map<string, JoinQuestion>();
  let isSettling = false;
  let leaveTimer: ReturnType<typeof setTimeout> | undefined;
  let isLeaving = false;
  let resets = 0;
  /** The newest cursor that was broadcast. */
  let saidCursor: string | null = null;
  let news: News[] = [];
  /** Gathers what arrives together. It is no timer, which a browser would delay in a hidden tab. */
  const later = new MessageChannel() as PortPair;
  /** The room whose signals changed, while it is not known whether a signal arrived. */
  let changedRoom: Room | null = null;

  const core = options.openCore({
    token: tokenOfGroup(options.token),
    deliver(payload, { event, cursor, transport, replay }, _, rooms) {
      // Each member reads the history of its own rooms.
      if (replay) return;
      saidCursor = cursor;
      say({ kind: 'event', event, payload, cursor, transport, ...(rooms === undefined ? {} : { rooms }) });
    },
    cursorMoved() {
      const { cursor } = core.stream;
      if (cursor === null || cursor === saidCursor) return;
      saidCursor = cursor;
      say({ kind: 'cursor', cursor });
    },
    heard(event, payload, { transport }) {
      changedRoom = null;
      say({ kind: 'signal', event, received: payload as never, transport });
    },
    signalsChanged(room) {
      changedRoom = room as Room;
      queueMicrotask(() => {
        if (changedRoom !== room) return;
        changedRoom = null;
        say({ kind: 'signals', room: room as Room, listed: core.signals.list(room as Room) });
      });
    },
    reset({ reason, after, oldest, cursor }) {
      resets++;
      say({ kind: 'reset', reset: { reason, after, oldest, cursor }, resets });
    },
    statusChanged: sayStatus,
    closed() {
      if (signal.aborted) return;
      const error = core.status.error as RoomcastError;
      const failure = failureOf(error);
      let isCured = error.code === 'too_many_rooms';
      if (isCured) limits.maxRooms = Math.floor(FEWER * core.stream.rooms.size);
      else if (error.status !== 401) {
        const suspects = suspected();
        for (const [member, rooms] of suspects) refused.set(member, { rooms, failure });
        isCured = suspects.length > 0;
      }
      end({ restMs: isCured ? null : REST_MS }, isCured ? null : failure);
    },
  });

  function suspected(): (readonly [member: string, rooms: string])[] {
    const sinceMs = performance.now() - SUSPECT_MS;
    return [
      ...[...members]
        .filter(([, { admittedMs }]) => admittedMs > sinceMs)
        .map(([member, { rooms }]) => [member, rooms]),
      ...[...waiting].map(([member, { rooms }]) => [member, rooms]),
    ].map(([member, rooms]) => [String(member), String(rooms)] as const);
  }

  function say(one: News): void {
    if (signal.aborted) return;
    if (news.push(one) === 1) later.port2.postMessage(null);
  }

  function flush(): void {
    if (news.length === 0) return;
    const message: HubMessage = { hub: id, term: options.term, news };
    news = [];
    channel.postMessage(message);
  }

  function sayStatus(): void {
    const { state, transport, error } = core.status;
    say({
      kind: 'status',
      transport: state === 'live' ? transport : null,
      failure: error === null ? null : failureOf(error),
      isHidden: isHidden(),
    });
  }

  function answer({ data }: { readonly data: Question | HubMessage }): void {
    if (!('kind' in data) || signal.aborted) return;
    if (data.kind === 'bye') remove(data.member);
    else if (data.kind === 'join') {
      if (!members.has(data.member)) {
        members.set(data.member, { rooms: [], admittedMs: performance.now() });
        watch(data.member);
      }
      waiting.set(data.member, data);
      void settle();
    } else {
      if (data.kind === 'wake') core.wake();
      sayStatus();
    }
  }

  /** The lock of a member is free when its tab is gone. */
  function watch(member: string): void {
    locks.request(`${name}:${member}`, { signal }, () => remove(member)).catch(() => {}); // the hub has ended
  }

  function remove(member: string): void {
    waiting.delete(member);
    refused.delete(member);
    if (members.delete(member)) leaveLater();
  }

  function leaveLater(): void {
    clearTimeout(leaveTimer);
    leaveTimer = setTimeout(() => {
      isLeaving = true;
      void settle();
    }, LEAVE_MS);
  }

  /** One change after the other: a room that is being left is not joined yet. */
  async function settle(): Promise<void> {
    if (isSettling) return;
    isSettling = true;
    while (!signal.aborted && (waiting.size > 0 || isLeaving)) {
      const questions = [...waiting.values()];
      waiting.clear();
      if (questions.length > 0) await admit(questions);
      if (isLeaving) await leave();
    }
    isSettling = false;
  }

  async function admit(questions: readonly JoinQuestion[]): Promise<void> {
    const joined = core.stream.rooms;
    const rooms = new Set(questions.flatMap((question) => (known(question) ? [] : question.rooms)));
    const missing = [...rooms].filter((room) => !joined.has(room));
    try {
      if (joined.size + missing.length > limits.maxRooms) {
        throw new RoomcastError('too_many_rooms', 'The tabs together have too many rooms.', { passing: false });
      }
      if (missing.length > 0) await core.join(missing, null);
      for (const question of questions) accept(question);
    } catch (error) {
      if (signal.aborted) return;
      const [question] = questions as [JoinQuestion];
      if (questions.length === 1) refuse(question, failureOf(error as RoomcastError));
      else for (const one of questions) await admit([one]);
    }
  }

  const known = ({ member, rooms }: JoinQuestion) =>
    refused.get(member)?.rooms === String(rooms) ? refused.get(member) : undefined;

  function accept(question: JoinQuestion): void {
    const { member, request, rooms } = question;
    const earlier = known(question);
    if (earlier !== undefined) {
      refuse(question, earlier.failure);
      return;
    }
    leaveLater();
    // It may have gone meanwhile.
    if (!members.has(member)) return;
    members.set(member, { rooms, admittedMs: performance.now() });
    say({ kind: 'joined', member, request, cursor: core.stream.cursor, resets });
    for (const room of rooms) {
      const listed = core.signals.list(room);
      for (const { event, payload, expiresAt, ...from } of listed) {
        const ttlSeconds = Math.ceil((expiresAt.getTime() - Date.now()) / 1000);
        const received = { ...payload, ...from, ttlSeconds };
        say({ kind: 'signal', event, received, transport: core.status.transport ?? 'poll', member });
      }
    }
  }

  function refuse({ member, request }: JoinQuestion, failure: Failure): void {
    if (members.has(member)) members.set(member, { rooms: [], admittedMs: 0 });
    leaveLater();
    say({ kind: 'refused', member, request, failure });
  }

  async function leave(): Promise<void> {
    isLeaving = false;
    const wanted = new Set([...members.values()].flatMap(({ rooms }) => rooms));
    const left = [...core.stream.rooms.keys()].filter((room) => !wanted.has(room));
    if (left.length > 0) await core.leave(left);
  }

  /** The leader may get a token for another user, or none at all. The others must not wait for it, nor hear with it. */
  function tokenOfGroup(token: Token | undefined): Token | undefined {
    if (typeof token !== 'function') return token;
    return async () => {
      const timer = setTimeout(yieldLead, TOKEN_MS);
      try {
        return await token();
      } catch (error) {
        yieldLead();
        throw error;
      } finally {
        clearTimeout(timer);
      }
    };
  }

  function yieldLead(): void {
    if (members.size > 1) end({ restMs: REST_MS });
  }

  function end(result: HubEnd, failure: Failure | null = null): void {
    if (signal.aborted) return;
    close(failure);
    options.ended(result);
  }

  function close(failure: Failure | null = null): void {
    if (signal.aborted) return;
    say({ kind: 'end', failure });
    flush();
    life.abort();
    clearTimeout(leaveTimer);
    later.port1.close();
    channel.close();
    core.close();
  }

  later.port1.onmessage = flush;
  later.port1.unref?.();
  channel.onmessage = answer;
  onPage(['visibilitychange'], sayStatus, signal);
  sayStatus();
  flush();
  return { close: () => close() };
}
