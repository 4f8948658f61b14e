/** Test events: which names the bridge accepts, a valid payload for each, and how to publish one. */
import type { MessageStatus } from '../../client/events.ts';
import { idField } from '../../contract/rooms.ts';
import { createSamples } from '../../contract/samples.ts';
import { type Access, ROOM_KINDS } from './access.ts';
import { goTo } from './route.ts';

export type Payload = Readonly<Record<string, unknown>>;

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
export interface FormField {
  readonly name: string;
  readonly isRequired: boolean;
  /** A JSON object rather than a string. */
  readonly isObject?: boolean;
  /** The values to choose from. */
  readonly options?: readonly string[];
  /** Whether each event needs a new value. */
  readonly isFresh?: boolean;
}

const required = (name: string): FormField => ({ name, isRequired: true });
const optional = (name: string): FormField => ({ name, isRequired: false });
const fresh = (name: string): FormField => ({ name, isRequired: true, isFresh: true });
const object = (name: string): FormField => ({ name, isRequired: true, isObject: true });

const KIND_IDS = ROOM_KINDS.map((kind) => optional(idField(kind)));
const IDS: readonly FormField[] = [required('tenantId'), required('ticketId'), optional('agreementId'), ...KIND_IDS];
const ENVELOPE: readonly FormField[] = [...IDS, required('ticketStatus'), fresh('ticketUpdatedAt')];
const CHANGE: readonly FormField[] = [...IDS, fresh('messageId'), fresh('messageUpdatedAt')];
const STATUSES: readonly MessageStatus[] = ['queued', 'sent', 'delivered', 'read', 'played', 'failed'];

const FIELDS: Readonly<Record<string, readonly FormField[]>> = {
  [TICKETS_UPDATED]: [...ENVELOPE, object('ticket')],
  // The bridge drops a second message with the same id as a duplicate.
  [MESSAGES_NEW]: [...ENVELOPE, fresh('messageId'), object('message')],
  [MESSAGES_UPDATED]: [...CHANGE, { ...optional('messageStatus'), options: STATUSES }, object('message')],
  [MESSAGES_DELETED]: CHANGE,
};

const DECLARED_EVENT: readonly FormField[] = [
  required('tenantId'),
  optional('ticketId'),
  optional('agreementId'),
  optional('userId'),
  ...KIND_IDS,
];

export const fieldsOf = (event: string): readonly FormField[] => FIELDS[event] ?? DECLARED_EVENT;

const samples = createSamples({ tenantId: 'console', ticketId: 'test-ticket' });
/** The message that was published last from here. A change of a message means this one by default. */
let lastMessage: Payload | null = null;

/** A realistic payload of the event, new each time. */
export function sampleOf(event: string): Payload {
  const sample = samples.next(event);
  if (lastMessage === null || (event !== MESSAGES_UPDATED && event !== MESSAGES_DELETED)) return sample;
  const { ticketId, messageId, providerMessageId, message } = lastMessage;
  const ids = { ...sample, ticketId, messageId, providerMessageId };
  return event === MESSAGES_DELETED ? ids : { ...ids, message };
}

/** An event to start the form with, such as one of the log. */
export interface Draft {
  readonly event: string;
  readonly payload: Payload;
  /** If the event is to go to other rooms than those of its ids. */
  readonly rooms?: readonly string[];
}

let draft: Draft | null = null;

/** Opens the view Publish with this event in its form. What must be new in each event is new. */
export function openInPublish(opened: Draft): void {
  draft = opened;
  goTo('publish');
}

/** The event that the form shall start with, once. */
export function takeDraft(): Draft | null {
  const taken = draft;
  draft = null;
  return taken;
}

/** A valid payload of `tickets.updated` whose text shows whether the bytes survive. */
export function sampleTicket(ids: Readonly<Record<string, string>>, number: number): Record<string, unknown> {
  return {
    ...ids,
    ticketStatus: 'OPEN',
    ticketUpdatedAt: new Date().toISOString(),
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
  readonly payload: Payload;
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
  if (event.event === MESSAGES_NEW) lastMessage = event.payload;
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
