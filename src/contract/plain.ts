/**
 * A quick check for payloads that are plainly valid, in front of the schemas (events.ts), which cost a publish more than
 * the rest of its checks together. Of JSON values, it accepts only what the schema of the event accepts. What it does not
 * accept may be valid all the same: the schema decides, and writes every refusal. test/plain.test.ts holds both against
 * each other.
 */
import { z } from 'zod';
import { isPresent, MESSAGE_STATUSES } from './facts.ts';
import { ALL_TENANTS, idField, type RoomKind, toId } from './rooms.ts';

export type IsPlain = (payload: unknown) => boolean;

/** Whether the value of a field is valid. */
type Test = (value: unknown) => boolean;

/** The language of `z.iso.datetime({ offset: true })`. */
const INSTANT = z.regexes.datetime({ offset: true });

const isAbsent: Test = (value) => value === undefined || value === null;
const isId: Test = (value) => toId(value) !== null;
const isTenant: Test = (value) => value !== ALL_TENANTS && isId(value);
const isInstant: Test = (value) => typeof value === 'string' && INSTANT.test(value);
const isStatus: Test = (value) => typeof value === 'string' && value !== '';
const isText: Test = (value) => typeof value === 'string' || Number.isSafeInteger(value);
const isOptionalId: Test = (value) => !isPresent(value) || isId(value);
const isMessageStatus: Test = (value) => (MESSAGE_STATUSES as readonly unknown[]).includes(value);
const optional =
  (test: Test): Test =>
  (value) =>
    isAbsent(value) || test(value);

/** An object as `JSON.parse` makes it. */
function isRecord(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype;
}

const TICKET = { tenantId: isTenant, ticketId: isId };
const STATE = { ticketStatus: isStatus, ticketUpdatedAt: isInstant };
const OTHERS = {
  agreementId: isOptionalId,
  instanceId: optional(isText),
  messageId: optional(isText),
  providerMessageId: optional(isText),
};
const CHANGE = {
  messageUpdatedAt: isInstant,
  ticketStatus: optional(isStatus),
  ticketUpdatedAt: optional(isInstant),
};
const namesMessage = ({ messageId, providerMessageId }: Fields): boolean =>
  isPresent(messageId) || isPresent(providerMessageId);

type Fields = Readonly<Record<string, unknown>>;

/** By the names of `payloadSchemas`. */
export function plainPayloads(declaredKinds: readonly RoomKind[]) {
  const kinds = Object.fromEntries(declaredKinds.map((kind) => [idField(kind), isOptionalId]));
  const whose = (
    fields: Readonly<Record<string, Test>>,
    alsoTrue: (fields: Fields) => boolean = () => true,
  ): IsPlain => {
    const tests = Object.entries({ ...fields, ...kinds });
    return (payload) => {
      if (!isRecord(payload)) return false;
      const of = payload as Fields;
      for (const [name, isValid] of tests) if (!isValid(of[name])) return false;
      return alsoTrue(of);
    };
  };
  return {
    ticketsUpdated: whose({ ...TICKET, ...STATE, ...OTHERS, ticket: isRecord }),
    messagesNew: whose({ ...TICKET, ...STATE, ...OTHERS, message: isRecord }, namesMessage),
    messagesUpdated: whose(
      { ...TICKET, ...CHANGE, ...OTHERS, message: isRecord, messageStatus: optional(isMessageStatus) },
      namesMessage,
    ),
    messagesDeleted: whose({ ...TICKET, ...CHANGE, ...OTHERS, messageStatus: isAbsent }, namesMessage),
    declared: whose({
      tenantId: optional(isTenant),
      ticketId: isOptionalId,
      agreementId: isOptionalId,
      userId: isOptionalId,
    }),
  };
}
