/**
 * Which events can be published, what their payloads must contain, and to which rooms they go (protocol §2, §3).
 *
 * The schemas only check. Their output is never sent, because it would drop or reorder keys: the payload on the wire is
 * `JSON.stringify` of the publisher's parsed body.
 */
import { z } from 'zod';
import { type FieldError, pointerOf } from './errors.ts';
import { formatRoom, ID_FIELDS, ID_RULE, isRoomId, ROOM_KINDS, type Room } from './rooms.ts';

export const TICKETS_UPDATED = 'tickets.updated';
export const MESSAGES_NEW = 'messages.new';

/** The aliases that go out before a canonical event, in this order (protocol §4). */
export const LEGACY_NAMES: Readonly<Record<string, readonly string[]>> = {
  [TICKETS_UPDATED]: ['ticket.updated'],
  [MESSAGES_NEW]: ['ticket.message', 'ticket.message.created', 'message:created'],
};

/** The payload member whose fields a legacy payload also has at the top level (protocol §4). */
export const LEGACY_ENTITY: Readonly<Record<string, string>> = {
  [TICKETS_UPDATED]: 'ticket',
  [MESSAGES_NEW]: 'message',
};

/** The message for a member that is missing or has the wrong type. */
const must = (rule: string) => ({
  error: ({ input }: { readonly input?: unknown }) => (input === undefined ? `is required and ${rule}` : rule),
});
const A_STRING = must('must be a string');
const AN_OBJECT = must('must be a JSON object');
const roomId = z.string(A_STRING).refine(isRoomId, `must be ${ID_RULE}`);
const optionalRoomId = z
  .string('must be a string or null')
  .refine((id) => id === '' || isRoomId(id), `must be empty, null or ${ID_RULE}`)
  .nullish();
const optionalString = z.string('must be a string or null').nullish();
const object = z.record(z.string(), z.unknown(), AN_OBJECT);

const envelope = {
  tenantId: roomId.meta({ example: 'tenant-1' }),
  ticketId: roomId.meta({ example: 'ticket-123' }),
  ticketStatus: z
    .string(A_STRING)
    .min(1, 'must be a non-empty string')
    .meta({ description: 'Any non-empty string.', example: 'OPEN' }),
  ticketUpdatedAt: z.iso
    .datetime({ offset: true, ...must('must be an ISO 8601 instant, such as 2024-06-01T12:00:00.000Z') })
    .meta({ description: 'When the ticket last changed: an ISO 8601 instant.', example: '2024-06-01T12:00:00.000Z' }),
  agreementId: optionalRoomId,
  instanceId: optionalString,
  messageId: optionalString,
  providerMessageId: optionalString,
};

export const ticketsUpdatedSchema = z.looseObject({ ...envelope, ticket: object }, AN_OBJECT);

export const messagesNewSchema = z
  .looseObject({ ...envelope, message: object }, AN_OBJECT)
  .refine((payload) => Boolean(payload.messageId) || Boolean(payload.providerMessageId), {
    path: ['messageId'],
    message: 'or providerMessageId must be a non-empty string',
  });

/** Events that the operator declares (EXTRA_EVENTS): only the ids of rooms are checked. */
export const declaredEventSchema = z.looseObject(
  { tenantId: roomId, ticketId: optionalRoomId, agreementId: optionalRoomId, userId: optionalRoomId },
  AN_OBJECT,
);

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
  ...Object.keys(LEGACY_NAMES),
  ...Object.values(LEGACY_NAMES).flat(),
]);

export function isDeclarableEvent(name: string): boolean {
  return EVENT_NAME.test(name) && !RESERVED.has(name) && !name.startsWith('bridge.') && !(name in {});
}

/** The fields of a payload that the state routes (protocol §7) and deduplication (protocol §9) use. */
export interface TicketFacts {
  readonly ticketId: string;
  readonly agreementId: string | null;
  readonly status: string;
  /** An {@link instantKey}. */
  readonly updatedAt: string;
}

export interface MessageFacts {
  readonly ticketId: string;
  readonly messageId: string | null;
  readonly providerMessageId: string | null;
}

/** An event that passed the checks, ready for the log. `payload` is JSON text. */
export interface CheckedEvent {
  readonly event: string;
  readonly tenantId: string;
  readonly rooms: readonly Room[];
  readonly payload: string;
  readonly ticket: TicketFacts | null;
  readonly message: MessageFacts | null;
}

export type CheckResult =
  | { readonly kind: 'ok'; readonly event: CheckedEvent }
  | { readonly kind: 'unknown_event' }
  | { readonly kind: 'invalid_payload'; readonly errors: readonly FieldError[] };

/** Every event name that can be published: canonical and declared ones. */
export const publishedNames = (extraEvents: readonly string[]): string[] => [
  TICKETS_UPDATED,
  MESSAGES_NEW,
  ...extraEvents,
];

export interface EventCatalog {
  /** Every event name that can be published. */
  readonly names: readonly string[];
  check(event: string, payload: unknown): CheckResult;
}

/** @param extraEvents names that the operator declares; each must satisfy {@link isDeclarableEvent} */
export function createEventCatalog(extraEvents: readonly string[] = []): EventCatalog {
  const schemas = new Map<string, z.ZodType>([
    [TICKETS_UPDATED, ticketsUpdatedSchema],
    [MESSAGES_NEW, messagesNewSchema],
    ...extraEvents.map((name) => [name, declaredEventSchema] as const),
  ]);
  return {
    names: [...schemas.keys()],
    check(event, payload) {
      const schema = schemas.get(event);
      if (schema === undefined) return { kind: 'unknown_event' };
      const checked = schema.safeParse(payload);
      if (!checked.success) return { kind: 'invalid_payload', errors: fieldErrors(checked.error) };
      const envelope = payload as Readonly<Record<string, unknown>>;
      const text = serialise(payload);
      if (text === null) {
        const message = `must be JSON with at most ${MAX_DEPTH} levels of nesting`;
        return { kind: 'invalid_payload', errors: [{ in: 'body', path: '', message }] };
      }
      return {
        kind: 'ok',
        event: {
          event,
          tenantId: envelope.tenantId as string,
          rooms: roomsOf(event, envelope),
          payload: text,
          ticket: event === TICKETS_UPDATED ? ticketFacts(envelope) : null,
          message: event === MESSAGES_NEW ? messageFacts(envelope) : null,
        },
      };
    },
  };
}

/** JSON.stringify recurses, here and in the consumers: a payload that one stack can hold may overflow another. */
const MAX_DEPTH = 1000;

/** The payload text on the wire; null if the value is not JSON (in-process only: a cycle, a BigInt) or too deep. */
function serialise(payload: unknown): string | null {
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
    path: pointerOf(...issue.path),
    message: issue.message,
  }));
}

function roomsOf(event: string, payload: Readonly<Record<string, unknown>>): Room[] {
  // Canonical events have no user room: there, `userId` is an ordinary extra key.
  const kinds = event in LEGACY_NAMES ? (['tenant', 'ticket', 'agreement'] as const) : ROOM_KINDS;
  const rooms: Room[] = [];
  for (const kind of kinds) {
    const id = payload[ID_FIELDS[kind]];
    if (typeof id === 'string' && id !== '') rooms.push(formatRoom(kind, id));
  }
  return rooms;
}

function ticketFacts(payload: Readonly<Record<string, unknown>>): TicketFacts {
  return {
    ticketId: payload.ticketId as string,
    agreementId: (payload.agreementId as string | null | undefined) || null,
    status: payload.ticketStatus as string,
    updatedAt: instantKey(payload.ticketUpdatedAt as string),
  };
}

function messageFacts(payload: Readonly<Record<string, unknown>>): MessageFacts {
  return {
    ticketId: payload.ticketId as string,
    messageId: (payload.messageId as string | null | undefined) || null,
    providerMessageId: (payload.providerMessageId as string | null | undefined) || null,
  };
}

/** 0001-01-01 is about 62 billion seconds before 1970: the sum is positive for every four-digit year. */
const SECONDS_OFFSET = 70_000_000_000;

/**
 * A key that sorts as a byte string in the order of instants, with the full precision of the text: seconds since 1970
 * (shifted to be positive, 12 digits), a dot, and the fraction without trailing zeros.
 * @throws {RangeError} if the text is not an ISO 8601 instant
 */
export function instantKey(text: string): string {
  const match = /^(.*?)(?:[.,](\d+))?(Z|[+-]\d\d:?\d\d)$/i.exec(text);
  const milliseconds = match === null ? Number.NaN : Date.parse(`${match[1]}${match[3]}`);
  if (Number.isNaN(milliseconds)) throw new RangeError(`not an ISO 8601 instant: ${text}`);
  const seconds = (milliseconds / 1000 + SECONDS_OFFSET).toString().padStart(12, '0');
  return `${seconds}.${(match?.[2] ?? '').replace(/0+$/, '')}`;
}
