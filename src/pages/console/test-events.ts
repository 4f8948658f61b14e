/** Test events: which names the bridge accepts, a valid payload for each, and how to publish one. */
import type { MessageStatus } from '../../client/events.ts';
import { idField } from '../../contract/rooms.ts';
import { type Access, ROOM_KINDS } from './access.ts';

export const TICKETS_UPDATED = 'tickets.updated';
export const MESSAGES_NEW = 'messages.new';
export const MESSAGES_UPDATED = 'messages.updated';
export const MESSAGES_DELETED = 'messages.deleted';
export const CANONICAL = [TICKETS_UPDATED, MESSAGES_NEW, MESSAGES_UPDATED, MESSAGES_DELETED] as const;

/** The answer of `POST /events`. */
export interface Published {
  readonly id: string;
  readonly event: string;
  readonly rooms: readonly string[];
  readonly duplicate: boolean;
}

/** One input of the form: a key of the payload. */
export interface Field {
  readonly name: string;
  readonly isRequired: boolean;
  /** A JSON object rather than a string. */
  readonly isObject?: boolean;
  /** The values to choose from. */
  readonly options?: readonly string[];
  /** Whether each event starts with a new value. */
  readonly isFresh?: boolean;
  readonly initial: () => string;
}

let messages = 0;
/** The message that a change means by default. */
let lastMessageId = '';
const newMessageId = (): string => `message-${Date.now().toString(36)}-${++messages}`;
const now = (): string => new Date().toISOString();
const required = (name: string, initial: () => string): Field => ({ name, isRequired: true, initial });
const optional = (name: string): Field => ({ name, isRequired: false, initial: () => '' });
const fresh = (name: string, initial: () => string): Field => ({ ...required(name, initial), isFresh: true });
const object = (name: string, initial: string): Field => ({ ...required(name, () => initial), isObject: true });

const KIND_IDS = ROOM_KINDS.map((kind) => optional(idField(kind)));
const IDS: readonly Field[] = [
  required('tenantId', () => 'console'),
  required('ticketId', () => 'test-ticket'),
  optional('agreementId'),
  ...KIND_IDS,
];
const ENVELOPE: readonly Field[] = [...IDS, required('ticketStatus', () => 'OPEN'), fresh('ticketUpdatedAt', now)];
const CHANGE: readonly Field[] = [...IDS, fresh('messageId', () => lastMessageId), fresh('messageUpdatedAt', now)];
const STATUSES: readonly MessageStatus[] = ['queued', 'sent', 'delivered', 'read', 'played', 'failed'];

const FIELDS: Readonly<Record<string, readonly Field[]>> = {
  [TICKETS_UPDATED]: [...ENVELOPE, object('ticket', '{ "subject": "A test from the console" }')],
  // The bridge drops a second message with the same id as a duplicate.
  [MESSAGES_NEW]: [
    ...ENVELOPE,
    fresh('messageId', newMessageId),
    object('message', '{ "content": "A test from the console" }'),
  ],
  [MESSAGES_UPDATED]: [
    ...CHANGE,
    { ...optional('messageStatus'), options: STATUSES },
    object('message', '{ "content": "A test from the console" }'),
  ],
  [MESSAGES_DELETED]: CHANGE,
};

const DECLARED_EVENT: readonly Field[] = [
  required('tenantId', () => 'console'),
  optional('ticketId'),
  optional('agreementId'),
  optional('userId'),
  ...KIND_IDS,
];

export const fieldsOf = (event: string): readonly Field[] => FIELDS[event] ?? DECLARED_EVENT;

/** A valid payload of `tickets.updated` whose text shows whether the bytes survive. */
export function sampleTicket(ids: Readonly<Record<string, string>>, number: number): Record<string, unknown> {
  return {
    ...ids,
    ticketStatus: 'OPEN',
    ticketUpdatedAt: now(),
    ticket: {
      number,
      subject: 'Olá, 世界 \u2028 <b>&amp;',
      price: 0.1 + 0.2,
      nested: { 10: 'a', 9: 'b', list: [null, true, -0.5e-7] },
    },
  };
}

/** What `POST /events` takes (protocol §9). */
export interface TestEvent {
  readonly event: string;
  readonly payload: Readonly<Record<string, unknown>>;
  readonly tenantId?: string;
  readonly rooms?: readonly string[];
}

/** @throws {RoomcastError} */
export async function publish(access: Access, event: TestEvent, signal?: AbortSignal): Promise<Published> {
  const published = await access.request<Published>('events', {
    method: 'POST',
    body: JSON.stringify(event),
    headers: { 'content-type': 'application/json' },
    ...(signal && { signal }),
  });
  if (event.event === MESSAGES_NEW) lastMessageId = String(event.payload.messageId);
  return published;
}

interface OpenApi {
  readonly components: {
    readonly schemas: {
      readonly PublishOne: {
        readonly oneOf: readonly { properties: { event: { const?: string; enum?: string[] } } }[];
      };
    };
  };
}

/** The event names that the bridge accepts, from its own API description. */
export async function readEventNames(access: Access): Promise<string[]> {
  const { components } = await access.request<OpenApi>('openapi.json');
  return components.schemas.PublishOne.oneOf.flatMap(({ properties: { event } }) => event.enum ?? event.const ?? []);
}
