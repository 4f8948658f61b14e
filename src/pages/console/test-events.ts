/** Test events: which names the bridge accepts, a valid payload for each, and how to publish one. */
import type { Access } from './access.ts';

export const TICKETS_UPDATED = 'tickets.updated';
export const MESSAGES_NEW = 'messages.new';

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
  readonly initial: () => string;
}

let messages = 0;
const newMessageId = (): string => `message-${Date.now().toString(36)}-${++messages}`;
const now = (): string => new Date().toISOString();
const required = (name: string, initial: () => string): Field => ({ name, isRequired: true, initial });
const optional = (name: string): Field => ({ name, isRequired: false, initial: () => '' });
const object = (name: string, initial: string): Field => ({ ...required(name, () => initial), isObject: true });

const ENVELOPE: readonly Field[] = [
  required('tenantId', () => 'console'),
  required('ticketId', () => 'test-ticket'),
  optional('agreementId'),
  required('ticketStatus', () => 'OPEN'),
  required('ticketUpdatedAt', now),
];

const FIELDS: Readonly<Record<string, readonly Field[]>> = {
  [TICKETS_UPDATED]: [...ENVELOPE, object('ticket', '{ "subject": "A test from the console" }')],
  // The bridge drops a second message with the same id as a duplicate.
  [MESSAGES_NEW]: [
    ...ENVELOPE,
    required('messageId', newMessageId),
    object('message', '{ "content": "A test from the console" }'),
  ],
};

const DECLARED_EVENT: readonly Field[] = [
  required('tenantId', () => 'console'),
  optional('ticketId'),
  optional('agreementId'),
  optional('userId'),
];

export const fieldsOf = (event: string): readonly Field[] => FIELDS[event] ?? DECLARED_EVENT;

/** A valid payload of `tickets.updated` whose text shows whether the bytes survive. */
export function sampleTicket(ids: Readonly<Record<string, string>>, number: number): object {
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

/** @throws {RoomcastError} */
export function publish(access: Access, event: string, payload: unknown, signal?: AbortSignal): Promise<Published> {
  return access.request('events', {
    method: 'POST',
    body: JSON.stringify({ event, payload }),
    headers: { 'content-type': 'application/json' },
    ...(signal && { signal }),
  });
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
