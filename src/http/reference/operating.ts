/** The schemas and examples of what operators see. TypeScript checks both against contract/operating.ts. */
import { ERRORS } from '../../contract/errors.ts';
import type { LogAnswer, LogEntry } from '../../contract/log.ts';
import { TRANSPORTS } from '../../contract/names.ts';
import {
  type ConnectionItem,
  type OperatorPage,
  REFUSAL_TRANSPORTS,
  type RefusalItem,
} from '../../contract/operating.ts';
import {
  arrayOf,
  boolean,
  CURSOR,
  count,
  cursor,
  describe,
  ISO_INSTANT,
  instant,
  type JsonObject,
  number,
  object,
  ref,
  string,
} from './parts.ts';

const instantOrNull = (description: string): JsonObject => ({
  type: ['string', 'null'],
  format: 'date-time',
  description,
});
const stringOrNull = (description: string): JsonObject => ({ type: ['string', 'null'], description });
const node = describe(string, 'The id of the node, as in `GET /stats`.');
const address = describe(string, 'The client address, as `TRUST_PROXY` says.');

const pageOf = (name: string): JsonObject =>
  object<OperatorPage<unknown>>({
    items: arrayOf(ref(name)),
    nextPage: stringOrNull('The `page` of the next request. Null: this page is the last.'),
    missing: describe(arrayOf(string), 'Nodes that did not answer within 2 s. They may have more.'),
  });

export const operatingSchemas: Readonly<Record<string, JsonObject>> = {
  Connection: object<ConnectionItem>({
    id: describe(
      string,
      'Of Socket.IO, the `id` that the client sees; of others, a random text. Log lines have it, too.',
    ),
    node,
    transport: { enum: TRANSPORTS },
    since: instant,
    address,
    userAgent: stringOrNull('The `User-Agent`, at most 256 characters.'),
    tenantIds: describe(arrayOf(string), '`*` alone: a token for all tenants. Empty without tokens.'),
    sub: stringOrNull('The `sub` of the token.'),
    rooms: describe(arrayOf(string), 'In the order of joining. An item of a list has the first 100.'),
    roomCount: describe(count, 'The number of all its rooms.'),
    cursor: describe(cursor, 'Every event of its rooms up to here was written to it.'),
    behindMs: describe(
      number,
      'Milliseconds since the acceptance of the oldest event that the client still waits for. 0: it is up to date.',
    ),
    pendingBytes: describe(count, 'Bytes that wait because the client, or its network, does not take them.'),
    lastDeliveryAt: instantOrNull('When it last got an event. Null: it has got none yet.'),
    expiresAt: instantOrNull('When its token expires.'),
  }),
  Connections: pageOf('Connection'),
  Closed: object(
    {
      closed: describe(count, 'Connections that end now.'),
      missing: describe(arrayOf(string), 'Nodes that did not answer within 2 s. Left out if all did.'),
    },
    ['closed'],
  ),
  Refusal: object<RefusalItem>({
    at: instant,
    node,
    address,
    transport: { enum: REFUSAL_TRANSPORTS, description: '`http`: a request that no client listens by.' },
    sub: stringOrNull('Of a token whose signature is good; else null.'),
    tenantIds: describe(arrayOf(string), 'Of a token whose signature is good; else empty.'),
    what: describe(string, 'What was refused: `connect`, `join ticket:1`, `GET /sse`.'),
    code: { enum: Object.keys(ERRORS) },
    message: string,
  }),
  Refusals: pageOf('Refusal'),
  LogEntry: object<LogEntry>({
    id: cursor,
    event: describe(string, 'A canonical event, or one of EXTRA_EVENTS.'),
    rooms: describe(arrayOf(string), 'All rooms of the record.'),
    at: describe(instant, 'When the bridge accepted the event, by the clock of the node that did.'),
    payload: { type: 'object' },
  }),
  Log: object<LogAnswer>({
    events: arrayOf(ref('LogEntry')),
    scannedThrough: describe(cursor, 'How far the request came: the `before` (`asc`: `after`) of your next request.'),
    more: describe(boolean, 'True if there is more of the log to look at. It may hold no match.'),
  }),
};

export const CONNECTION_EXAMPLE: ConnectionItem & JsonObject = {
  id: 'k1Yb3vT0cGd8QxJ4AAAB',
  node: '6f1d3c7e-0d0a-4a55-9b5e-6f5f3f1e2d11',
  transport: 'websocket',
  since: ISO_INSTANT,
  address: '203.0.113.7',
  userAgent: 'Mozilla/5.0 (Windows NT 10.0; Win64; x64)',
  tenantIds: ['tenant-1'],
  sub: 'user-1',
  rooms: ['tenant:tenant-1', 'ticket:ticket-123'],
  roomCount: 2,
  cursor: CURSOR,
  behindMs: 0,
  pendingBytes: 0,
  lastDeliveryAt: ISO_INSTANT,
  expiresAt: null,
};

export const REFUSAL_EXAMPLE: RefusalItem & JsonObject = {
  at: ISO_INSTANT,
  node: '6f1d3c7e-0d0a-4a55-9b5e-6f5f3f1e2d11',
  address: '203.0.113.7',
  transport: 'sse',
  sub: 'user-1',
  tenantIds: ['tenant-1'],
  what: 'GET /sse',
  code: 'token_expired',
  message: 'The token has expired. Use a new one.',
};
