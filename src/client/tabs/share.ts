/**
 * The source of events of a tab that shares its connection: it joins its rooms at the hub of the group, as a websocket
 * joins them at the bridge. What the hub brings is buffered while pages of `/events` bring everything up to the cursor of
 * the join; then the buffer continues from there. So the tab keeps its own cursor, and a change of the leader can lose or
 * double nothing.
 *
 * A tab uses connections of its own where tabs cannot share, for rooms that the bridge refuses to the hub, and when the hub
 * is out of order although the bridge answers.
 */
import type { Room } from '../../contract/rooms.ts';
import { isRoutedTo } from '../../contract/routing.ts';
import type { Core, OwnConnections } from '../core.ts';
import type { TransportName } from '../events.ts';
import { RoomcastError, type Token } from '../http.ts';
import { childOf, MAX_TIMER_MS, pause, pauseAfter } from '../retry.ts';
import type { TransportPicker } from '../transports/picker.ts';
import { enterGroup, type Group } from './group.ts';
import { createHubLimits, type HubCore, openHub } from './hub.ts';
import { lockManager } from './locks.ts';
import { type CursorNews, type EventNews, endOf, errorOf, groupName, type News, onPage } from './messages.ts';

export interface MembershipOptions extends OwnConnections {
  /** The bridge, its transports, and the name that the application gave to who is signed in. */
  readonly key: readonly unknown[];
  readonly token: Token | undefined;
  openHubCore(options: HubCore): Core;
}

type Entry = EventNews | CursorNews;

/** Entries that wait while pages of `/events` are read. Past it, the pages bring the oldest of them, too. */
const MAX_BUFFER = 10_000;
/** How long other rooms may take to be live. */
const CHANGE_MS = 6_000;
/** How long a hub may be out of order before the tab finds out whether the bridge answers: up to twice that. */
const DOUBT_MS = 15_000;
/** A token may be used for this long after its end, and a clock may be wrong. */
const TOKEN_GRACE_MS = 2_000;
/** Tabs do not all ask the bridge at once. */
const LOOK_MS = 1_000;
/** The hub finds out as well that the bridge is back. */
const GRACE_MS = 5_000;

/** Null where tabs cannot share. */
export function joinGroup(options: MembershipOptions): TransportPicker | null {
  const { http, stream, signals, signal } = options;
  const locks = lockManager();
  if (locks === null || !('BroadcastChannel' in globalThis) || !globalThis.crypto?.subtle) return null;
  const manager = locks;
  let group: Group | null = null;
  let name: string | null = null;
  let isEntering = false;
  let isStarted = false;
  /** The page is frozen, or kept for when the user comes back. */
  let isAway = false;
  let isAlone = false;
  let isBroken = false;
  /** The rooms are live at the hub, and everything before was delivered. */
  let isAttached = false;
  /** It was so a moment ago, with other rooms. */
  let isChanging = false;
  let changeTimer: ReturnType<typeof setTimeout> | undefined;
  let writer = stream.writer();
  let buffer: Entry[] | null = null;
  /** The cursor up to which the buffer was too small. */
  let droppedTo = '';
  /** One attempt to attach. */
  let round = new AbortController();
  let requests = 0;
  let resets = 0;
  let tokenTimer: ReturnType<typeof setTimeout> | undefined;
  let answered: ((news: News) => void) | null = null;
  const alone = options.openPicker((status) => {
    if (isAlone) options.report(status);
  });
  let doubtTimer: ReturnType<typeof setTimeout> | undefined;

  async function enter(): Promise<void> {
    if (group !== null || isEntering || isAway || isBroken || signal.aborted) return;
    isEntering = true;
    try {
      const limits = createHubLimits();
      name = await groupName(options.key, await http.bearer(signal));
      if (isAway || signal.aborted) return;
      group = enterGroup({
        name,
        locks: manager,
        lead: (term, ended) =>
          openHub({
            name: name as string,
            term,
            locks: manager,
            limits,
            token: tokenFor(name as string),
            openCore: options.openHubCore,
            ended,
          }),
        hubChanged,
        heard,
        broken,
      });
    } catch (error) {
      // The token function may work again.
      if (error instanceof RoomcastError) goAlone();
      else broken();
    } finally {
      isEntering = false;
    }
  }

  /** The hub never listens as somebody else than the group. */
  function tokenFor(groupOf: string): Token | undefined {
    if (typeof options.token !== 'function') return options.token;
    let last: string | null = null;
    return async () => {
      let token = (await http.bearer(signal)) as string;
      if (token === last) {
        http.refused();
        token = (await http.bearer(signal)) as string;
      }
      if ((await groupName(options.key, token)) !== groupOf) {
        exit();
        void enter();
        throw new Error('The token is for somebody else.');
      }
      last = token;
      return token;
    };
  }

  function broken(): void {
    if (signal.aborted || isAway) return;
    isBroken = true;
    exit();
    goAlone();
  }

  function exit(): void {
    round.abort();
    clearTimeout(tokenTimer);
    group?.leave();
    group = null;
    isAttached = isChanging = false;
  }

  function goAlone(): void {
    isChanging = false;
    clearTimeout(changeTimer);
    if (isAlone || !isStarted) return;
    isAlone = true;
    options.report({ transport: null, error: null });
    alone.start();
  }

  function stopAlone(): void {
    if (!isAlone) return;
    isAlone = false;
    alone.stop();
  }

  const isLive = (): boolean => (isAttached || isChanging) && group?.hub?.status.transport != null;

  function report(): void {
    const { transport = null, failure = null } = group?.hub?.status ?? {};
    clearTimeout(doubtTimer);
    if (!isStarted) return;
    if (isLive()) {
      options.remember(transport as TransportName);
      stopAlone();
    } else if (!isAlone) checkSoon(DOUBT_MS * (1 + Math.random()));
    if (isAlone) return;
    if (isLive()) options.report({ transport, error: null });
    else options.report({ transport: null, error: failure && errorOf(failure) });
  }

  /** The hub may have more rooms than a proxy lets through, or a token that no longer works. */
  async function doubt(): Promise<void> {
    try {
      if (await stream.catchUp(stream.writer('page'), null, signal)) await pause(GRACE_MS, signal);
      if (!isLive() && !signal.aborted) goAlone();
    } catch (error) {
      if (retries(error as RoomcastError)) report();
    }
  }

  function checkSoon(delayMs: number): void {
    clearTimeout(doubtTimer);
    doubtTimer = setTimeout(doubt, delayMs);
  }

  /** With a new hub, or with other rooms: then it counts as live for a while, as a connection of its own would. */
  function attach(): void {
    round.abort();
    isAttached = false;
    if (group === null) void enter();
    if (!isStarted || group?.hub == null) {
      buffer = null;
      report();
      return;
    }
    round = childOf(signal);
    void takeUp(group, round.signal);
  }

  function change(): void {
    if (isAttached && !isAlone) {
      isChanging = true;
      clearTimeout(changeTimer);
      changeTimer = setTimeout(hubChanged, CHANGE_MS);
    }
    attach();
  }

  function hubChanged(): void {
    isChanging = false;
    clearTimeout(changeTimer);
    attach();
  }

  async function takeUp(at: Group, until: AbortSignal): Promise<void> {
    writer = stream.writer();
    buffer = [];
    droppedTo = '';
    report();
    await persist(until, async () => {
      const token = await http.bearer(until);
      if (name !== (await groupName(options.key, token))) {
        exit();
        void enter();
        return;
      }
      watchToken(token);
      const answer = await join(at, until);
      if (until.aborted) return;
      if (answer.kind === 'refused') return goAlone();
      if (answer.kind !== 'joined') return;
      resets = answer.resets;
      if (!(await stream.catchUp(writer, answer.cursor, until)) || !(await drain(until))) return;
      isAttached = true;
      isChanging = false;
      clearTimeout(changeTimer);
      report();
    });
  }

  /** Repeats what fails for a passing reason. */
  async function persist(until: AbortSignal, act: () => Promise<unknown>): Promise<void> {
    for (let failures = 1; !until.aborted; failures++) {
      const startedMs = performance.now();
      try {
        await act();
        return;
      } catch (cause) {
        if (!retries(cause as RoomcastError)) return;
        await pauseAfter(cause as RoomcastError, failures, startedMs, until);
      }
    }
  }

  /** When the token ends, a connection of its own would end, too: then the next token shows who may listen. */
  function watchToken(token: string | null): void {
    clearTimeout(tokenTimer);
    const restMs = endOf(token) + http.clockAheadMs - Date.now() + TOKEN_GRACE_MS * Math.random();
    if (Number.isNaN(restMs)) return;
    const renew = (): void => {
      http.refused();
      change();
    };
    tokenTimer = setTimeout(renew, Math.min(MAX_TIMER_MS, Math.max(TOKEN_GRACE_MS, restMs)));
  }

  function join({ member, ask }: Group, until: AbortSignal): Promise<News> {
    const request = ++requests;
    return new Promise((resolve) => {
      until.addEventListener('abort', () => resolve({ kind: 'end', failure: null }));
      answered = (news) => {
        if ('request' in news && news.request === request) resolve(news);
      };
      ask({ kind: 'join', member, request, rooms: writer.rooms });
    });
  }

  /** A token may be renewed; what the bridge refuses for good ends the client. */
  function retries(error: RoomcastError): boolean {
    const isPassing = error.status === 401 ? http.refused() : error.passing;
    if (!isPassing) options.failed(error);
    return isPassing;
  }

  /** Writes what waits. Returns false if the rooms changed meanwhile. */
  async function drain(until: AbortSignal): Promise<boolean> {
    for (let next = 0; buffer !== null && writer.isCurrent && !until.aborted; next++) {
      if (droppedTo !== '') {
        const upTo = droppedTo;
        droppedTo = '';
        next = 0;
        if (!(await stream.catchUp(writer, upTo, until))) return false;
      }
      const entry = buffer[next];
      if (entry === undefined) {
        buffer = null;
        return true;
      }
      const isKnown = writer.cursor !== null && entry.cursor <= writer.cursor;
      if (!isKnown && !write(entry) && !(await stream.catchUp(writer, entry.cursor, until))) return false;
    }
    return false;
  }

  /** Returns false if only the bridge knows whether the event is for this tab. */
  function write(entry: Entry): boolean {
    if (entry.kind === 'cursor') writer.advance(entry.cursor);
    else {
      const isFor = concerns(entry);
      if (isFor === null) return false;
      if (isFor) writer.write(entry, entry.transport);
      else writer.advance(entry.cursor);
    }
    return true;
  }

  /** Null if the payload does not tell. */
  function concerns({ event, payload, rooms }: EventNews): boolean | null {
    if (rooms === null) return null;
    const isIn = (room: Room): boolean => rooms?.includes(room) ?? isRoutedTo(room, event, payload);
    return writer.rooms.some(isIn);
  }

  function take(entry: Entry): void {
    if (!isStarted) return;
    if (buffer !== null) {
      buffer.push(entry);
      if (buffer.length < MAX_BUFFER) return;
      droppedTo = entry.cursor;
      buffer = [];
      // Without effect while the rooms change: the pages read at the next `attach` bring it.
    } else if (writer.isCurrent && !write(entry)) {
      buffer = [entry];
      const { signal: until } = round;
      void persist(until, () => drain(until));
    }
  }

  function heard(news: News): void {
    switch (news.kind) {
      case 'event':
      case 'cursor':
        take(news);
        break;
      case 'joined':
      case 'refused':
        if (news.member === group?.member) answered?.(news);
        break;
      case 'status':
        report();
        break;
      case 'end':
        // Perhaps the bridge refuses this tab, too.
        if (news.failure !== null) checkSoon(LOOK_MS * Math.random());
        break;
      case 'signal':
        if (news.member === undefined || news.member === group?.member)
          signals.take(news.event, news.received, news.transport);
        break;
      case 'signals':
        signals.adopt(new Set([news.room]), news.listed);
        break;
      case 'reset':
        if (news.resets <= resets || !isStarted) return;
        resets = news.resets;
        // A tab that is reading pages finds out by itself whether its own cursor is lost.
        if (isAttached) writer.reset(news.reset);
        else attach();
    }
  }

  function away(): void {
    isAway = true;
    exit();
    report();
  }

  function back(): void {
    isAway = false;
    if (isStarted) void enter();
  }

  onPage(['freeze', 'pagehide'], away, signal);
  onPage(['resume', 'pageshow'], back, signal);
  signal.addEventListener('abort', () => {
    clearTimeout(doubtTimer);
    clearTimeout(changeTimer);
    exit();
  });

  return {
    start() {
      if (signal.aborted) return;
      isStarted = true;
      if (isBroken) return goAlone();
      void enter();
      attach();
    },
    attach() {
      if (isAlone) alone.attach();
      change();
    },
    wake(judged) {
      if (isAlone) alone.wake(judged);
      const asked = group;
      asked?.wake();
      if (isStarted) void enter();
      void judged.then((judgement) => {
        if (judgement === 'behind' && !isAlone) asked?.takeOver();
      });
    },
    stop() {
      isStarted = false;
      round.abort();
      isAttached = isChanging = false;
      buffer = null;
      clearTimeout(doubtTimer);
      clearTimeout(changeTimer);
      clearTimeout(tokenTimer);
      if (group !== null) group.ask({ kind: 'join', member: group.member, request: ++requests, rooms: [] });
      stopAlone();
      options.report({ transport: null, error: null });
    },
  };
}
