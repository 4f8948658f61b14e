/**
 * `createEmitter(publisher)`: a Socket.IO server's emits, for an application that moves to the bridge. It changes the one
 * file that emits; who hears what stays the same.
 *
 *   const io = createEmitter(createPublisher({ url, token }));
 *   io.to(`tenant:${tenantId}`).emit('tickets.updated', payload);
 *
 * An emit names its rooms, so the payload's ids route nothing. Such an application emits one event to one room after
 * another. Emits of one event with one payload in one tick become one record with all these rooms: a client in several of
 * them receives it once, and a message that the bridge would take for a repeat reaches every room. As in Socket.IO, an emit
 * returns nothing to wait for; failures go to `onError`.
 */
import { ID_RULE, isRoomId } from '../contract/rooms.ts';
import { LEGACY } from './legacy.ts';
import { PublishError } from './publish-error.ts';

type Id = string | number;
type Failure = Error & { readonly code: string };

/** A publisher, or a bridge in the same process. */
export interface EmitTarget {
  publish(
    event: string,
    payload: object,
    options: { readonly rooms: readonly string[]; readonly tenantId: Id | null },
  ): Promise<{ readonly rooms: readonly string[]; readonly duplicate: boolean }>;
}

export interface EmitOptions {
  /** The tenant of a payload without `tenantId`, if none of its rooms is a `tenant:` room. */
  readonly tenantId?: Id | null;
}

export interface EmitterOptions {
  /**
   * The same for all emits. A function is called during the emit, for example to ask the request's context
   * (`AsyncLocalStorage`).
   */
  readonly tenantId?: Id | null | ((event: string, payload: unknown, room: string) => Id | null | undefined);
  /**
   * Gets each emit that fails: a {@link PublishError}, or the error of a bridge in the same process. Default:
   * `console.error`, at most once a minute for each event and code.
   */
  readonly onError?: (error: Failure, failed: { readonly event: string; readonly rooms: readonly string[] }) => void;
}

export interface Emission {
  /** Adds rooms, such as `ticket:123`. */
  to(rooms: string | readonly string[], options?: EmitOptions): Emission;
  /**
   * Publishes at the end of the tick. The payload, a JSON object, is serialised at once; you may change it afterwards.
   * Legacy events (protocol §4) are not published: the bridge makes them from the canonical event.
   */
  emit(event: string, payload: unknown): void;
}

export interface Emitter {
  to(rooms: string | readonly string[], options?: EmitOptions): Emission;
  emitToTenant(tenantId: Id, event: string, payload: unknown): void;
  emitToTicket(ticketId: Id, event: string, payload: unknown, options?: EmitOptions): void;
  emitToAgreement(agreementId: Id, event: string, payload: unknown, options?: EmitOptions): void;
  emitToUser(userId: Id, event: string, payload: unknown, options?: EmitOptions): void;
}

/** Rooms of one record (protocol §9). Past it, another record begins. */
const MAX_ROOMS = 100;
const ROOM = /^[a-z][a-z0-9]{0,31}:/;
const LOG_EVERY_MS = 60_000;
/** Kinds of failure that the log remembers. */
const MAX_LOGGED = 1000;

interface Waiting {
  readonly event: string;
  /** As it was when it was emitted. */
  readonly payload: Payload;
  readonly rooms: string[];
  /** Of a `tenant:` room, of the payload, or given with the emit. */
  tenantId: string | null;
  /** Of the emitter's own option. */
  readonly fallback: string | null;
}

type Payload = Readonly<Record<string, unknown>>;

/** Of each publisher, what publishes the emits that wait for the end of the tick. */
const pending = /* @__PURE__ */ new WeakMap<object, Set<() => void>>();

/** For the publisher: before it flushes or closes. */
export function sendPendingEmits(target: object): void {
  for (const send of pending.get(target) ?? []) send();
}

export function createEmitter(target: EmitTarget, options: EmitterOptions = {}): Emitter {
  const { onError = createErrorLog() } = options;
  /** The records of this tick, in the order of their first emits. */
  let waiting: Waiting[] = [];
  /** Of each event and payload, and of each room, the place of its newest record in `waiting`. */
  const places = new Map<string, number>();
  /** Legacy events of this tick, and canonical events so far. */
  const dropped = new Map<string, readonly string[]>();
  const emitted = new Set<string>();
  let isScheduled = false;

  const sends = pending.get(target) ?? new Set();
  pending.set(target, sends.add(send));

  function emit(rooms: readonly string[], tenantId: Id | null, event: string, payloads: readonly unknown[]): void {
    schedule();
    if (CANONICAL.has(event)) {
      dropped.set(event, rooms);
      return;
    }
    emitted.add(event);
    const text = payloads.length === 1 ? serialise(payloads[0]) : null;
    if (text === null) fail('invalid_payload', 'An event has one payload, a JSON object.', event, rooms);
    else if (rooms.length === 0) fail('invalid_room', 'An event needs a room.', event, rooms);
    else for (const room of rooms) add(event, text, room, tenantId);
  }

  /** Joins the room to the waiting record, unless the room would then get its events in another order. */
  function add(event: string, text: string, room: string, given: Id | null): void {
    if (!ROOM.test(room) || !isRoomId(idOf(room))) {
      fail('invalid_room', `A room is a kind, a colon and an id: ${ID_RULE}.`, event, [room]);
      return;
    }
    const key = `${event}\n${text}`;
    const place = places.get(key) ?? -1;
    const same = waiting[place];
    const payload = same?.payload ?? (JSON.parse(text) as Payload);
    const tenantId = tenantOf(room) ?? idOrNull(payload.tenantId) ?? idOrNull(given);
    const fallback = tenantId === null ? idOrNull(fallbackOf(event, payload, room)) : null;
    if (same !== undefined && (places.get(room) ?? -1) < place && canJoin(same, tenantId, fallback)) {
      same.rooms.push(room);
      same.tenantId ??= tenantId;
      places.set(room, place);
    } else {
      const newPlace = waiting.push({ event, payload, rooms: [room], tenantId, fallback }) - 1;
      places.set(key, newPlace).set(room, newPlace);
    }
  }

  function fallbackOf(event: string, payload: unknown, room: string): unknown {
    return typeof options.tenantId === 'function' ? options.tenantId(event, payload, room) : options.tenantId;
  }

  /** A macrotask, so that emits between which the application awaits settled promises are of one tick. */
  function schedule(): void {
    if (isScheduled) return;
    isScheduled = true;
    (globalThis.setImmediate ?? setTimeout)(send);
  }

  function send(): void {
    isScheduled = false;
    const records = waiting;
    waiting = [];
    places.clear();
    for (const record of records) publish(record);
    for (const [event, rooms] of dropped) {
      const canonical = CANONICAL.get(event) as string;
      if (emitted.has(canonical)) continue;
      fail('legacy_event', `The bridge makes it from "${canonical}". Emit that event.`, event, rooms);
    }
    dropped.clear();
  }

  function publish({ event, payload, rooms, tenantId, fallback }: Waiting): void {
    const tenant = tenantId ?? fallback;
    if (tenant === null) {
      const message = 'Its tenant is unknown. Give tenantId in the payload, to createEmitter or with the emit.';
      fail('unknown_tenant', message, event, rooms);
      return;
    }
    target.publish(event, payload, { rooms, tenantId: tenant }).then(
      (published) => {
        const missed = published.duplicate ? rooms.filter((room) => !published.rooms.includes(room)) : [];
        if (missed.length === 0) return;
        const message = `It was published before, to ${published.rooms}. Emit it to all its rooms in one tick.`;
        fail('other_rooms', message, event, missed);
      },
      (error) => onError(error, { event, rooms }),
    );
  }

  function fail(code: string, message: string, event: string, rooms: readonly string[]): void {
    onError(new PublishError(code, message), { event, rooms });
  }

  function to(rooms: readonly string[], tenantId: Id | null): Emission {
    return {
      to: (more, { tenantId: own = tenantId } = {}) => to([...rooms, ...[more].flat()], own),
      emit: (event, ...payloads) => emit(rooms, tenantId, event, payloads),
    };
  }

  const toKind =
    (kind: string) =>
    (id: Id, event: string, payload: unknown, { tenantId = null }: EmitOptions = {}) =>
      emit([`${kind}:${id ?? ''}`], tenantId, event, [payload]);

  return {
    to: to([], null).to,
    emitToTenant: toKind('tenant'),
    emitToTicket: toKind('ticket'),
    emitToAgreement: toKind('agreement'),
    emitToUser: toKind('user'),
  };
}

/** Of each legacy event, the canonical one. */
const CANONICAL = /* @__PURE__ */ new Map(
  /* @__PURE__ */ Object.entries(LEGACY).flatMap(([canonical, { names }]) =>
    names.map((name) => [name as string, canonical]),
  ),
);

const idOf = (room: string): string => room.slice(room.indexOf(':') + 1);
const tenantOf = (room: string): string | null => (room.startsWith('tenant:') ? idOf(room) : null);
const idOrNull = (id: unknown): string | null => (id === null || id === undefined || id === '' ? null : String(id));

function canJoin(record: Waiting, tenantId: string | null, fallback: string | null): boolean {
  if (record.rooms.length === MAX_ROOMS) return false;
  if (tenantId !== null && record.tenantId !== null) return tenantId === record.tenantId;
  return tenantId !== null || record.tenantId !== null || fallback === record.fallback;
}

/** Null if it is not a JSON object. */
function serialise(payload: unknown): string | null {
  try {
    const text = JSON.stringify(payload);
    return text?.startsWith('{') ? text : null;
  } catch {
    return null; // a cycle, a BigInt
  }
}

function createErrorLog(): NonNullable<EmitterOptions['onError']> {
  const logged = new Map<string, { atMs: number; count: number }>();
  return ({ code, message }, { event, rooms }) => {
    const key = `${event}\n${code}`;
    const last = logged.get(key) ?? { atMs: Number.NEGATIVE_INFINITY, count: 0 };
    last.count++;
    if (performance.now() - last.atMs < LOG_EVERY_MS) return;
    if (logged.size === MAX_LOGGED) logged.clear();
    logged.set(key, { atMs: performance.now(), count: 0 });
    const times = last.count === 1 ? '' : ` (${last.count} times since the last line)`;
    console.error(`roomcast: "${event}" did not reach ${rooms.join(', ')}: ${code}: ${message}${times}`);
  };
}
