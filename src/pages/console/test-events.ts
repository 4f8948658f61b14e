/** Test events: the names that may be published, a valid payload to begin with for each, and the way in. */
import type { Http } from '../../client/http.ts';
import { PATIENCE_MS } from './access.ts';

export const TICKETS_UPDATED = 'tickets.updated';
export const MESSAGES_NEW = 'messages.new';

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
  /** What to begin with. */
  readonly first: () => string;
}

let made = 0;
const fresh = (kind: string): string => `${kind}-${Date.now().toString(36)}-${++made}`;
const now = (): string => new Date().toISOString();
const none = (): string => '';

const ENVELOPE: readonly Field[] = [
  { name: 'tenantId', isRequired: true, first: () => 'console' },
  { name: 'ticketId', isRequired: true, first: () => 'test-ticket' },
  { name: 'agreementId', isRequired: false, first: none },
  { name: 'ticketStatus', isRequired: true, first: () => 'OPEN' },
  { name: 'ticketUpdatedAt', isRequired: true, first: now },
];

const FIELDS: Readonly<Record<string, readonly Field[]>> = {
  [TICKETS_UPDATED]: [
    ...ENVELOPE,
    { name: 'ticket', isRequired: true, isObject: true, first: () => '{ "subject": "A test from the console" }' },
  ],
  [MESSAGES_NEW]: [
    ...ENVELOPE,
    // Twice the same id is a repeat, which nobody gets again.
    { name: 'messageId', isRequired: true, first: () => fresh('message') },
    { name: 'message', isRequired: true, isObject: true, first: () => '{ "content": "A test from the console" }' },
  ],
};

const DECLARED: readonly Field[] = [
  { name: 'tenantId', isRequired: true, first: () => 'console' },
  { name: 'ticketId', isRequired: false, first: none },
  { name: 'agreementId', isRequired: false, first: none },
  { name: 'userId', isRequired: false, first: none },
];

export const fieldsOf = (event: string): readonly Field[] => FIELDS[event] ?? DECLARED;

/** A valid payload of `tickets.updated` with text that shows whether bytes are kept. */
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

export function publish(http: Http, event: string, payload: unknown, signal: AbortSignal): Promise<Published> {
  const body = JSON.stringify({ event, payload });
  const headers = { 'content-type': 'application/json' };
  return http.json('events', { method: 'POST', body, headers, signal, timeoutMs: PATIENCE_MS }) as Promise<Published>;
}

/** The names that the bridge takes, as its own description says; it is open to everyone. */
export async function readEventNames(http: Http): Promise<string[]> {
  const asked = { signal: new AbortController().signal, timeoutMs: PATIENCE_MS };
  const { components } = (await http.json('openapi.json', asked)) as {
    components: {
      schemas: { PublishOne: { oneOf: { properties: { event: { const?: string; enum?: string[] } } }[] } };
    };
  };
  return components.schemas.PublishOne.oneOf.flatMap(({ properties: { event } }) => event.enum ?? event.const ?? []);
}
