'use client';
/**
 * The client library for React 18 and 19. `LiveProvider` connects when it is mounted and closes when it is unmounted; the
 * hooks beneath it hear its events, its status and its signals, and show tickets and messages: the state, and what is live.
 *
 *   createElement(LiveProvider, { options: { url, token, rooms: { tenantId } } }, createElement(Inbox))
 *
 * On a server nothing is opened: there the status is `connecting`, and every list is empty.
 */
import {
  createContext,
  createElement,
  type ReactElement,
  type ReactNode,
  useContext,
  useEffect,
  useLayoutEffect,
  useMemo,
  useRef,
  useState,
  useSyncExternalStore,
} from 'react';
import type { ConnectOptions, Live } from './client.ts';
import type { ActiveSignal, Id, OneRoom, RoomcastEvents, Status } from './events.ts';
import {
  type MessageList,
  type MessageListOptions,
  messagesOf,
  NO_SIGNALS,
  signalsOf,
  type TicketList,
  type TicketListQuery,
  ticketsOf,
} from './lists/collections.ts';
import { LOADING, NOTHING } from './lists/live-list.ts';
import {
  CONNECTING,
  connectIn,
  createLiveSlot,
  type HandlerName,
  type HandlerOf,
  type LiveSlot,
  optionsKey,
} from './lists/live-slot.ts';
import type { Store } from './lists/shared-store.ts';
import { roomOf } from './stream.ts';

export type * from './client.ts';
export type { MessageList, MessageListOptions, TicketList, TicketListQuery } from './lists/collections.ts';

export interface LiveProviderProps<Events = RoomcastEvents, Kind extends string = never> {
  /**
   * For `connect`, compared by their values: other ones close the client and open another. Functions may change at each
   * render, the newest one is called. Null, while nobody is signed in: no client.
   */
  readonly options?: ConnectOptions<Kind> | null | undefined;
  /** In place of `options`: a client of your own, which you close yourself. */
  readonly live?: Live<Events, Kind> | undefined;
  readonly children?: ReactNode;
}

/** The hooks for the events and room kinds that your operator declares; see `typed`. */
export interface Hooks<Events, Kind extends string> {
  LiveProvider(props: LiveProviderProps<Events, Kind>): ReactElement;
  useLive(): Live<Events, Kind> | null;
  useLive<Name extends HandlerName<Events>>(
    name: Name,
    handler: HandlerOf<Events, Kind, Name>,
  ): Live<Events, Kind> | null;
  useStatus(): Status;
  useSignals(room: OneRoom<Kind> | null | undefined): readonly ActiveSignal<Events>[];
  useTickets(query: TicketListQuery | null | undefined): TicketList;
  useMessages(ticketId: Id | null | undefined, options?: MessageListOptions): MessageList;
}

type Slot = LiveSlot<RoomcastEvents, never>;

const Context = createContext<Slot | null>(null);

/** Before the browser paints. A server has neither, and React 18 would warn of the first. */
const useEarlyEffect = 'window' in globalThis ? useLayoutEffect : useEffect;

const never = (): (() => void) => () => {};

/** @throws {TypeError} as `connect` does */
export function LiveProvider({ options, live, children }: LiveProviderProps): ReactElement {
  const [slot] = useState(() => createLiveSlot<RoomcastEvents, never>(live ?? null));
  const latest = useRef(options);
  const key = options ? optionsKey(options) : null;
  useEarlyEffect(() => {
    latest.current = options;
  });
  // Children register their handlers before: their effects run first. The old client closes in the commit that shows the
  // new options, so that no event of it reaches a handler of the new ones.
  useEarlyEffect(() => {
    if (live !== undefined) {
      slot.put(live);
      return () => slot.put(null);
    }
    if (key !== null) return connectIn(slot, () => latest.current as ConnectOptions);
  }, [slot, live, key]);
  return createElement(Context.Provider, { value: slot }, children);
}

/**
 * The client; null on a server, and until the provider is mounted. With a name and a handler, the handler hears the
 * event while the component is mounted; the newest handler is called, so it needs no `useCallback`.
 * @throws {TypeError} as `live.on` does
 */
export const useLive: Hooks<RoomcastEvents, never>['useLive'] = <Name extends HandlerName<RoomcastEvents>>(
  name?: Name,
  handler?: HandlerOf<RoomcastEvents, never, Name>,
) => {
  const slot = useSlot();
  const latest = useRef(handler);
  useEarlyEffect(() => {
    latest.current = handler;
  });
  useEarlyEffect(() => {
    if (name === undefined) return;
    const newest = (...heard: [never, never]): void => (latest.current as (...heard: [never, never]) => void)(...heard);
    return slot.on(name, newest as HandlerOf<RoomcastEvents, never, Name>);
  }, [slot, name]);
  return useSyncExternalStore(slot.subscribe, slot.snapshot, () => slot.first);
};

export function useStatus(): Status {
  const { status } = useSlot();
  return useSyncExternalStore(status.subscribe, status.snapshot, () => CONNECTING);
}

/**
 * The signals of others that are active in a room, which is joined while the component is mounted. No room, no signals.
 * @throws {TypeError} no room
 */
export function useSignals(room: OneRoom | null | undefined): readonly ActiveSignal<RoomcastEvents>[] {
  const live = useLive();
  const name = room === null || room === undefined ? null : (roomOf(room) as OneRoom);
  const store = useMemo(() => live && name && signalsOf(live, name), [live, name]);
  return useStore<readonly ActiveSignal<RoomcastEvents>[]>(store || null, NO_SIGNALS);
}

/**
 * The tickets of a tenant, the newest first: the state, and what is live. The tenant's room, or with `agreementId` the
 * agreement's, is joined while the component is mounted. No query, no tickets.
 */
export function useTickets(query: TicketListQuery | null | undefined): TicketList {
  const live = useLive();
  const key = query ? JSON.stringify(query) : null;
  // biome-ignore lint/correctness/useExhaustiveDependencies: the key stands for the query
  const store = useMemo(() => (live && query ? ticketsOf(live, query) : null), [live, key]);
  return useStore(store, query ? LOADING : NOTHING);
}

/** The messages of a ticket, the oldest first, as `useTickets` has tickets. `loadMore` reads older ones. */
export function useMessages(ticketId: Id | null | undefined, options: MessageListOptions = {}): MessageList {
  const live = useLive();
  const isWanted = ticketId !== null && ticketId !== undefined;
  const { tenantId, limit } = options;
  const store = useMemo(
    () => (live && isWanted ? messagesOf(live, ticketId, { tenantId, limit }) : null),
    [live, isWanted, ticketId, tenantId, limit],
  );
  return useStore(store, isWanted ? LOADING : NOTHING);
}

/**
 * The same hooks, typed for what your operator declares: `export const { LiveProvider, useLive } = typed<Events, 'queue'>()`,
 * with `Events` and the room kinds as `connect` takes them.
 */
export function typed<Events, Kind extends string = never>(): Hooks<Events, Kind> {
  return { LiveProvider, useLive, useStatus, useSignals, useTickets, useMessages } as never;
}

function useSlot(): Slot {
  const slot = useContext(Context);
  if (slot === null) throw new TypeError('There is no LiveProvider above this component.');
  return slot;
}

/** On a server, and where there is no store, the value is `initial`. */
function useStore<Value>(store: Store<Value> | null, initial: Value): Value {
  const getInitial = (): Value => initial;
  return useSyncExternalStore(store?.subscribe ?? never, store?.snapshot ?? getInitial, getInitial);
}
