/**
 * Which events can be published, what their payloads must contain, and to which rooms they go (protocol §2, §3).
 *
 * The schemas only check. Their output is never sent, because it would drop or reorder keys: the payload on the wire is
 * `JSON.stringify` of the publisher's parsed body.
 */
import { z } from 'zod';
import { type FieldError, pointerOf } from './errors.ts';
import {
  type Facts,
  factsOf,
  isPresent,
  MESSAGE_STATUSES,
  MESSAGES_DELETED,
  MESSAGES_NEW,
  MESSAGES_UPDATED,
  TICKETS_UPDATED,
} from './facts.ts';
import { CANONICAL_EVENTS } from './names.ts';
import { type IsPlain, plainPayloads } from './plain.ts';
import { MAX_NAMED_ROOMS } from './publishing.ts';
import {
  ALL_TENANTS,
  allKinds,
  faultOfRoom,
  formatRoom,
  idField,
  JSON_ID_RULE,
  kindOf,
  type Room,
  type RoomKind,
  toId,
} from './rooms.ts';

/** Names that operators could declare before they became canonical. A declared one stays a declared event (protocol §3). */
const DECLARABLE_CANONICAL: readonly string[] = [MESSAGES_UPDATED, MESSAGES_DELETED];

/** Legacy names by canonical event. */
export type Aliases = Readonly<Record<string, readonly string[]>>;

/** The aliases that go out before a canonical event, in this order (protocol §4). */
export const LEGACY_NAMES: Aliases = {
  [TICKETS_UPDATED]: ['ticket.updated'],
  [MESSAGES_NEW]: ['ticket.message', 'ticket.message.created', 'message:created'],
  [MESSAGES_UPDATED]: ['message:updated'],
};

export const NO_ALIASES: Aliases = {};

/** The aliases of a bridge: those of its canonical events, or none where `LEGACY_EVENTS` is off. */
export function aliasesOf(config: {
  readonly extraEvents: readonly string[];
  readonly legacyEvents: boolean;
}): Aliases {
  if (!config.legacyEvents) return NO_ALIASES;
  return Object.fromEntries(Object.entries(LEGACY_NAMES).filter(([name]) => !config.extraEvents.includes(name)));
}

/** The payload member whose fields a legacy payload also has at the top level (protocol §4). */
export const LEGACY_ENTITY: Readonly<Record<string, string>> = {
  [TICKETS_UPDATED]: 'ticket',
  [MESSAGES_NEW]: 'message',
  [MESSAGES_UPDATED]: 'message',
};

/** The message for a member that is missing or has the wrong type. */
const must = (rule: string) => ({
  error: ({ input }: { readonly input?: unknown }) => (input === undefined ? `is required and ${rule}` : rule),
});
const A_STRING = must('must be a string');
const AN_OBJECT = must('must be a JSON object');
const roomId = z
  .union([z.string(), z.int()], must(`must be ${JSON_ID_RULE}`))
  .refine((id) => toId(id) !== null, `must be ${JSON_ID_RULE}`);
const NO_TENANT = `must be one tenant: no tenant is named ${ALL_TENANTS}`;
const tenantId = roomId.refine((id) => id !== ALL_TENANTS, NO_TENANT);
const optionalRoomId = z
  .union([z.string(), z.int()], `must be empty, null or ${JSON_ID_RULE}`)
  .refine((id) => id === '' || toId(id) !== null, `must be empty, null or ${JSON_ID_RULE}`)
  .nullish();
const optionalString = z
  .union([z.string(), z.int()], 'must be a string, an integer within ±(2^53−1) or null')
  .nullish();
const object = z.record(z.string(), z.unknown(), AN_OBJECT);
const ANY_STATUS = { description: 'Any non-empty string.', example: 'OPEN' };
const status = z.string(A_STRING).min(1, 'must be a non-empty string');
const instant = z.iso.datetime({
  offset: true,
  ...must('must be an ISO 8601 instant, such as 2024-06-01T12:00:00.000Z'),
});
const AN_INSTANT = { example: '2024-06-01T12:00:00.000Z' };

const ticketIds = {
  tenantId: tenantId.meta({ example: 'tenant-1' }),
  ticketId: roomId.meta({ example: 'ticket-123' }),
};
const ticketFields = {
  ticketStatus: status.meta(ANY_STATUS),
  ticketUpdatedAt: instant.meta({
    description: 'When the ticket last changed: an ISO 8601 instant.',
    ...AN_INSTANT,
  }),
};
const optionalFields = {
  agreementId: optionalRoomId,
  instanceId: optionalString,
  messageId: optionalString,
  providerMessageId: optionalString,
};
const changeFields = {
  messageUpdatedAt: instant.meta({
    description: 'When the message changed, not when the change was published: an ISO 8601 instant.',
    ...AN_INSTANT,
  }),
  ticketStatus: status.nullish().meta(ANY_STATUS),
  ticketUpdatedAt: instant.nullish(),
};

const namesMessage = [
  (payload: { readonly messageId?: unknown; readonly providerMessageId?: unknown }): boolean =>
    isPresent(payload.messageId) || isPresent(payload.providerMessageId),
  { path: ['messageId'], message: 'or providerMessageId must be a non-empty string or an integer' },
] satisfies Parameters<z.ZodType<{ messageId?: unknown; providerMessageId?: unknown }>['refine']>;

/** The schemas of payloads, which have the field of each declared room kind. */
export function payloadSchemas(declaredKinds: readonly RoomKind[]) {
  const kinds = Object.fromEntries(declaredKinds.map((kind) => [idField(kind), optionalRoomId]));
  const messageStatus = z
    .enum(MESSAGE_STATUSES, `must be one of ${MESSAGE_STATUSES.join(', ')}`)
    .nullish()
    .meta({ description: 'The delivery of the message.' });
  return {
    ticketsUpdated: z.looseObject(
      { ...ticketIds, ...ticketFields, ...optionalFields, ticket: object, ...kinds },
      AN_OBJECT,
    ),
    messagesNew: z
      .looseObject({ ...ticketIds, ...ticketFields, ...optionalFields, message: object, ...kinds }, AN_OBJECT)
      .refine(...namesMessage),
    messagesUpdated: z
      .looseObject(
        { ...ticketIds, ...changeFields, ...optionalFields, message: object, messageStatus, ...kinds },
        AN_OBJECT,
      )
      .refine(...namesMessage),
    messagesDeleted: z
      .looseObject(
        {
          ...ticketIds,
          ...changeFields,
          ...optionalFields,
          messageStatus: z.null('must be absent: a deleted message has no status').optional(),
          ...kinds,
        },
        AN_OBJECT,
      )
      .refine(...namesMessage),
    /** Events that the operator declares (EXTRA_EVENTS): only the ids of rooms are checked. */
    declared: z.looseObject(
      {
        tenantId: tenantId.nullish(),
        ticketId: optionalRoomId,
        agreementId: optionalRoomId,
        userId: optionalRoomId,
        ...kinds,
      },
      AN_OBJECT,
    ),
  };
}

/**
 * The shape of a name in `EXTRA_EVENTS`. Reserved are the names that the bridge, Socket.IO and EventSource use, and those
 * that every object has (`constructor`), because event names are keys of objects, here and in clients.
 */
export const EVENT_NAME = /^[A-Za-z][A-Za-z0-9_.:-]{0,127}$/;
const RESERVED = new Set([
  'connect',
  'connect_error',
  'disconnect',
  'disconnecting',
  'newListener',
  'removeListener',
  'error',
  'open',
  'message',
  ...CANONICAL_EVENTS.filter((name) => !DECLARABLE_CANONICAL.includes(name)),
  ...Object.values(LEGACY_NAMES).flat(),
]);

export function isDeclarableEvent(name: string): boolean {
  return EVENT_NAME.test(name) && !RESERVED.has(name) && !name.startsWith('bridge.') && !(name in {});
}

/** An event that passed the checks, ready for the log. `payload` is JSON text. */
export interface CheckedEvent extends Facts {
  readonly event: string;
  readonly tenantId: string;
  readonly rooms: readonly Room[];
  /** The publisher named the rooms. If not, a change of a known message goes to the rooms of that message (protocol §7). */
  readonly roomsAreNamed: boolean;
  readonly payload: string;
}

/** What a publisher may say beside an event and its payload (protocol §9). Null counts as absent. */
export interface Audience {
  readonly tenantId?: unknown;
  readonly rooms?: unknown;
}

/** Paths of errors begin at the members `payload`, `tenantId` and `rooms`. */
export type CheckResult =
  | { readonly kind: 'ok'; readonly event: CheckedEvent }
  | { readonly kind: 'unknown_event' }
  | { readonly kind: 'invalid_payload' | 'invalid_body'; readonly errors: readonly FieldError[] };

/** Every event name that can be published: canonical and declared ones. */
export const publishedNames = (extraEvents: readonly string[]): string[] => [
  ...CANONICAL_EVENTS.filter((name) => !extraEvents.includes(name)),
  ...extraEvents,
];

export interface EventCatalog {
  /** Every event name that can be published. */
  readonly names: readonly string[];
  check(event: string, payload: unknown, audience?: Audience): CheckResult;
}

/**
 * @param extraEvents names that the operator declares; each must satisfy {@link isDeclarableEvent}
 * @param roomKinds kinds that the operator declares
 */
export function createEventCatalog(
  extraEvents: readonly string[] = [],
  roomKinds: readonly RoomKind[] = [],
): EventCatalog {
  const payloads = payloadSchemas(roomKinds);
  const plain = plainPayloads(roomKinds);
  const checks = new Map<string, readonly [z.ZodType, IsPlain]>([
    [TICKETS_UPDATED, [payloads.ticketsUpdated, plain.ticketsUpdated]],
    [MESSAGES_NEW, [payloads.messagesNew, plain.messagesNew]],
    [MESSAGES_UPDATED, [payloads.messagesUpdated, plain.messagesUpdated]],
    [MESSAGES_DELETED, [payloads.messagesDeleted, plain.messagesDeleted]],
    ...extraEvents.map((name) => [name, [payloads.declared, plain.declared]] as const),
  ]);
  const kinds = allKinds(roomKinds);
  const fields = fieldsOf(kinds);
  // Canonical events have no user room: there, `userId` is an ordinary extra key.
  const canonicalFields = fields.filter(({ kind }) => kind !== 'user');

  return {
    names: publishedNames(extraEvents),
    check(event, payload, { tenantId = null, rooms = null } = {}) {
      const check = checks.get(event);
      if (check === undefined) return { kind: 'unknown_event' };
      const [schema, isPlain] = check;
      const isDeclared = schema === payloads.declared;
      const checked = isPlain(payload) ? VALID : schema.safeParse(payload);
      const envelope = (checked.success ? payload : payloadOf(payload)) as Payload;
      const errors: FieldError[] = checked.success ? [] : fieldErrors(checked.error);
      const ownTenant = toId(envelope.tenantId);
      const tenant = ownTenant ?? toId(tenantId);
      const fault = checked.success || tenantId !== null ? faultOfTenant(ownTenant, tenantId) : null;
      if (fault !== null) errors.push(fault);
      if (rooms !== null) errors.push(...faultsOfRooms(rooms, tenant, kinds));
      if (tenant === null || errors.length > 0) {
        const isOfPayload = errors.some(({ path }) => path.startsWith('/payload'));
        return { kind: isOfPayload ? 'invalid_payload' : 'invalid_body', errors };
      }
      const text = serialise(payload);
      if (text === null) {
        const message = `must be JSON with at most ${MAX_DEPTH} levels of nesting`;
        return { kind: 'invalid_payload', errors: [{ in: 'body', path: '/payload', message }] };
      }
      const { ticketId, ticket, message } = factsOf(event, envelope, isDeclared);
      return {
        kind: 'ok',
        event: {
          event,
          tenantId: tenant,
          rooms:
            rooms === null
              ? roomsOf(envelope, tenant, isDeclared ? fields : canonicalFields)
              : [...new Set(rooms as Room[])],
          roomsAreNamed: rooms !== null,
          payload: text,
          ticketId,
          ticket,
          message,
        },
      };
    },
  };
}

const VALID = { success: true } as const;

type Payload = Readonly<Record<string, unknown>>;

/** For the faults beside a payload that has faults itself. */
const payloadOf = (payload: unknown): Payload =>
  typeof payload === 'object' && payload !== null ? (payload as Payload) : {};

/**
 * The tenant of an event is that of the payload, else the one beside it. If both are there, they must agree.
 * @param own of the payload; null if it names none
 */
function faultOfTenant(own: string | null, beside: unknown): FieldError | null {
  if (beside === null) {
    if (own !== null) return null;
    const message = `is required and must be ${JSON_ID_RULE}, here or beside the payload`;
    return { in: 'body', path: '/payload/tenantId', message };
  }
  const named = toId(beside);
  const at = (message: string): FieldError => ({ in: 'body', path: '/tenantId', message });
  if (named === null) return at(`must be ${JSON_ID_RULE}`);
  if (named === ALL_TENANTS) return at(NO_TENANT);
  return own !== null && own !== named ? at('must be the tenantId of the payload') : null;
}

/** @param tenantId null if it is not known, because it has a fault itself */
function faultsOfRooms(rooms: unknown, tenantId: string | null, kinds: readonly RoomKind[]): FieldError[] {
  if (!Array.isArray(rooms)) {
    return [{ in: 'body', path: '/rooms', message: 'must be an array of rooms, such as ["ticket:123"]' }];
  }
  const distinct = new Set<unknown>(rooms);
  if (distinct.size < 1 || distinct.size > MAX_NAMED_ROOMS) {
    return [
      { in: 'body', path: '/rooms', message: `must have 1 to ${MAX_NAMED_ROOMS} rooms, but has ${distinct.size}` },
    ];
  }
  const own = tenantId === null ? null : formatRoom('tenant', tenantId);
  return [...distinct].flatMap((room): FieldError[] => {
    const isForeign = own !== null && kindOf(String(room) as Room) === 'tenant' && room !== own;
    const fault = faultOfRoom(room, kinds) ?? (isForeign ? `must be of the event's tenant, which is ${own}` : null);
    return fault === null ? [] : [{ in: 'body', path: `/rooms/${rooms.indexOf(room)}`, message: fault }];
  });
}

/** Levels of nesting. JSON.stringify recurses, here and in the consumers: a payload that one stack can hold may overflow another. */
export const MAX_DEPTH = 1000;

/** The payload text on the wire; null if the value is not JSON (in-process only: a cycle, a BigInt) or too deep. */
export function serialise(payload: unknown): string | null {
  try {
    const text = JSON.stringify(payload);
    return isTooDeep(text) ? null : text;
  } catch (error) {
    if (error instanceof RangeError || error instanceof TypeError) return null;
    throw error;
  }
}

const [QUOTE, BACKSLASH] = [0x22, 0x5c];

/** Counts brackets outside strings. A short text cannot be too deep, so it is not scanned. */
function isTooDeep(text: string): boolean {
  if (text.length <= 2 * MAX_DEPTH) return false;
  let depth = 0;
  let quoted = false;
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    if (quoted) {
      if (code === BACKSLASH) index++;
      else if (code === QUOTE) quoted = false;
    } else if (code === QUOTE) {
      quoted = true;
    } else if (code === 0x5b || code === 0x7b) {
      if (++depth > MAX_DEPTH) return true;
    } else if (code === 0x5d || code === 0x7d) {
      depth--;
    }
  }
  return false;
}

function fieldErrors(error: z.ZodError): FieldError[] {
  return error.issues.map((issue) => ({
    in: 'body',
    path: pointerOf('payload', ...issue.path),
    message: issue.message,
  }));
}

/** A field that may name a room beside that of the tenant. */
interface RoomField {
  readonly kind: RoomKind;
  readonly field: string;
}

const fieldsOf = (kinds: readonly RoomKind[]): readonly RoomField[] =>
  kinds.filter((kind) => kind !== 'tenant').map((kind) => ({ kind, field: idField(kind) }));

/** @param tenantId of the payload, or given beside it */
function roomsOf(payload: Payload, tenantId: string, fields: readonly RoomField[]): Room[] {
  const rooms = [formatRoom('tenant', tenantId)];
  for (const { kind, field } of fields) {
    const id = toId(payload[field]);
    if (id !== null) rooms.push(formatRoom(kind, id));
  }
  return rooms;
}
