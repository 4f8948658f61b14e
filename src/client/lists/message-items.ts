/**
 * The messages of a ticket in the order of the log: the newest payload of each, without those that were deleted, by the
 * rules of protocol §7. Changes may arrive late, repeated, in any order, and before their message.
 */
import type { MessageStatus, MessagesNew, MessagesUpdated } from '../events.ts';
import { messageIdsOf, type Payload } from '../stream.ts';
import type { Items } from './live-list.ts';

type MessagePayload = MessagesNew | MessagesUpdated;

interface Message {
  /** Null while only its deletion is known. */
  payload: MessagePayload | null;
  /** When it changed, in milliseconds; a new message is older than any change. */
  changedAtMs: number;
  /** The place of its status. */
  rank: number;
  /** Where in the log `payload` was published, or the position of the state that has it. */
  cursor: string;
  /** Where in the log its `messages.new` is, if that arrived as an event. */
  publishedAt: string;
  isDeleted: boolean;
  /** Whether its `messages.new` is in the log. */
  isListed: boolean;
  /** Which ids it is known by. */
  readonly idNames: Set<string>;
  /** Whether it may have another one: the state has the newest payload, and a change needs to name one id only. */
  mayHaveOthers: boolean;
}

/** Lowest first. */
export const STATUSES: readonly MessageStatus[] = ['failed', 'queued', 'sent', 'delivered', 'read', 'played'];

const NEW = { changedAtMs: Number.NEGATIVE_INFINITY, rank: -1 } as const;

export function createMessageItems(): Items<MessagePayload> {
  /** Each message by its ids. */
  const messages = new Map<string, Message>();
  /** Of pages, the newest page last; then those that arrived as events. */
  let older: Message[] = [];
  let newer: Message[] = [];

  /** The message with its `messageId`, else the one with its `providerMessageId`. Its ids name it from then on. */
  function find(payload: Payload): Message {
    const keys = keysOf(payload);
    const known = keys.map(([, key]) => messages.get(key));
    const message = known.find((one) => one !== undefined) ?? {
      payload: null,
      ...NEW,
      cursor: '',
      publishedAt: '',
      isDeleted: false,
      isListed: false,
      idNames: new Set<string>(),
      mayHaveOthers: false,
    };
    for (const [idName, key] of keys) {
      if (!messages.has(key)) messages.set(key, message);
      if (messages.get(key) === message) message.idNames.add(idName);
    }
    return message;
  }

  /** Changes that arrived first may each know one of the message's ids. */
  function findPublished(payload: Payload): Message {
    const message = find(payload);
    for (const [idName, key] of keysOf(payload)) {
      const other = messages.get(key);
      if (other === undefined || other === message || other.isListed) continue;
      messages.set(key, message);
      message.idNames.add(idName);
      message.isDeleted ||= other.isDeleted;
      if (other.payload !== null) change(message, other.payload, other.cursor);
    }
    return message;
  }

  function change(message: Message, payload: MessagePayload, cursor: string): void {
    const { changedAtMs, rank } = versionOf(payload);
    const isNewer =
      changedAtMs !== message.changedAtMs
        ? changedAtMs > message.changedAtMs
        : rank !== message.rank
          ? rank > message.rank
          : cursor >= message.cursor;
    if (message.payload === null || isNewer) Object.assign(message, { payload, changedAtMs, rank, cursor });
  }

  /** Whether a change of an unknown message may be one of a listed message, by an id that the state did not show. */
  function isUnclear({ isListed, idNames }: Message): boolean {
    if (isListed) return false;
    const lacksId = (message: Message): boolean =>
      message.mayHaveOthers && [...idNames].some((name) => !message.idNames.has(name));
    return [...older, ...newer].some(lacksId);
  }

  return {
    load(page, cursor, isFirst) {
      if (isFirst) {
        // Of what events up to here told, the state has the newest: here, on an earlier page, or it is hidden.
        for (const message of newer) message.isListed = message.publishedAt > cursor;
        newer = newer.filter(({ isListed }) => isListed);
      }
      const loaded: Message[] = [];
      for (const payload of page) {
        const message = findPublished(payload);
        change(message, payload, cursor);
        if (message.isListed) continue;
        message.isListed = true;
        message.mayHaveOthers = payload.messageUpdatedAt !== undefined;
        loaded.unshift(message);
      }
      older = [...loaded, ...older];
      return [...new Set(messages.values())].some((message) => message.cursor > cursor && isUnclear(message));
    },
    take(event, payload, cursor) {
      const isNew = event === 'messages.new';
      const message = isNew ? findPublished(payload) : find(payload);
      if (event === 'messages.deleted') Object.assign(message, { isDeleted: true, cursor });
      else change(message, payload as MessagePayload, cursor);
      if (!isNew) return isUnclear(message);
      if (message.isListed) return false;
      message.isListed = true;
      message.publishedAt = cursor;
      newer.push(message);
      return false;
    },
    list: () =>
      [...older, ...newer].filter(({ isDeleted }) => !isDeleted).map(({ payload }) => payload as MessagePayload),
  };
}

function versionOf({ messageUpdatedAt, messageStatus }: Payload): { changedAtMs: number; rank: number } {
  if (typeof messageUpdatedAt !== 'string') return NEW;
  return { changedAtMs: Date.parse(messageUpdatedAt), rank: STATUSES.indexOf(messageStatus as MessageStatus) };
}

/** The name of each id, and the id with its name. */
const keysOf = (payload: Payload): [string, string][] =>
  messageIdsOf(payload).map(([name, id]) => [name, `${name} ${id}`]);
