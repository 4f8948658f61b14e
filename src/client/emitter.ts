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
import { MAX_NAMED_ROOMS } from '../contract/publishing.ts';
import { BUILT_IN_KINDS, faultOfRoom, idOf, kindOf, type Room } from '../contract/rooms.ts';
import { LEGACY } from './legacy.ts';
import { checkOptions, isFunction, type Rule } from './options.ts';
import { pendingEmitsOf } from './pending-emits.ts';
import { PublishError } from './publish-error.ts';

type Id = string | number;
type Payload = Readonly<Record<string, unknown>>;
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
  readonly tenantId?:
    | Id
    | null
    | ((event: string, payload: Payload, rooms: readonly string[]) => Id | null | undefined);
  /**
   * Gets each emit that fails: a {@link PublishError}, or the error of a bridge in the same process. Default:
   * `console.error`, at most once a minute for each event and code.
   */
  readonly onError?: (error: Failure, failed: { readonly event: string; readonly rooms: readonly string[] }) => void;
}

export interface Emission {
  /** Adds rooms, such as `ticket:123`. */
  to(rooms: string | readonly string[], options?: EmitOptions): Emission;
  /** The same, as in Socket.IO. */
  in(rooms: string | readonly string[], options?: EmitOptions): Emission;
  /**
   * Publishes at the end of the tick. The payload, a JSON object, is serialised at once; you may change it afterwards.
   * Legacy events (protocol §4) are not published: the bridge makes them from the canonical event.
   */
  emit(event: string, payload: unknown): void;
}

export interface Emitter extends Pick<Emission, 'to' | 'in'> {
  emitToTenant(tenantId: Id, event: string, payload: unknown): void;
  emitToTicket(ticketId: Id, event: string, payload: unknown, options?: EmitOptions): void;
  emitToAgreement(agreementId: Id, event: string, payload: unknown, options?: EmitOptions): void;
  emitToUser(userId: Id, event: string, payload: unknown, options?: EmitOptions): void;
}

const RULES: Readonly<Record<keyof EmitterOptions, Rule>> = {
  tenantId: [() => true, ''],
  onError: [isFunction, 'a function'],
};
/** A legacy event without its canonical event is reported after this time. */
const CANONICAL_WITHIN_MS = 10_000;
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

/** @throws {TypeError} an option that is unknown or has the wrong form */
export function createEmitter(target: EmitTarget, options: EmitterOptions = {}): Emitter {
  checkOptions(options, RULES);
  const { onError = createErrorLog() } = options;
  /** The records of this tick, in the order of their first emits. */
  let waiting: Waiting[] = [];
  /** Of each event and payload, and of each room, the place of its newest record in `waiting`. */
  const places = new Map<string, number>();
  /** Canonical events so far, and legacy events that wait for theirs. */
  const emitted = new Set<string>();
  const unmatched = new Set<string>();
  const sends = pendingEmitsOf(target);

  function emit(rooms: readonly string[], tenantId: Id | null, event: string, payloads: readonly unknown[]): void {
    const canonical = CANONICAL.get(event);
    if (canonical !== undefined) {
      expect(canonical, event, rooms);
      return;
    }
    schedule();
    if (Object.hasOwn(LEGACY, event)) emitted.add(event);
    const text = payloads.length === 1 ? serialise(payloads[0]) : null;
    if (text === null) {
      fail('invalid_payload', 'An event has one payload, a JSON object.', event, rooms);
      return;
    }
    if (rooms.length === 0) fail('invalid_room', 'An event needs a room.', event, rooms);
    const valid = [...new Set(rooms)].filter((room) => {
      const fault = faultOfRoom(room, room.includes(':') ? [kindOf(room as Room)] : BUILT_IN_KINDS);
      if (fault !== null) fail('invalid_room', `It ${fault}.`, event, [room]);
      return fault === null;
    });
    const payload = waiting[places.get(keyOf(event, text)) ?? -1]?.payload ?? (JSON.parse(text) as Payload);
    const common = idOrNull(payload.tenantId) ?? valid.map(tenantOf).find(Boolean) ?? idOrNull(tenantId);
    const byTenant = new Map<string | null, string[]>();
    for (const room of valid) {
      const tenant = tenantOf(room) ?? common;
      byTenant.set(tenant, [...(byTenant.get(tenant) ?? []), room]);
    }
    for (const [tenant, some] of byTenant) {
      const fallback = tenant === null ? idOrNull(fallbackOf(event, payload, some)) : null;
      add({ event, payload, rooms: some, tenantId: tenant, fallback }, keyOf(event, text));
    }
  }

  /** Adds the rooms to the record that waits, unless one of them would then get its events in another order. */
  function add(record: Waiting, key: string): void {
    const place = places.get(key) ?? -1;
    const same = waiting[place];
    const { rooms, tenantId } = record;
    if (same !== undefined && rooms.every((room) => (places.get(room) ?? -1) < place) && canJoin(same, record)) {
      same.rooms.push(...rooms);
      same.tenantId ??= tenantId;
      for (const room of rooms) places.set(room, place);
      return;
    }
    for (let at = 0; at < rooms.length; at += MAX_NAMED_ROOMS) {
      const some = rooms.slice(at, at + MAX_NAMED_ROOMS);
      const place = waiting.push({ ...record, rooms: some }) - 1;
      for (const name of [key, ...some]) places.set(name, place);
    }
  }

  function fallbackOf(event: string, payload: Payload, rooms: readonly string[]): unknown {
    return typeof options.tenantId === 'function' ? options.tenantId(event, payload, rooms) : options.tenantId;
  }

  /** A macrotask, so that emits between which the application awaits settled promises are of one tick. */
  function schedule(): void {
    if (sends.has(send)) return;
    sends.add(send);
    (globalThis.setImmediate ?? setTimeout)(send);
  }

  function send(): void {
    sends.delete(send);
    const records = waiting;
    waiting = [];
    places.clear();
    for (const record of records) publish(record);
  }

  /** An application may emit the legacy event first, and read its database before the canonical one. */
  function expect(canonical: string, event: string, rooms: readonly string[]): void {
    if (emitted.has(canonical) || unmatched.has(event)) return;
    unmatched.add(event);
    const timer: { unref?(): void } | number = setTimeout(() => {
      unmatched.delete(event);
      if (emitted.has(canonical)) return;
      fail('legacy_event', `The bridge makes it from "${canonical}". Emit that event.`, event, rooms);
    }, CANONICAL_WITHIN_MS);
    if (typeof timer === 'object') timer.unref?.();
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
        const message = `It was published before, to ${published.rooms.join(', ')}. Emit it to all its rooms in one tick.`;
        fail('other_rooms', message, event, missed);
      },
      (error) => onError(error, { event, rooms }),
    );
  }

  function fail(code: string, message: string, event: string, rooms: readonly string[]): void {
    onError(new PublishError(code, message), { event, rooms });
  }

  function to(rooms: readonly string[], tenantId: Id | null): Emission {
    const add: Emission['to'] = (more, { tenantId: own = tenantId } = {}) => to([...rooms, ...[more].flat()], own);
    return {
      to: add,
      in: add,
      emit: (event, ...payloads) => emit(rooms, tenantId, event, payloads),
    };
  }

  const toKind =
    (kind: string) =>
    (id: Id, event: string, payload: unknown, { tenantId = null }: EmitOptions = {}) =>
      emit([`${kind}:${id ?? ''}`], tenantId, event, [payload]);

  return {
    to: to([], null).to,
    in: to([], null).in,
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

const tenantOf = (room: string): string | null => (room.startsWith('tenant:') ? idOf(room as Room) : null);
const idOrNull = (id: unknown): string | null => (id === null || id === undefined || id === '' ? null : String(id));

function canJoin(same: Waiting, { rooms, tenantId, fallback }: Waiting): boolean {
  if (same.rooms.length + rooms.length > MAX_NAMED_ROOMS) return false;
  if (tenantId !== null && same.tenantId !== null) return tenantId === same.tenantId;
  return tenantId !== null || same.tenantId !== null || fallback === same.fallback;
}

/** A room's name has no line break, so no key is one. */
const keyOf = (event: string, text: string): string => `${event}\n${text}`;

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
