/**
 * `GET /log` (protocol §15): the records themselves, for operators. By tenant or room, by instant, by event or by a text in
 * the payload, newest or oldest first.
 *
 * A filter may match nothing in a million records, so one request looks at a part of the log, and says how far it came. The
 * answer is read in steps, as its client takes it: other readers have their turn in between, and one step is in memory.
 */
import { z } from 'zod';
import {
  type Authenticate,
  answerJson,
  answerStream,
  type BridgeContext,
  type Handler,
  isSentWhole,
  queryOf,
  UNCACHED_JSON,
} from '../../answers/answer.ts';
import { choice, cursor, instant, integer, list, parseQuery } from '../../answers/query.ts';
import { clientAddress } from '../../auth/limits.ts';
import { type Reach, requireOperator } from '../../auth/operators.ts';
import { callerKey, type Principal } from '../../auth/principal.ts';
import type { Revoked } from '../../auth/revocations.ts';
import type { Config } from '../../config.ts';
import type { Cursor } from '../../contract/cursor.ts';
import { BridgeError } from '../../contract/errors.ts';
import { LEGACY_NAMES, publishedNames } from '../../contract/events.ts';
import type { LogRecord } from '../../contract/frames.ts';
import { nearest } from '../../contract/nearest.ts';
import { printableName } from '../../contract/printable.ts';
import {
  allKinds,
  faultOfId,
  faultOfRoom,
  formatRoom,
  ID_SCHEMA,
  idField,
  idOf,
  kindOf,
  type Room,
  type RoomKind,
  roomSchema,
} from '../../contract/rooms.ts';
import type { LogPart, LogScan, ScanQuery, ScanResult } from '../../store/store.ts';
import type { Gate } from '../../transports/gate.ts';

const MAX_LIMIT = 1000;
const DEFAULT_LIMIT = 100;
/** The longest `contains`, in UTF-16 code units. */
const MAX_CONTAINS = 200;
/** One request takes at most this many steps of the store, each of at most SCAN_ROWS rows. */
const MAX_STEPS = 16;
/** Payload text that one step looks at, in characters: so little that other callers' reads come in between. */
const STEP_CHARS = 256 * 1024;

function eventFilter(extraEvents: readonly string[]) {
  const names = publishedNames(extraEvents);
  return list('Only records of these events. Repeatable or comma-separated.', { enum: names }, (name) => {
    if (names.includes(name)) return null;
    const canonical = Object.keys(LEGACY_NAMES).find((event) => LEGACY_NAMES[event]?.includes(name));
    const near = nearest(name, names);
    const hint =
      canonical !== undefined
        ? `it is a legacy name; the log holds ${canonical}`
        : near === null
          ? `the events are ${names.join(', ')}`
          : `did you mean ${near}?`;
    return `has ${printableName(name)}, which is no event of the log; ${hint}`;
  });
}

function roomsByKind(roomKinds: readonly RoomKind[]) {
  const parameters = allKinds(roomKinds).map((kind) => {
    const what =
      kind === 'tenant' ? 'Every record of these tenants, whatever its rooms' : `Records in \`${kind}:{id}\``;
    return [
      idField(kind),
      list(`${what}. Repeatable or comma-separated.`, ID_SCHEMA, (id) => faultOfId(kind, id)),
    ] as const;
  });
  return Object.fromEntries(parameters) as Record<string, (typeof parameters)[number][1]>;
}

export const logQuery = (extraEvents: readonly string[], roomKinds: readonly RoomKind[]) => ({
  ...roomsByKind(roomKinds),
  room: list(
    'Records in these rooms, by name, such as `ticket:123`: of the tenants of `tenantId` if it is given. Repeatable or comma-separated.',
    roomSchema(allKinds(roomKinds)),
    (name) => faultOfRoom(name, allKinds(roomKinds)),
  ),
  after: cursor('Only records after this cursor.'),
  before: cursor('Only records before this cursor.'),
  since: instant('Only records that the bridge accepted at this instant or later.', Date.parse),
  until: instant('Only records that the bridge accepted at this instant or earlier.', Date.parse),
  event: eventFilter(extraEvents),
  contains: z
    .string()
    .min(1, 'must not be empty')
    .max(MAX_CONTAINS, `must have at most ${MAX_CONTAINS} characters`)
    .nullable()
    .default(null)
    .meta({
      description:
        'Only records whose payload, as JSON text, contains this text. Upper and lower case are the same; accents count.',
      schema: { type: 'string', minLength: 1, maxLength: MAX_CONTAINS },
    }),
  order: choice(['asc', 'desc'], 'desc', '`desc`: newest first; `asc`: oldest first. By cursor.'),
  limit: integer(1, MAX_LIMIT, DEFAULT_LIMIT, 'Maximum number of records. A page of large ones has fewer.'),
});

export interface LogDeps {
  readonly config: Pick<Config, 'host' | 'trustProxy' | 'roomKinds' | 'extraEvents' | 'maxRooms'>;
  readonly gate: Pick<Gate, 'admitAnswer'>;
  readonly store: LogScan;
  readonly revoked: Pick<Revoked, 'current'>;
  readonly authenticate: Authenticate;
  /** @throws {BridgeError} `rate_limited` */
  readonly countRead: (caller: string) => void;
}

interface LogRequest extends Omit<ScanQuery, 'parts' | 'maxChars'> {
  /** What the token reaches by now. @throws {BridgeError} `token_revoked`, `forbidden` */
  readonly partsNow: () => readonly LogPart[];
}

export function createLogRoute({ config, gate, store, revoked, authenticate, countRead }: LogDeps): Handler {
  const shape = logQuery(config.extraEvents, config.roomKinds);
  const kinds = allKinds(config.roomKinds);
  const reachOf = (principal: Principal) => requireOperator(principal, config.host, 'read the log');

  return async (context) => {
    const principal = await authenticate(context);
    const caller = callerKey(principal, clientAddress(context.env.incoming, config.trustProxy));
    countRead(caller);
    const reach = reachOf(principal);
    const { since, until, event, room, ...query } = parseQuery(queryOf(context), shape);
    const idsOf = (kind: RoomKind) => (query as Record<string, unknown>)[idField(kind)] as readonly string[];
    const places: Places = {
      tenants: idsOf('tenant'),
      named: room as Room[],
      rooms: kinds.flatMap((kind) => (kind === 'tenant' ? [] : idsOf(kind).map((id) => formatRoom(kind, id)))),
    };
    requireFewRooms(places, reach);
    return answerTexts(
      context,
      textsOf({
        partsNow: () => partsOf(places, reachOf(revoked.current(principal))),
        caller,
        events: event.length === 0 ? null : event,
        contains: query.contains,
        sinceMs: since,
        untilMs: until,
        after: query.after as Cursor | null,
        before: query.before as Cursor | null,
        order: query.order,
        limit: query.limit,
      }),
    );
  };

  /** @throws {BridgeError} `too_many_rooms` */
  function requireFewRooms({ tenants, named, rooms }: Places, reach: Reach): void {
    const count = tenants.length + named.length * Math.max(1, tenants.length) + rooms.length * (reach?.length ?? 1);
    if (count <= config.maxRooms) return;
    throw new BridgeError(
      'too_many_rooms',
      `The query names ${count} rooms, each counted once for each tenant; at most ${config.maxRooms} are allowed.`,
    );
  }

  /** The body of the answer, piece by piece. @throws {BridgeError} `cursor_expired`, `cursor_unknown`, before the first piece */
  async function* textsOf({ partsNow, ...request }: LogRequest): AsyncGenerator<string> {
    const from = request.order === 'asc' ? 'after' : 'before';
    let query: Omit<ScanQuery, 'parts'> = { ...request, maxChars: STEP_CHARS };
    let before = '{"events":[';
    let end: { readonly position: Cursor; readonly more: boolean } | null = null;
    for (let steps = 1; steps <= MAX_STEPS; steps++) {
      const step = await store.scan({ ...query, parts: partsNow() });
      if (step.kind !== 'ok') {
        if (end === null) throw gone(request, step);
        // Trimmed meanwhile. What was read is complete, and the next request gets the 410.
        break;
      }
      for (const record of step.records) {
        yield `${before}${itemOf(record)}`;
        before = ',';
      }
      end = step;
      const limit: number = query.limit - step.records.length;
      if (!step.more || limit === 0) break;
      query = { ...query, limit, [from]: step.position };
    }
    const { position, more } = end as NonNullable<typeof end>;
    const head = before === ',' ? '' : before;
    yield `${head}],"scannedThrough":${JSON.stringify(position)},"more":${more}}`;
  }

  /** Sends a short body whole, so that its errors have a status, and a long one as its client takes it. */
  async function answerTexts(context: BridgeContext, texts: AsyncGenerator<string>): Promise<Response> {
    const held: string[] = [];
    for (let chars = 0; isSentWhole(chars); ) {
      const next = await texts.next();
      if (next.done) return answerJson(context, 200, held.join(''));
      held.push(next.value);
      chars += next.value.length;
    }
    async function* all(): AsyncGenerator<string> {
      yield* held.splice(0);
      yield* texts;
    }
    return answerStream(context, gate, UNCACHED_JSON, all());
  }
}

/** What a query names. */
interface Places {
  /** `tenantId` */
  readonly tenants: readonly string[];
  /** `room` */
  readonly named: readonly Room[];
  /** The other parameters. */
  readonly rooms: readonly Room[];
}

/** @throws {BridgeError} `forbidden` */
function partsOf({ tenants, named, rooms }: Places, reach: Reach): LogPart[] {
  const asked = [...tenants, ...named.filter((room) => kindOf(room) === 'tenant').map(idOf)];
  if (reach !== null && !asked.every((tenantId) => reach.includes(tenantId))) {
    throw forbidden('The token may not read the log of this tenant. Use one that names it and has the scope admin.');
  }
  const within = tenants.length === 0 ? reach : tenants;
  const parts: LogPart[] = [
    ...named.map((room) => ({ tenants: within, room })),
    ...(named.length === 0 && tenants.length > 0 ? [{ tenants, room: null }] : []),
    ...rooms.map((room) => ({ tenants: reach, room })),
  ];
  return parts.length > 0 ? parts : [{ tenants: reach, room: null }];
}

/** The payload is inserted as text, so its bytes are the same as on every transport. */
function itemOf({ id, event, rooms, acceptedAtMs, payload }: LogRecord): string {
  const facts = JSON.stringify({ id, event, rooms, at: new Date(acceptedAtMs).toISOString() });
  return `${facts.slice(0, -1)},"payload":${payload}}`;
}

/** A 410 with the fields of protocol §8. */
function gone(
  { after, before }: Pick<ScanQuery, 'after' | 'before'>,
  { kind: reason, cursor: fault, oldest, head }: Exclude<ScanResult, { kind: 'ok' }>,
): BridgeError {
  const name = fault === after ? 'after' : 'before';
  const message =
    reason === 'expired'
      ? `Records next to the cursor in ${name} were trimmed from the log. Go on from \`oldest\`, or leave ${name} out.`
      : `This log has no record with the cursor in ${name}. Leave ${name} out to begin at an end of the log.`;
  return new BridgeError(reason === 'expired' ? 'cursor_expired' : 'cursor_unknown', message, {
    fields: { reason, after, before, oldest, cursor: head },
  });
}

const forbidden = (message: string): BridgeError => new BridgeError('forbidden', message);
