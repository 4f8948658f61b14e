/**
 * Signals: facts that expire, such as "somebody is typing" (protocol §14). What a sender may send, and what listeners get.
 *
 * A signal is never logged and has no cursor. There is at most one active signal per event, room and sender.
 */
import { BridgeError, type FieldError, fieldsError, pointerOf } from './errors.ts';
import { isDeclarableEvent, LEGACY_NAMES, MAX_DEPTH, serialise } from './events.ts';
import { MESSAGES_DELETED, MESSAGES_UPDATED } from './facts.ts';
import { nearest } from './nearest.ts';
import { quotedName } from './printable.ts';
import {
  BUILT_IN_KINDS,
  faultOfId,
  faultOfRoom,
  formatRoom,
  idField,
  JSON_ID_RULE,
  type Room,
  type RoomKind,
  toId,
} from './rooms.ts';

/** UTF-8 bytes of a payload's JSON text. */
export const MAX_SIGNAL_BYTES = 4096;
export const MAX_TTL_SECONDS = 120;
export const DEFAULT_TTL_SECONDS = 10;
/** The length of `client`, by which a sender of `POST /signals` tells its tabs apart. */
export const MAX_CLIENT_CHARACTERS = 64;

/** What a sender asks for, checked. */
export interface SignalRequest {
  readonly event: string;
  readonly room: Room;
  /** Null if the sender named no tenant. */
  readonly tenantId: string | null;
  /** JSON text of an object, without the members that the bridge adds. */
  readonly payload: string;
  /** 0 ends the signal. */
  readonly ttlSeconds: number;
}

/** A signal as it goes to listeners and nodes. */
export interface Signal {
  readonly event: string;
  readonly room: Room;
  /** The key under which the bus finds the listeners (audiences.ts). */
  readonly audience: string;
  /** The sender's `sub`. */
  readonly from: string | null;
  /** An opaque name for the sender's connection, or for its `sub` and `client`. */
  readonly sender: string;
  /** As in `SignalRequest`. */
  readonly payload: string;
  /** 0: it has ended. */
  readonly ttlSeconds: number;
}

/** A signal that has not ended. */
export interface ActiveSignal extends Signal {
  /** On the monotonic clock. */
  readonly expiresAtMs: number;
}

/**
 * The signal with the time that it has left. A listener counts whole seconds from now on: rounded, it keeps no signal for
 * more than half a second too long. Null if less than half a second is left; an ended signal stays as it is.
 */
export function withTimeLeft<S extends Signal>(signal: S, leftMs: number): S | null {
  if (signal.ttlSeconds === 0) return signal;
  const ttlSeconds = Math.round(leftMs / 1000);
  if (ttlSeconds <= 0) return null;
  return ttlSeconds === signal.ttlSeconds ? signal : { ...signal, ttlSeconds };
}

/** The members that the bridge adds. No payload can set them. */
const ADDED = ['room', 'from', 'sender', 'ttlSeconds'];

/** The payload that listeners get, as JSON text. */
export function signalPayload({ payload, room, from, sender, ttlSeconds }: Signal): string {
  const added = JSON.stringify({ room, from, sender, ttlSeconds });
  return payload === '{}' ? added : `${payload.slice(0, -1)},${added.slice(1)}`;
}

/** The event with which Socket.IO clients send a signal. */
export const SIGNAL = 'signal';

/**
 * Whether an operator may declare a signal of this name (SIGNALS). It may be no name of a canonical or legacy event, and
 * none that Socket.IO clients emit for something else.
 */
export function isDeclarableSignal(name: string): boolean {
  const isTaken = [MESSAGES_UPDATED, MESSAGES_DELETED, ...Object.values(LEGACY_NAMES).flat(), SIGNAL].includes(name);
  return isDeclarableEvent(name) && !isTaken && !/^(join|leave)(-|$)/.test(name);
}

/** What a sender may give. */
const MEMBERS = ['event', 'room', 'payload', 'ttlSeconds', 'tenantId'];

export interface SignalCatalog {
  readonly names: ReadonlySet<string>;
  /**
   * Checks the object of `POST /signals` and of Socket.IO's `signal`.
   * @param alsoKnown members that the caller checks itself
   * @throws {BridgeError} `unknown_event`, `invalid_signal`
   */
  check(input: unknown, alsoKnown?: readonly string[]): SignalRequest;
  /**
   * Checks the payload that came under the signal's own name: its ids name the room.
   * @throws {BridgeError} `invalid_signal`
   */
  checkPayload(event: string, payload: unknown): SignalRequest;
}

/**
 * @param declared the names of SIGNALS
 * @param kinds all room kinds of the bridge
 */
export function createSignalCatalog(declared: readonly string[], kinds: readonly RoomKind[]): SignalCatalog {
  const names = new Set(declared);
  const declaredKinds = kinds.filter((kind) => !(BUILT_IN_KINDS as readonly RoomKind[]).includes(kind));
  /** In the order in which the ids of a payload name its room (protocol §14). */
  const kindsOfPayload = ['ticket', ...declaredKinds, 'agreement', 'user'];
  const idFields = kindsOfPayload.map(idField).join(', ');

  return {
    names,
    check(input, alsoKnown = []) {
      if (names.size === 0)
        throw new BridgeError('unknown_event', 'This bridge has no signals. Declare them in SIGNALS.');
      if (!isObject(input))
        throw invalidSignal('', 'must be a JSON object, such as { "event": "…", "room": "ticket:123" }');
      const { event, room, payload = {}, ttlSeconds = DEFAULT_TTL_SECONDS, tenantId = null } = input;
      if (typeof event !== 'string') throw invalidSignal('/event', 'is required and must be the name of a signal');
      if (!names.has(event)) throw unknownSignal(event, names);
      const errors: FieldError[] = [];
      const members = [...MEMBERS, ...alsoKnown];
      const note = (path: string, message: string | null): void => {
        if (message !== null) errors.push({ in: 'body', path, message });
      };
      for (const name of Object.keys(input))
        if (!members.includes(name)) note(pointerOf(name), unknownMember(name, members));
      note('/room', faultOfRoom(room, kinds));
      note('/tenantId', faultOfTenant(tenantId));
      if (!isTtl(ttlSeconds))
        note('/ttlSeconds', `must be a whole number from 0 to ${MAX_TTL_SECONDS}; 0 ends the signal`);
      const { text, fault } = checked(payload);
      note('/payload', fault);
      const [first, ...rest] = errors;
      if (first !== undefined) throw fieldsError('invalid_signal', [first, ...rest.slice(0, MAX_FAULTS)]);
      return {
        ...{ event, room: room as Room, tenantId: toId(tenantId) },
        ...{ payload: text, ttlSeconds: ttlSeconds as number },
      };
    },
    checkPayload(event, payload) {
      const { text, fault } = checked(payload);
      if (fault !== null || !isObject(payload)) throw invalidSignal('', fault ?? A_PAYLOAD);
      const kind = kindsOfPayload.find((name) => isPresent(payload[idField(name)]));
      if (kind === undefined) throw invalidSignal('', `must hold the id of a room: one of ${idFields}`);
      const id = toId(payload[idField(kind)]);
      if (id === null) throw invalidSignal(pointerOf(idField(kind)), `must be ${JSON_ID_RULE}`);
      const tenantId = isPresent(payload.tenantId) ? payload.tenantId : null;
      const faultOfId = faultOfTenant(tenantId);
      if (faultOfId !== null) throw invalidSignal('/tenantId', faultOfId);
      return {
        ...{ event, room: formatRoom(kind, id), tenantId: toId(tenantId) },
        ...{ payload: text, ttlSeconds: DEFAULT_TTL_SECONDS },
      };
    },
  };
}

/** Faults that one answer lists, beside the first. */
const MAX_FAULTS = 20;

const A_PAYLOAD = `must be a JSON object of at most ${MAX_SIGNAL_BYTES} bytes`;

/** @param path a JSON Pointer into the signal */
export const invalidSignal = (path: string, message: string): BridgeError =>
  fieldsError('invalid_signal', [{ in: 'body', path, message }]);

function unknownSignal(event: string, names: ReadonlySet<string>): BridgeError {
  const near = nearest(event, names);
  const hint = near === null ? `SIGNALS declares ${[...names].join(', ')}.` : `Did you mean "${near}"?`;
  return new BridgeError('unknown_event', `No signal has the name ${quotedName(event)}. ${hint}`, {
    errors: [{ in: 'body', path: '/event', message: `must be a signal that SIGNALS declares` }],
  });
}

function unknownMember(name: string, members: readonly string[]): string {
  const near = nearest(name, members);
  return `must be absent; ${near === null ? `the members are ${members.join(', ')}` : `did you mean ${near}?`}`;
}

const isPresent = (id: unknown): boolean => id !== undefined && id !== null && id !== '';

function faultOfTenant(tenantId: unknown): string | null {
  if (tenantId === null) return null;
  const id = toId(tenantId);
  return id === null ? `must be ${JSON_ID_RULE}` : faultOfId('tenant', id);
}

const isTtl = (value: unknown): boolean =>
  Number.isInteger(value) && (value as number) >= 0 && (value as number) <= MAX_TTL_SECONDS;

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The payload's text without the members that the bridge adds, and what is wrong with the payload. */
function checked(payload: unknown): { readonly text: string; readonly fault: string | null } {
  if (!isObject(payload)) return { text: '', fault: A_PAYLOAD };
  const whole = serialise(payload);
  if (whole === null) return { text: '', fault: `${A_PAYLOAD}, with at most ${MAX_DEPTH} levels of nesting` };
  const bytes = byteLength(whole);
  if (bytes > MAX_SIGNAL_BYTES) return { text: '', fault: `${A_PAYLOAD}, but has ${bytes}` };
  if (!ADDED.some((name) => Object.hasOwn(payload, name))) return { text: whole, fault: null };
  const own = Object.entries(payload).filter(([name]) => !ADDED.includes(name));
  return { text: JSON.stringify(Object.fromEntries(own)), fault: null };
}

const utf8 = new TextEncoder();
const byteLength = (text: string): number => utf8.encode(text).length;
