/** Ticket and message state. A page of large payloads is read in several steps. */
import type { Cursor } from '../../contract/cursor.ts';
import { invalidPage, type MessagesQuery, type StatePage, type TicketState, type TicketsQuery } from '../store.ts';
import type { Calls } from './calls.ts';
import { type LogAnswer, ofLog } from './log.ts';
import { payloadOf } from './record.ts';
import { defineScript } from './script.ts';

/** Payload characters of one step. */
const STEP_CHARS = String(2 * 1024 * 1024);

interface Step {
  /** The position to continue from, as the previous step returned it; empty for the first page. */
  readonly from: string;
  readonly want: number;
}
type StepOf<Query> = Omit<Query, 'limit' | 'maxChars' | 'page'> & Step;

const stepArgv = ({ from, want }: Step) => [from, String(want), STEP_CHARS];

const parseStep = ofLog(({ bounds, fields }: LogAnswer<[next: string, ...items: string[]]>) => {
  const [next, ...values] = fields;
  const items: { position: string; payload: string }[] = [];
  for (let i = 0; i + 1 < values.length; i += 2) {
    items.push({ position: values[i] as string, payload: payloadOf(values[i + 1] as string) });
  }
  return { cursor: bounds.head, items, next };
});

const idsArgv = (ids: readonly string[] | null) => (ids === null ? ['-1'] : [String(ids.length), ...ids]);

const TICKETS = defineScript(
  'tickets',
  ({ tenantId, status, agreementId, updatedAfter, ticketIds, agreementIds, ...step }: StepOf<TicketsQuery>) => [
    ...[tenantId, status ?? '', agreementId ?? '', updatedAfter ?? '', ...stepArgv(step)],
    ...[...idsArgv(ticketIds), ...idsArgv(agreementIds)],
  ],
  parseStep,
);

const TICKET = defineScript(
  'ticket',
  ({ tenantId, ticketId }: Pick<MessagesQuery, 'tenantId' | 'ticketId'>) => [tenantId, ticketId],
  ofLog(({ bounds, fields: [record = null] }: LogAnswer<[record?: string | null]>) => {
    return { payload: record === null ? null : payloadOf(record), cursor: bounds.head };
  }),
);

const MESSAGES = defineScript(
  'messages',
  ({ tenantId, ticketId, order, ...step }: StepOf<MessagesQuery>) => [tenantId, ticketId, order, ...stepArgv(step)],
  parseStep,
);

export function createTicketState({ read }: Calls): TicketState {
  return {
    async tickets({ page, ...query }) {
      // A page token is the `updatedAt-seq` of the page's last ticket; its position has a comma there.
      if (page !== null && !/^\d{12}\.\d*-\d{16}$/.test(page)) throw invalidPage();
      const from = page?.replace('-', ',') ?? '';
      const found = await collectPage(from, query, (step) => read(TICKETS, { ...query, ...step }));
      return { ...found, nextPage: found.nextPage?.replace(',', '-') ?? null };
    },
    ticket: (tenantId, ticketId) => read(TICKET, { tenantId, ticketId }),
    async messages({ page, ...query }) {
      if (page !== null && !/^\d{1,16}$/.test(page)) throw invalidPage();
      return collectPage(page ?? '', query, (step) => read(MESSAGES, { ...query, ...step }));
    },
  };
}

/** `nextPage` is the position of the page's last item. */
async function collectPage(
  first: string,
  { limit, maxChars }: Pick<MessagesQuery, 'limit' | 'maxChars'>,
  readStep: (step: Step) => Promise<NonNullable<ReturnType<typeof parseStep>>>,
): Promise<StatePage> {
  const payloads: string[] = [];
  let chars = 0;
  let last: string | null = null;
  let from = first;
  let cursor: Cursor | null = null;
  do {
    const { items, next, ...step } = await readStep({ from, want: limit + 1 - payloads.length });
    // The head of the first step: every change between the steps comes after it in the log.
    cursor ??= step.cursor;
    from = next;
    for (const { position, payload } of items) {
      if (payloads.length === limit || chars > maxChars) return { items: payloads, nextPage: last, cursor };
      last = position;
      payloads.push(payload);
      chars += payload.length;
    }
  } while (from !== '' && chars <= maxChars);
  return { items: payloads, nextPage: from === '' ? null : last, cursor };
}
