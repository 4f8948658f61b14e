/** Ticket and message state. A page is read in steps (../page.ts), because a script holds up every node. */
import { createHears } from '../../contract/audiences.ts';
import { collectPage, type StateStep, type StepRange } from '../page.ts';
import { invalidPage, type MessagesQuery, type TicketQuery, type TicketState, type TicketsQuery } from '../store.ts';
import type { Calls } from './calls.ts';
import { type LogAnswer, ofLog } from './log.ts';
import { payloadOf, roomsOf } from './record.ts';
import { defineScript } from './script.ts';

/** Records of one step, if the caller may not hear all of them. */
const SHARED_ROWS = 256;

type StepOf<Query> = Omit<Query, 'caller' | 'limit' | 'maxChars' | 'page'> & StepRange;

const rangeArgv = ({ from, want, maxChars }: StepRange) => [from ?? '', String(want), String(maxChars)];

const parseStep = ofLog(({ bounds, fields }: LogAnswer<[next: string, ...items: string[]]>) => {
  const [next, ...values] = fields;
  const positions = values.filter((_, index) => index % 2 === 0);
  const records = values.filter((_, index) => index % 2 === 1);
  return { cursor: bounds.head, positions, records, next: next === '' ? null : next };
});

const TICKETS = defineScript(
  'tickets',
  ({ tenantId, status, agreementId, updatedAfter, hearing, ...range }: StepOf<TicketsQuery>) => [
    ...[tenantId, status ?? '', agreementId ?? '', updatedAfter ?? '', ...rangeArgv(range)],
    ...[hearing.kinds === 'all' ? '*' : [',', ...hearing.kinds.map((kind) => `${kind},`)].join(''), ...hearing.rooms],
  ],
  parseStep,
);

const TICKET = defineScript(
  'ticket',
  ({ tenantId, ticketId }: Pick<TicketQuery, 'tenantId' | 'ticketId'>) => [tenantId, ticketId],
  ofLog(({ bounds, fields: [record = null] }: LogAnswer<[record?: string | null]>) => ({
    record,
    cursor: bounds.head,
  })),
);

const MESSAGES = defineScript(
  'messages',
  ({ tenantId, ticketId, order, hearing, want, ...range }: StepOf<MessagesQuery>) => {
    const rows = hearing.kinds.length === 0 ? Math.max(want, SHARED_ROWS) : want;
    return [tenantId, ticketId, order, ...rangeArgv({ ...range, want: rows })];
  },
  parseStep,
);

export function createTicketState({ read }: Calls): TicketState {
  return {
    async tickets({ caller, limit, maxChars, page, ...query }) {
      // A page token is the `updatedAt-seq` of the page's last ticket; its position has a comma there.
      if (page !== null && !/^\d{12}\.\d*-\d{16}$/.test(page)) throw invalidPage();
      const first = page?.replace('-', ',') ?? null;
      const found = await collectPage({ limit, maxChars, page: first }, async (range) =>
        heardOf(query, await read(TICKETS, { ...query, ...range }, caller)),
      );
      return { ...found, nextPage: found.nextPage?.replace(',', '-') ?? null };
    },
    async ticket({ caller, ...query }) {
      const { record, cursor } = await read(TICKET, query, caller);
      const isHeard = record !== null && roomsOf(record).some(createHears(query.hearing));
      return { payload: isHeard ? payloadOf(record) : null, cursor };
    },
    async messages({ caller, limit, maxChars, page, ...query }) {
      if (page !== null && !/^\d{1,16}$/.test(page)) throw invalidPage();
      return collectPage({ limit, maxChars, page }, async (range) =>
        heardOf(query, await read(MESSAGES, { ...query, ...range }, caller)),
      );
    },
  };
}

/** The items of a step: a record carries its rooms, so it says itself who may read it. */
function heardOf(
  { hearing }: Pick<TicketQuery, 'hearing'>,
  { records, positions, next, cursor }: NonNullable<ReturnType<typeof parseStep>>,
): StateStep {
  const hears = createHears(hearing);
  const heard = records.map((record) => roomsOf(record).some(hears));
  return {
    items: records.filter((_, index) => heard[index]).map(payloadOf),
    positions: positions.filter((_, index) => heard[index]),
    next,
    cursor,
  };
}
