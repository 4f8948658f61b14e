/**
 * A list that is the state of the bridge and stays so: it is read from a state route and continued by events, with no gap
 * and nothing twice.
 *
 * Its room is live before the state is read. The state says of which position in the log it is: events up to it are part
 * of it, and events after it change it. While the state is read, they already do, so nothing waits. After a reset the
 * state is read again, and what was shown stays until then.
 */
import type { Room } from '../../contract/rooms.ts';
import type { Live } from '../client.ts';
import type { Meta, RoomcastEvents, StateList } from '../events.ts';
import type { RoomcastError } from '../http.ts';
import { pauseAfter } from '../retry.ts';
import type { Payload } from '../stream.ts';
import { holdRoom } from './held-rooms.ts';
import { type Store, sharedStore } from './shared-store.ts';

export interface LiveList<Item> {
  readonly items: readonly Item[];
  /** The list is being read. With an `error`, it is read again after a pause. */
  readonly isLoading: boolean;
  /** The bridge has further items: `loadMore` reads the next page. */
  readonly hasMore: boolean;
  /** Why the list could not be read; null after a success. */
  readonly error: RoomcastError | null;
  /** Resolves when the next page is part of the list, or `error` says why not. */
  loadMore(): Promise<void>;
}

/** The items that are known, and the rules by which payloads change them (protocol §7). */
export interface Items<Item> {
  /**
   * Takes a page of the state of the position `cursor`. The first page replaces what events up to it have told. Returns
   * whether the state must be read again: it is unclear what a change is about.
   */
  load(page: readonly Item[], cursor: string, isFirst: boolean): boolean;
  /** Takes an event. They come in the order of the log. Returns the same as `load`. */
  take(event: string, payload: Payload, cursor: string): boolean;
  list(): readonly Item[];
}

/** What a list needs of a client: one with events, signals and room kinds of its own, too. */
export type ListClient = Pick<Live, 'join' | 'leave' | 'rooms' | 'status' | 'on' | 'readTickets' | 'readMessages'>;

export interface LiveListOptions<Item> {
  /** The room whose events change the list. */
  readonly room: Room;
  readonly events: readonly (keyof RoomcastEvents)[];
  /** Whether an event is about this list. */
  isMine(payload: Payload): boolean;
  read(page: { readonly limit: number; readonly page: string | undefined }): Promise<StateList<Item>>;
  createItems(): Items<Item>;
  /** Items of a page. */
  readonly limit: number;
}

const MAX_LIMIT = 1_000;
/** Changes that arrive within one frame are shown together. */
const FRAME_MS = 16;

/** A list that must be read again is read after this time, or up to twice of it. */
const READ_AGAIN_MS = 1_000;

/** Before there is an answer. */
export const LOADING: LiveList<never> = {
  items: [],
  isLoading: true,
  hasMore: false,
  error: null,
  async loadMore() {},
};
/** Where there is nothing to read. */
export const NOTHING: LiveList<never> = { ...LOADING, isLoading: false };

/** One list for all that ask this client with the same `key`. */
export function liveList<Item>(live: ListClient, key: string, options: LiveListOptions<Item>): Store<LiveList<Item>> {
  return sharedStore<LiveList<Item>>(live, key, LOADING, (publish) => run(live, options, publish));
}

function run<Item>(
  live: ListClient,
  options: LiveListOptions<Item>,
  publish: (list: LiveList<Item>) => void,
): () => void {
  const aborter = new AbortController();
  const { signal } = aborter;
  let shown: LiveList<Item> = { ...LOADING, loadMore };
  let items = options.createItems();
  /** The position of the state; null while it is read for the first time, or after a reset. */
  let cursor: string | null = null;
  let nextPage: string | undefined;
  /** An answer to an older reading is of no use. */
  let reading = 0;
  let frame: ReturnType<typeof setTimeout> | undefined;
  let again: ReturnType<typeof setTimeout> | undefined;

  function show(change: Partial<LiveList<Item>>): void {
    shown = { ...shown, ...change };
    publish(shown);
  }

  function showItems(): void {
    frame = undefined;
    if (cursor !== null) show({ items: items.list() });
  }

  function take(payload: Payload, { event, cursor: at }: Meta): void {
    if (!options.isMine(payload) || (cursor !== null && at <= cursor)) return;
    if (items.take(event, payload, at)) readAgain();
    frame ??= setTimeout(showItems, FRAME_MS);
  }

  /** Reads on until there is an item: a page may have none, and not be the last one (protocol §7). */
  async function readPages(own: number, limit: number): Promise<void> {
    let answer: StateList<Item>;
    do {
      answer = await options.read({ limit, page: nextPage });
      if (own !== reading) return;
      const isFirst = cursor === null;
      cursor ??= answer.cursor;
      if (items.load(answer.items, answer.cursor, isFirst)) readAgain();
      nextPage = answer.nextPage ?? undefined;
    } while (nextPage !== undefined && answer.items.length === 0);
    show({ items: items.list(), isLoading: false, hasMore: nextPage !== undefined, error: null });
  }

  function readAgain(): void {
    if (cursor !== null) again ??= setTimeout(load, READ_AGAIN_MS * (1 + Math.random()));
  }

  async function load(): Promise<void> {
    const own = ++reading;
    clearTimeout(again);
    again = undefined;
    // As many as were shown, so that the list does not shrink.
    const limit = Math.min(MAX_LIMIT, Math.max(options.limit, shown.items.length));
    items = options.createItems();
    cursor = null;
    nextPage = undefined;
    show({ isLoading: true });
    for (let failures = 1; own === reading; failures++) {
      const startedMs = performance.now();
      try {
        await room.joined;
        await readPages(own, limit);
        return;
      } catch (cause) {
        if (own !== reading) return;
        const isClosed = live.status.state === 'closed';
        const error = (isClosed && live.status.error) || (cause as RoomcastError);
        const isLoading = error.passing && !isClosed;
        show({ error, isLoading });
        if (!isLoading) return;
        await pauseAfter(error, failures, startedMs, signal);
      }
    }
  }

  async function loadMore(): Promise<void> {
    if (nextPage === undefined || shown.isLoading) return;
    const own = reading;
    show({ isLoading: true });
    try {
      await readPages(own, options.limit);
    } catch (error) {
      if (own === reading) show({ isLoading: false, error: error as RoomcastError });
    }
  }

  const room = holdRoom(live, options.room);
  const offs = options.events.map((event) => live.on(event, take));
  offs.push(
    live.on('reset', ({ room: lost }) => {
      if (lost === null || lost === options.room) void load();
    }),
  );
  void load();

  return () => {
    reading++;
    aborter.abort();
    clearTimeout(frame);
    clearTimeout(again);
    for (const off of offs) off();
    room.release();
  };
}
