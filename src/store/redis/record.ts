/**
 * Records as Redis stores them: the payload's length in characters, a header as JSON, a line feed (which JSON text never
 * contains), the payload. Scripts read the header too: readHeader() in scripts/prelude/records.lua names the same fields.
 */
import { randomInt } from 'node:crypto';
import { formatCursor } from '../../contract/cursor.ts';
import type { LogRecord } from '../../contract/frames.ts';
import { formatRoom, type Room } from '../../contract/rooms.ts';
import type { AppendEvent, AppendRequest } from '../store.ts';

/** Which state an event changes: that of a ticket, of a message by its `messages.new` or by a change of it, or none. */
type StateKind = 't' | 'm' | 'c' | '';

type Header = readonly [
  event: string,
  rooms: readonly Room[],
  audiences: readonly string[],
  acceptedAtMs: number,
  nonce: string,
  kind: StateKind,
  tenantId: string,
  ticketId: string,
  messageId: string,
  providerMessageId: string,
  idempotencyKey: string,
];

/** In three parts: what precedes the rooms, rooms and audiences, the rest. Scripts replace the second (append.lua). */
export function encodeRecord(event: AppendEvent, nonce: string, request: AppendRequest): [string, string, string] {
  const header: Header = [
    event.event,
    event.rooms,
    event.audiences,
    request.acceptedAtMs,
    nonce,
    kindOf(event),
    event.tenantId,
    event.ticketId ?? '',
    idText(event.message?.messageId ?? ''),
    idText(event.message?.providerMessageId ?? ''),
    request.idempotency?.key ?? '',
  ];
  const [name, rooms, audiences, ...rest] = header.map((field) => JSON.stringify(field));
  return [`${event.payload.length}[${name},`, `${rooms},${audiences}`, `,${rest.join(',')}]\n${event.payload}`];
}

/** The lists of the log that hold an event's record; listsOf() in scripts/prelude/records.lua does the same. */
export function listsOf({ tenantId, ticketId, rooms, audiences }: AppendEvent): readonly string[] {
  const ofTenant = rooms.includes(formatRoom('tenant', tenantId));
  const ofTicket = ticketId === null || rooms.includes(formatRoom('ticket', ticketId));
  if (ofTenant && ofTicket) return audiences;
  return [
    ...audiences,
    ...(ofTenant ? [] : [ownList(tenantId, null)]),
    ...(ofTicket ? [] : [ownList(tenantId, ticketId)]),
  ];
}

/** The list of the records of a tenant, or a ticket, that did not go to its room. */
export const ownList = (tenantId: string, ticketId: string | null): string =>
  `\n${tenantId}${ticketId === null ? '' : `\n${ticketId}`}`;

const headerOf = (record: string): Header =>
  JSON.parse(record.slice(record.indexOf('['), record.indexOf('\n'))) as Header;

/** @param values seq, record, seq, record, … */
export function decodeRecords(epoch: string, values: readonly string[]): LogRecord[] {
  const records: LogRecord[] = [];
  for (let i = 0; i + 1 < values.length; i += 2) {
    const text = values[i + 1] as string;
    const [event, rooms, audiences, acceptedAtMs, nonce] = headerOf(text);
    const id = formatCursor({ epoch, seq: Number(values[i]), nonce });
    records.push({ id, event, rooms, audiences, payload: payloadOf(text), acceptedAtMs });
  }
  return records;
}

export const roomsOf = (record: string): readonly Room[] => headerOf(record)[1];

export const payloadOf = (record: string): string => record.slice(record.indexOf('\n') + 1);

export function kindOf({ ticket, message }: AppendEvent): StateKind {
  if (ticket !== null) return 't';
  if (message === null) return '';
  return message.change === 'new' ? 'm' : 'c';
}

/** UTF-8 has no lone surrogates: without this, ids that differ only in them would become one. */
export const idText = (id: string): string => (id.isWellFormed() ? id : JSON.stringify(id));

/** `length` random characters [0-9a-z], at most 8: randomInt() takes a range below 2^48. */
export const randomText = (length: number): string =>
  randomInt(36 ** length)
    .toString(36)
    .padStart(length, '0');
