/**
 * `roomcast trigger EVENT`: publishes realistic samples of an event, to see a bridge, a front end or the console at work.
 * Without an event it lists the names that this bridge accepts, the declared ones included.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { decodeJwt } from 'jose';
import { RoomcastError } from '../client/http.ts';
import { createPublisher, PublishError } from '../client/publisher.ts';
import { createSamples } from '../contract/samples.ts';
import {
  BRIDGE_FLAGS,
  BRIDGE_HELP,
  bearerToken,
  bridgeUrl,
  countOf,
  idsIn,
  parseFlags,
  roomsIn,
  secondsOf,
  UsageError,
} from './arguments.ts';
import { bestRoom, createEventPrinter } from './event-view.ts';
import { refusalOf } from './faults.ts';
import { createOperator, orRefusal } from './operate.ts';
import { complain, printJson, printLine } from './output.ts';

export const TRIGGER_HELP = `Publishes realistic samples of an event: made-up people, plausible dialogue, ids like the real ones.

Examples:
  roomcast trigger                                  list what this bridge accepts
  roomcast trigger messages.new
  roomcast trigger messages.new --ticket ticket-7 --count 5 --every 1s
  roomcast trigger tickets.updated --room user:ana

Usage: roomcast trigger [EVENT] [options]

  --tenant ID      the tenant (default: the one of the token, else tenant-1)
  --ticket ID      the ticket (default ticket-123)
  --agreement ID   an agreement (default: none)
  --room ROOM      who hears it, such as user:ana, in place of the rooms of these ids; may be repeated
  --count N        how many (default 1; with --every: until Ctrl-C)
  --every TIME     one each 1s, 5s, 1m, …
  --json           print each answer in full: {"id", "event", "rooms", "duplicate"}
${BRIDGE_HELP}

On a terminal it prints them as tail does; in a pipe their ids, one a line.

Exit codes: 0 the log holds them all, 1 refused or not sent, 2 wrong usage.
`;

const FLAGS = {
  ...BRIDGE_FLAGS,
  tenant: { type: 'string' },
  ticket: { type: 'string' },
  agreement: { type: 'string' },
  room: { type: 'string', multiple: true },
  count: { type: 'string' },
  every: { type: 'string' },
  json: { type: 'boolean', default: false },
} as const;

const RETRY_MS = 2_000;

export async function trigger(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseFlags('trigger', argv, FLAGS, 1);
  const url = bridgeUrl('trigger', values.url);
  const token = bearerToken('trigger', values.token);
  const [event] = positionals;
  if (event === undefined) return orRefusal(url, () => list(values));

  const one = (flag: 'tenant' | 'ticket' | 'agreement'): string | undefined => {
    const { [flag]: text } = values;
    const [id, ...others] = idsIn('trigger', flag, text === undefined ? undefined : [text]);
    if (others.length === 0) return id;
    throw new UsageError(`--${flag} takes one id`, 'trigger');
  };
  const agreementId = one('agreement');
  const rooms = roomsIn('trigger', values.room);
  const everyMs = values.every === undefined ? 0 : secondsOf('trigger', 'every', values.every) * 1000;
  const fallback = everyMs > 0 ? Number.POSITIVE_INFINITY : 1;
  const count = values.count === undefined ? fallback : countOf('trigger', 'count', values.count);
  const samples = createSamples({
    tenantId: one('tenant') ?? tenantOf(token) ?? 'tenant-1',
    ticketId: one('ticket') ?? 'ticket-123',
    ...(agreementId === undefined ? {} : { agreementId }),
  });
  const publisher = createPublisher({ url, retryMs: RETRY_MS, ...(token === undefined ? {} : { token }) });
  const view = createEventPrinter(false);
  const stopping = new AbortController();
  const stop = (): void => stopping.abort();
  process.once('SIGINT', stop).once('SIGTERM', stop);

  try {
    for (let sent = 0; sent < count && !stopping.signal.aborted; sent++) {
      if (sent > 0) await sleep(everyMs, undefined, { signal: stopping.signal }).catch(() => {});
      if (stopping.signal.aborted) break;
      const payload = samples.next(event);
      const answer = await publisher.publish(event, payload, rooms.length === 0 ? {} : { rooms });
      if (values.json) await printJson(answer);
      else if (process.stdout.isTTY)
        await view({ id: answer.id, event, payload, room: bestRoom(answer.rooms), at: null });
      else await printLine(answer.id);
    }
    return 0;
  } catch (error) {
    if (!(error instanceof PublishError)) throw error;
    complain(...refusalOf(error, error.errors, url));
    return 1;
  } finally {
    await publisher.close(0);
  }
}

/** The tenant of a token that names one; the bridge verifies it. */
function tenantOf(token: string | undefined): string | undefined {
  try {
    const { tenantId } = decodeJwt(token ?? '');
    const [tenant, ...others] = [tenantId].flat();
    return others.length === 0 && typeof tenant === 'string' && tenant !== '*' ? tenant : undefined;
  } catch {
    return undefined;
  }
}

interface OpenApi {
  readonly components: {
    readonly schemas: {
      readonly PublishOne: {
        readonly oneOf: readonly { readonly properties: { readonly event: { const?: string; enum?: string[] } } }[];
      };
    };
  };
}

const SUMMARIES: Readonly<Record<string, string>> = {
  'tickets.updated': 'a ticket has changed',
  'messages.new': 'a message of a customer or an agent',
  'messages.updated': 'a report about a message: sent, delivered, read',
  'messages.deleted': 'a message was deleted',
};

/** The names are those of the bridge's own description. */
async function list(values: {
  readonly url?: string | undefined;
  readonly token?: string | undefined;
}): Promise<number> {
  const operator = createOperator('trigger', values);
  const description = (await operator.request('GET', 'openapi.json')) as OpenApi;
  const names = description?.components?.schemas?.PublishOne?.oneOf?.flatMap(
    ({ properties: { event } }) => event.enum ?? event.const ?? [],
  );
  if (!Array.isArray(names)) throw new RoomcastError('unreachable', 'This is not the bridge: other JSON.');
  const width = Math.max(...names.map((name) => name.length));
  for (const name of names) await printLine(`${name.padEnd(width)}  ${SUMMARIES[name] ?? 'declared by this bridge'}`);
  complain('publish one with: roomcast trigger EVENT');
  return 0;
}
