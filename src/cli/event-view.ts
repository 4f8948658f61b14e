/**
 * How an event looks on a terminal: one aligned line with its time, name, most specific room and what matters of its
 * payload; or, with `--pretty`, the whole payload below it. A line of its own says when the day changes.
 */

import { printable } from '../contract/printable.ts';
import { kindOf, type Room } from '../contract/rooms.ts';
import { printText } from './output.ts';
import { columns, cut, fit, paint, type Style, visible, widthOf } from './terminal.ts';

export interface Viewed {
  readonly id: string;
  readonly event: string;
  readonly payload: Readonly<Record<string, unknown>>;
  /** The one of its rooms that says most. */
  readonly room: string;
  /** When it was accepted; null if only the payload may know it. */
  readonly at: string | null;
}

const EVENT_COLUMNS = 16;
/** It grows with the rooms that come. A wide terminal shows the ids of real tickets whole. */
const ROOM_COLUMNS = { first: 12, narrow: 22, wide: 33 };
const WIDE = 110;
const TIME_COLUMNS = 8;

const STYLES: Readonly<Record<string, Style>> = {
  'messages.new': 'green',
  'messages.updated': 'blue',
  'messages.deleted': 'red',
  'tickets.updated': 'magenta',
};

export function createEventPrinter(isPretty: boolean): (event: Viewed) => Promise<void> {
  let day = dayOf(new Date());
  let roomColumns = ROOM_COLUMNS.first;

  return ({ id, event, payload, room: name, at }) => {
    const date = instantIn(at ?? timeOf(payload)) ?? new Date();
    const lines: string[] = [];
    if (dayOf(date) !== day) {
      day = dayOf(date);
      lines.push(paint('dim', `── ${day} ──`));
    }
    const time = paint('dim', date.toTimeString().slice(0, TIME_COLUMNS));
    const style = STYLES[event] ?? 'cyan';
    const room = visible(name);
    if (isPretty) {
      lines.push(`${time}  ${paint(style, visible(event))}  ${room}  ${paint('dim', visible(id))}`);
      lines.push(...prettyJson(payload).map((line) => `  ${line}`));
    } else {
      const most = columns() < WIDE ? ROOM_COLUMNS.narrow : ROOM_COLUMNS.wide;
      roomColumns = Math.min(most, Math.max(roomColumns, widthOf(room)));
      const rest = columns() - TIME_COLUMNS - EVENT_COLUMNS - roomColumns - 6;
      const shown = `${time}  ${paint(style, fit(visible(event), EVENT_COLUMNS))}  ${fit(room, roomColumns)}`;
      lines.push(`${shown}  ${cut(printable(summaryOf(event, payload)), rest)}`.trimEnd());
    }
    return printText(lines.join('\n'));
  };
}

/** The room of a record that says most: a ticket's, else any but the tenant's. */
export function bestRoom(rooms: readonly string[]): string {
  const of = (fits: (kind: string) => boolean) => rooms.find((room) => fits(kindOf(room as Room)));
  return of((kind) => kind === 'ticket') ?? of((kind) => kind !== 'tenant') ?? rooms[0] ?? '';
}

const dayOf = (date: Date): string =>
  `${date.getFullYear()}-${String(date.getMonth() + 1).padStart(2, '0')}-${String(date.getDate()).padStart(2, '0')}`;

function instantIn(text: unknown): Date | null {
  const date = typeof text === 'string' ? new Date(text) : null;
  return date === null || Number.isNaN(date.getTime()) ? null : date;
}

/** When the publisher says that it happened (protocol §3); undefined if it does not. */
export function timeOf(payload: Readonly<Record<string, unknown>>): unknown {
  return payload.messageUpdatedAt ?? payload.ticketUpdatedAt;
}

const textOf = (...values: readonly unknown[]): string =>
  (values.find((value) => typeof value === 'string' && value.trim() !== '') as string | undefined) ?? '';

/** What a person wants to read of it in half a line. */
function summaryOf(event: string, payload: Readonly<Record<string, unknown>>): string {
  const message = Object(payload.message) as Readonly<Record<string, unknown>>;
  const ticket = Object(payload.ticket) as Readonly<Record<string, unknown>>;
  const parts =
    event === 'tickets.updated'
      ? [textOf(payload.ticketStatus), textOf(ticket.subject, ticket.lastMessagePreview, Object(ticket.contact).name)]
      : event.startsWith('messages.')
        ? [textOf(payload.messageStatus), textOf(message.content, message.caption, message.type, payload.messageId)]
        : [];
  const summary = parts.filter((part) => part !== '').join(' · ');
  if (summary !== '') return summary.replaceAll(/\s+/g, ' ');
  const { tenantId: _, ...rest } = payload;
  return JSON.stringify(rest);
}

/** Indented, with the keys in a colour. */
function prettyJson(value: unknown): string[] {
  return JSON.stringify(value, null, 2)
    .split('\n')
    .map((line) => {
      const [, indent = '', key, rest = ''] = /^( *)("(?:[^"\\]|\\.)*")(: .*)$/.exec(line) ?? [];
      return key === undefined ? printable(line) : `${indent}${paint('cyan', printable(key))}${printable(rest)}`;
    });
}
