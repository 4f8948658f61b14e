/**
 * Records as Redis stores them: the payload's length in characters, a header as JSON, a line feed (which JSON text never
 * contains), the payload. Scripts read the header too: readHeader() in scripts/prelude/records.lua names the same fields.
 */
import { randomInt } from 'node:crypto';
import { formatCursor } from '../../contract/cursor.ts';
import type { LogRecord } from '../../contract/frames.ts';
import { idOf, type Room } from '../../contract/rooms.ts';
import type { AppendEvent, AppendRequest } from '../store.ts';

type Header = readonly [
  event: string,
  rooms: readonly Room[],
  audiences: readonly string[],
  acceptedAtMs: number,
  nonce: string,
  kind: 't' | 'm' | '',
  tenantId: string,
  ticketId: string,
  messageId: string,
  providerMessageId: string,
  idempotencyKey: string,
];

export function encodeRecord(event: AppendEvent, nonce: string, request: AppendRequest): string {
  const ticketRoom = event.rooms.find((room) => room.startsWith('ticket:'));
  const header: Header = [
    event.event,
    event.rooms,
    event.audiences,
    request.acceptedAtMs,
    nonce,
    kindOf(event),
    event.tenantId,
    ticketRoom === undefined ? '' : idOf(ticketRoom),
    idText(event.message?.messageId ?? ''),
    idText(event.message?.providerMessageId ?? ''),
    request.idempotency?.key ?? '',
  ];
  return `${event.payload.length}${JSON.stringify(header)}\n${event.payload}`;
}

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

/** Which state an event changes: that of a ticket, of a message, or none. */
export const kindOf = (event: AppendEvent): 't' | 'm' | '' =>
  event.ticket ? 't' : event.message?.change === 'new' ? 'm' : '';

/** UTF-8 has no lone surrogates: without this, ids that differ only in them would become one. */
export const idText = (id: string): string => (id.isWellFormed() ? id : JSON.stringify(id));

/** `length` random characters [0-9a-z], at most 8: randomInt() takes a range below 2^48. */
export const randomText = (length: number): string =>
  randomInt(36 ** length)
    .toString(36)
    .padStart(length, '0');
