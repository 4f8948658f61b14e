/**
 * `roomcast publish`: publishes events from arguments, a file or standard input, in order. When the id of an event is
 * printed, the log holds it. A refused event is reported with its line and fields, and the others continue. If the
 * bridge cannot be reached, the command stops: the events without an id are not published.
 */
import { createReadStream } from 'node:fs';
import type { Readable } from 'node:stream';
import { createPublisher, PublishError, type Published, type PublishOptions } from '../client/publisher.ts';
import {
  BRIDGE_FLAGS,
  BRIDGE_HELP,
  bearerToken,
  bridgeUrl,
  parseFlags,
  roomsIn,
  secondsOf,
  UsageError,
} from './arguments.ts';
import { refusalOf } from './faults.ts';
import { faultText, parseJson } from './json.ts';
import { complain, printJson, printLine } from './output.ts';

export const PUBLISH_HELP = `Publishes events, and prints the id (the cursor) of each when the log holds it.

Examples:
  roomcast publish tickets.updated '{"tenantId":"tenant-1","ticketId":"ticket-1","ticketStatus":"OPEN",
    "ticketUpdatedAt":"2024-06-01T12:00:00Z","ticket":{"subject":"Hello"}}'
  roomcast publish messages.new --file note.json --tenant tenant-1 --room user:ana --room user:bia
  roomcast tail --tenant tenant-1 --after start --json | roomcast publish --url https://other.example

Usage: roomcast publish EVENT PAYLOAD            one event; the payload is JSON text
       roomcast publish EVENT [--file FILE]      payloads: one JSON document, or one per line
       roomcast publish [--file FILE]            events, in the same form: {"event": …, "payload": …},
                                                 and "rooms" and "tenantId" if you like

Without --file, or with --file -, the command reads standard input; on a terminal, what you type until Ctrl-D.
roomcast trigger publishes realistic samples.

  --file FILE      a JSON document, or NDJSON (one document per line)
  --room ROOM      who hears the events, such as user:ana or queue:a; repeat it, or separate rooms with
                   commas (default: the rooms of the ids in the payload)
  --tenant ID      the tenant, if the payload has no tenantId
  --json           print each answer in full: {"id", "event", "rooms", "duplicate"}
  --idempotency-key KEY
                   publish each event once, even if you run the command again with this key. Of
                   several events, the first uses KEY, the second KEY:2, and so on
  --retry TIME     how long to retry when the bridge cannot be reached (default 5s)
${BRIDGE_HELP}

An event of the input that has rooms or a tenantId of its own keeps them. The output of tail has none: a copy goes to
the rooms of its payload, whatever the rooms of the original. For a repeated message of a ticket (the same messageId or
providerMessageId) the command prints its first id.

Exit codes: 0 the log holds all events, 1 some events failed (see standard error), 2 wrong usage.
`;

const FLAGS = {
  ...BRIDGE_FLAGS,
  file: { type: 'string' },
  room: { type: 'string', multiple: true },
  tenant: { type: 'string' },
  json: { type: 'boolean', default: false },
  'idempotency-key': { type: 'string' },
  retry: { type: 'string', default: '5s' },
} as const;

/** A person who sees nothing for longer wants to know why. */
const QUIET_MS = 1_000;
/** Events in flight at a time: two full requests. */
const MAX_IN_FLIGHT = 1_000;

interface Input {
  /** Its source, for messages: `line 3: `. */
  readonly source: string;
  readonly event: string;
  readonly payload: object;
  /** Its own rooms and tenant, which the bridge checks. */
  readonly audience: Pick<PublishOptions, 'rooms' | 'tenantId'>;
}

export async function publish(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseFlags('publish', argv, FLAGS, 2);
  const [event, payload] = positionals;
  const { file, json, tenant, 'idempotency-key': key } = values;
  const rooms = roomsIn('publish', values.room);
  if (values.room !== undefined && rooms.length === 0) throw new UsageError('--room is empty', 'publish');
  if (payload !== undefined && file !== undefined) {
    throw new UsageError('give a payload or --file, not both', 'publish');
  }
  if (key !== undefined && !/^[\x21-\x7e]{1,240}$/.test(key)) {
    throw new UsageError('--idempotency-key must be 1 to 240 visible ASCII characters', 'publish');
  }
  const fromStdin = payload === undefined && (file === undefined || file === '-');

  const url = bridgeUrl('publish', values.url);
  const token = bearerToken('publish', values.token);
  const retryMs = secondsOf('publish', 'retry', values.retry) * 1000;
  const publisher = createPublisher({ url, retryMs, ...(token === undefined ? {} : { token }) });
  const inFlight: { readonly source: string; readonly done: Promise<Published | PublishError> }[] = [];
  let failed = 0;
  let isStopped = false;

  let waiting: NodeJS.Timeout | undefined;

  /** Waits for the oldest event, so that ids are printed in the order of the events. */
  async function settleOldest(): Promise<void> {
    const { source, done } = inFlight.shift() as (typeof inFlight)[number];
    const outcome = await done;
    clearTimeout(waiting);
    if (!(outcome instanceof PublishError)) {
      return json ? printJson(outcome) : printLine(outcome.id);
    }
    failed++;
    if (isStopped && outcome.code === 'closed') return;
    const [sentence, ...fields] = refusalOf(outcome, outcome.errors, url);
    complain(`${source}${sentence}`, ...fields);
    if (isAboutTheEvent(outcome)) return;
    isStopped = true;
    void publisher.close(0);
  }

  if (fromStdin && process.stdin.isTTY) complain('reading JSON from the terminal; end with Ctrl-D');
  const inputs =
    payload === undefined
      ? inputsOf(event, fromStdin ? process.stdin : createReadStream(file as string))
      : [parseInput(event, payload, '')];
  let count = 0;
  for await (const input of inputs) {
    if (isStopped) break;
    if (input instanceof BadInput) {
      if (payload !== undefined) throw new UsageError(input.message, 'publish', input.place);
      failed++;
      complain(input.message, ...input.place);
      continue;
    }
    count++;
    const options = {
      ...(rooms.length === 0 ? {} : { rooms }),
      ...(tenant === undefined ? {} : { tenantId: tenant }),
      ...input.audience,
      ...(key === undefined ? {} : { idempotencyKey: count === 1 ? key : `${key}:${count}` }),
    };
    if (retryMs > QUIET_MS) {
      waiting ??= setTimeout(() => complain(`${url} has not taken an event yet; trying for ${values.retry}`), QUIET_MS);
    }
    inFlight.push({
      source: input.source,
      done: publisher.publish(input.event, input.payload, options).catch((error: PublishError) => error),
    });
    if (inFlight.length >= MAX_IN_FLIGHT) await settleOldest();
  }
  while (inFlight.length > 0) await settleOldest();
  if (isStopped) complain('stopped; the remaining events were not published');
  await publisher.close();
  return failed === 0 ? 0 : 1;
}

/** Whether the next event may succeed: the error is not about the token or the bridge. */
function isAboutTheEvent({ status }: PublishError): boolean {
  return status >= 400 && status < 500 && status !== 401 && status !== 429;
}

/** An input that cannot be published, and the place of the fault, for the terminal. */
class BadInput extends Error {
  readonly place: readonly string[];

  constructor(message: string, place: readonly string[] = []) {
    super(message);
    this.place = place;
  }
}

/** One event per line; or one event in all lines, if the first line is not JSON by itself. */
async function* inputsOf(event: string | undefined, stream: Readable): AsyncGenerator<Input | BadInput> {
  const whole: string[] = [];
  let number = 0;
  let isFirst = true;
  for await (const line of linesOf(stream)) {
    number++;
    if (whole.length > 0) whole.push(line);
    if (whole.length > 0 || line.trim() === '') continue;
    if (isFirst && 'fault' in parseJson(line)) whole.push(line);
    else yield parseInput(event, line, `line ${number}: `);
    isFirst = false;
  }
  if (whole.length === 0) return;
  const text = whole.join('\n');
  yield parseInput(event, text, '');
}

/**
 * Ends a line at a line feed only: node:readline also ends it at U+2028, which JSON text may contain. The decoder drops
 * the byte order mark that some programs write first.
 */
async function* linesOf(stream: Readable): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    const lines = `${rest}${decoder.decode(chunk, { stream: true })}`.split('\n');
    rest = lines.pop() ?? '';
    yield* lines;
  }
  rest += decoder.decode();
  if (rest !== '') yield rest;
}

/** Checks only that there is a payload; the bridge checks the rest. */
function parseInput(event: string | undefined, text: string, source: string): Input | BadInput {
  const parsed = parseJson(text);
  if ('fault' in parsed) {
    return new BadInput(`${source || 'the input is '}${faultText(parsed.fault, source !== '')}`, parsed.place);
  }
  const { value } = parsed;
  if (event !== undefined) return { source, event, payload: value as object, audience: {} };
  const { event: name, payload, rooms, tenantId } = (value ?? {}) as Readonly<Record<string, unknown>>;
  if (typeof name !== 'string' || payload === undefined) {
    return new BadInput(
      `${source || 'the input is '}not of the form {"event": …, "payload": …}; or give the event's name as an argument`,
    );
  }
  // Null counts as absent (protocol §9).
  const audience = { ...(rooms != null && { rooms }), ...(tenantId != null && { tenantId }) };
  return { source, event: name, payload: payload as object, audience: audience as Input['audience'] };
}
