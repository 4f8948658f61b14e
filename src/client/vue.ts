/**
 * The client library for Vue 3.3 and newer. `LiveProvider`, or `provideLive` in a `setup`, connects when its component is
 * mounted and closes when it is unmounted; the composables beneath it hear its events, its status and its signals, and
 * show tickets and messages: the state, and what is live. They end with their scope.
 *
 *   provideLive(() => ({ url, token, rooms: { tenantId: tenantId.value } }));
 *
 * On a server nothing is opened: there the status is `connecting`, and every list is empty.
 */
import {
  type ComputedRef,
  computed,
  defineComponent,
  getCurrentInstance,
  type InjectionKey,
  inject,
  type MaybeRefOrGetter,
  onMounted,
  type PropType,
  provide,
  shallowRef,
  toRaw,
  toValue,
  type VNode,
  watch,
} from 'vue';
import type { ConnectOptions, Live } from './client.ts';
import type {
  ActiveSignal,
  Id,
  MessagesNew,
  MessagesUpdated,
  OneRoom,
  RoomcastEvents,
  Status,
  TicketsUpdated,
} from './events.ts';
import type { RoomcastError } from './http.ts';
import {
  type MessageListOptions,
  messagesOf,
  NO_SIGNALS,
  signalsOf,
  type TicketListQuery,
  ticketsOf,
} from './lists/collections.ts';
import { type LiveList, LOADING, NOTHING } from './lists/live-list.ts';
import {
  connectIn,
  createLiveSlot,
  type HandlerName,
  type HandlerOf,
  type LiveSlot,
  optionsKey,
} from './lists/live-slot.ts';
import type { Store } from './lists/shared-store.ts';

export type * from './client.ts';
export type { MessageListOptions, TicketListQuery } from './lists/collections.ts';

/** A list, each part as a ref. */
export interface LiveListRefs<Item> {
  readonly items: ComputedRef<readonly Item[]>;
  /** The list is being read. With an `error`, it is read again after a pause. */
  readonly isLoading: ComputedRef<boolean>;
  /** The bridge has further items: `loadMore` reads the next page. */
  readonly hasMore: ComputedRef<boolean>;
  /** Why the list could not be read; null after a success. */
  readonly error: ComputedRef<RoomcastError | null>;
  /** Resolves when the next page is part of the list, or `error` says why not. */
  loadMore(): Promise<void>;
}

type Maybe<Value> = MaybeRefOrGetter<Value | null | undefined>;
type LiveRef<Events, Kind extends string> = ComputedRef<Live<Events, Kind> | null>;

/** The composables for the events and room kinds that your operator declares; see `typed`. */
export interface Composables<Events, Kind extends string> {
  readonly LiveProvider: typeof LiveProvider;
  provideLive(source: Maybe<ConnectOptions<Kind> | Live<Events, Kind>>): LiveRef<Events, Kind>;
  useLive(): LiveRef<Events, Kind>;
  useLive<Name extends HandlerName<Events>>(
    name: MaybeRefOrGetter<Name>,
    handler: HandlerOf<Events, Kind, Name>,
  ): LiveRef<Events, Kind>;
  useStatus(): ComputedRef<Status>;
  useSignals(room: Maybe<OneRoom<Kind>>): ComputedRef<readonly ActiveSignal<Events>[]>;
  useTickets(query: Maybe<TicketListQuery>): LiveListRefs<TicketsUpdated>;
  useMessages(
    ticketId: Maybe<Id>,
    options?: MaybeRefOrGetter<MessageListOptions>,
  ): LiveListRefs<MessagesNew | MessagesUpdated>;
}

type Slot = LiveSlot<RoomcastEvents, never>;

const KEY: InjectionKey<Slot> = Symbol('roomcast');

/**
 * For the components beneath. Options are compared by their values: other ones close the client and open another. A client
 * of your own takes their place; you close it yourself. Null, while nobody is signed in: no client.
 * @throws {TypeError} as `connect` does
 */
export function provideLive(source: Maybe<ConnectOptions | Live>): LiveRef<RoomcastEvents, never> {
  const slot: Slot = createLiveSlot<RoomcastEvents, never>(null);
  provide(KEY, slot);
  const latest = (): ConnectOptions | Live | null => toRaw(toValue(source)) ?? null;
  const given = (): Live | string | null => {
    const value = latest();
    return value === null || isLive(value) ? value : optionsKey(toValue(source) as ConnectOptions);
  };
  // The components beneath are mounted before, and have registered their handlers. The old client closes at once, so that
  // no event of it reaches a handler that reads the new values.
  whileMounted(given, (value) => {
    if (value === null) return () => {};
    if (typeof value === 'string') return connectIn(slot, latest as () => ConnectOptions);
    slot.put(value);
    return () => slot.put(null);
  });
  return refOf(() => slot);
}

/** `provideLive` as a component: `<LiveProvider :options="{ url, token, rooms }">` or `<LiveProvider :live="live">`. */
export const LiveProvider = defineComponent({
  name: 'LiveProvider',
  props: {
    options: { type: Object as PropType<ConnectOptions<string> | null>, default: undefined },
    live: { type: Object as PropType<Pick<Live, 'on' | 'close'>>, default: undefined },
  },
  setup(props, { slots }): () => VNode[] | undefined {
    provideLive(() => (props.live ?? props.options) as ConnectOptions | Live | undefined);
    return () => slots.default?.();
  },
});

/**
 * The client; null on a server, and until the provider is mounted. With a name and a handler, the handler hears the event
 * until its scope ends.
 * @throws {TypeError} as `live.on` does
 */
export const useLive: Composables<RoomcastEvents, never>['useLive'] = <Name extends HandlerName<RoomcastEvents>>(
  name?: MaybeRefOrGetter<Name>,
  handler?: HandlerOf<RoomcastEvents, never, Name>,
) => {
  const slot = useSlot();
  if (name !== undefined && handler !== undefined) {
    whileMounted(
      () => toValue(name),
      (current) => slot.on(current, handler),
    );
  }
  return refOf(() => slot);
};

export function useStatus(): ComputedRef<Status> {
  const { status } = useSlot();
  return refOf(() => status);
}

/** The signals of others that are active in a room, which is joined until the scope ends. No room, no signals. */
export function useSignals(room: Maybe<OneRoom>): ComputedRef<readonly ActiveSignal<RoomcastEvents>[]> {
  const live = useLive();
  return refOf<readonly ActiveSignal<RoomcastEvents>[]>(() => {
    const of = toValue(room);
    return live.value && of ? signalsOf(live.value, of) : SILENCE;
  });
}

/**
 * The tickets of a tenant, the newest first: the state, and what is live. The tenant's room, or with `agreementId` the
 * agreement's, is joined until the scope ends. No query, no tickets.
 */
export function useTickets(query: Maybe<TicketListQuery>): LiveListRefs<TicketsUpdated> {
  const live = useLive();
  return refsOf<TicketsUpdated>(() => {
    const current = toValue(query);
    if (!current) return EMPTY;
    return live.value ? ticketsOf(live.value, current) : UNREAD;
  });
}

/** The messages of a ticket, the oldest first, as `useTickets` has tickets. `loadMore` reads older ones. */
export function useMessages(
  ticketId: Maybe<Id>,
  options: MaybeRefOrGetter<MessageListOptions> = {},
): LiveListRefs<MessagesNew | MessagesUpdated> {
  const live = useLive();
  return refsOf<MessagesNew | MessagesUpdated>(() => {
    const current = toValue(ticketId);
    if (current === null || current === undefined) return EMPTY;
    return live.value ? messagesOf(live.value, current, toValue(options)) : UNREAD;
  });
}

/**
 * The same composables, typed for what your operator declares: `export const { provideLive, useLive } = typed<Events,
 * 'queue'>()`, with `Events` and the room kinds as `connect` takes them.
 */
export function typed<Events, Kind extends string = never>(): Composables<Events, Kind> {
  return { LiveProvider, provideLive, useLive, useStatus, useSignals, useTickets, useMessages } as never;
}

const isLive = (value: ConnectOptions | Live): value is Live => 'on' in value;

function useSlot(): Slot {
  const slot = inject(KEY, null);
  if (slot === null) throw new TypeError('No component above this one called provideLive, or is a LiveProvider.');
  return slot;
}

/** A store that never changes. */
const still = <Value>(value: Value): Store<Value> => ({ subscribe: () => () => {}, snapshot: () => value });
const SILENCE = still(NO_SIGNALS);
const EMPTY = still(NOTHING);
const UNREAD = still(LOADING);

/**
 * The store is asked in each rendering, and subscribed to after it: then all that it depends on is of one time, and no room
 * is joined for the old ticket and the new client.
 */
function refOf<Value>(store: () => Store<Value>): ComputedRef<Value> {
  const current = computed(store);
  const changes = shallowRef(0);
  const changed = (): void => void changes.value++;
  whileMounted(
    () => current.value,
    ({ subscribe }) => {
      const end = subscribe(changed);
      changed(); // what changed before, or with the subscription
      return end;
    },
    'post',
  );
  return computed(() => {
    void changes.value;
    return current.value.snapshot();
  });
}

function refsOf<Item>(store: () => Store<LiveList<Item>>): LiveListRefs<Item> {
  const list = refOf(store);
  return {
    items: computed(() => list.value.items),
    isLoading: computed(() => list.value.isLoading),
    hasMore: computed(() => list.value.hasMore),
    error: computed(() => list.value.error),
    loadMore: () => list.value.loadMore(),
  };
}

const UNMOUNTED = Symbol('unmounted');

/**
 * Calls `act` with the value, and again with each other one, after it has called the function that `act` returned. Begins
 * when the component is mounted, so never on a server; outside a component, at once. Ends with the scope.
 */
function whileMounted<Value>(
  source: () => Value,
  act: (value: Value) => () => void,
  flush: 'sync' | 'post' = 'sync',
): void {
  const isMounted = shallowRef(getCurrentInstance() === null);
  if (!isMounted.value) {
    onMounted(() => {
      isMounted.value = true;
    });
  }
  watch(
    () => (isMounted.value ? source() : UNMOUNTED),
    (value, _, onCleanup) => {
      if (value !== UNMOUNTED) onCleanup(act(value as Value));
    },
    { immediate: true, flush },
  );
}
