/**
 * What the log derives from a payload: the ticket and the message to which an event belongs, for the state routes
 * (protocol §7) and for deduplication (protocol §9). Without the schemas, so that the threads of a log need not load them.
 */
import { quickInstantKey } from './instants.ts';
import { toId } from './rooms.ts';

export const TICKETS_UPDATED = 'tickets.updated';
export const MESSAGES_NEW = 'messages.new';
export const MESSAGES_UPDATED = 'messages.updated';
export const MESSAGES_DELETED = 'messages.deleted';

/** The delivery of a message, lowest first: of two changes at one instant, the higher status stands (protocol §7). */
export const MESSAGE_STATUSES = ['failed', 'queued', 'sent', 'delivered', 'read', 'played'] as const;

export interface TicketFacts {
  readonly agreementId: string | null;
  readonly status: string;
  /** An `instantKey`. */
  readonly updatedAt: string;
}

export interface MessageFacts {
  readonly change: 'new' | 'updated' | 'deleted';
  readonly messageId: string | null;
  readonly providerMessageId: string | null;
  /** Of `updated`: when the message changed, in milliseconds since 1970. Of the others 0, and unused. */
  readonly updatedAtMs: number;
  /** Of `updated`: 0 without `messageStatus`, else 1 and its place in {@link MESSAGE_STATUSES}. */
  readonly statusRank: number;
}

/** The facts of one payload. */
export interface Facts {
  /** The ticket to which the payload belongs, whatever the rooms; null if it names none. */
  readonly ticketId: string | null;
  /** Of `tickets.updated`. */
  readonly ticket: TicketFacts | null;
  /** Of `messages.new`, `messages.updated` and `messages.deleted`. */
  readonly message: MessageFacts | null;
}

type Payload = Readonly<Record<string, unknown>>;

/**
 * The facts of a payload that passed the checks, now or when the log accepted it.
 * @param isDeclared the event is one of `EXTRA_EVENTS`, whatever its name
 */
export const factsOf = (event: string, payload: Payload, isDeclared: boolean): Facts => ({
  ticketId: toId(payload.ticketId),
  ticket: event === TICKETS_UPDATED ? ticketFacts(payload) : null,
  message: isDeclared ? null : messageFacts(event, payload),
});

function ticketFacts(payload: Payload): TicketFacts {
  return {
    agreementId: toId(payload.agreementId),
    status: payload.ticketStatus as string,
    updatedAt: quickInstantKey(payload.ticketUpdatedAt as string),
  };
}

const CHANGES: Readonly<Record<string, MessageFacts['change']>> = {
  [MESSAGES_NEW]: 'new',
  [MESSAGES_UPDATED]: 'updated',
  [MESSAGES_DELETED]: 'deleted',
};

function messageFacts(event: string, payload: Payload): MessageFacts | null {
  const change = CHANGES[event];
  if (change === undefined) return null;
  const isUpdate = change === 'updated';
  return {
    change,
    messageId: textOf(payload.messageId),
    providerMessageId: textOf(payload.providerMessageId),
    updatedAtMs: isUpdate ? Date.parse(payload.messageUpdatedAt as string) : 0,
    statusRank: isUpdate ? 1 + (MESSAGE_STATUSES as readonly unknown[]).indexOf(payload.messageStatus) : 0,
  };
}

/** The id of a message, which may be any text. */
const textOf = (id: unknown): string | null => (isPresent(id) ? String(id) : null);

/** Whether a payload has this id of a message. */
export const isPresent = (id: unknown): boolean => id !== undefined && id !== null && id !== '';
