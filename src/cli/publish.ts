/**
 * `roomcast publish`: events from arguments, a file or standard input, in order. Each is in the log once its id is
 * printed; what is refused is said with its line and fields, and does not stop the others. Where the bridge itself
 * cannot be had, the rest is not tried: exactly the events without an id are left.
 */
import { createReadStream } from 'node:fs';
import type { Readable } from 'node:stream';
import { createPublisher, PublishError, type Published } from '../client/publisher.ts';
import {
  BRIDGE_FLAGS,
  BRIDGE_HELP,
  bearerToken,
  bridgeUrl,
  causeOf,
  parseFlags,
  secondsOf,
  UsageError,
} from './arguments.ts';

export const PUBLISH_HELP = `Publishes events, and prints the id (the cursor) of each once the log holds it.

Usage: roomcast publish EVENT PAYLOAD            one event; the payload is JSON text
       roomcast publish EVENT [--file FILE]      payloads: a JSON document, or one a line
       roomcast publish [--file FILE]            events: {"event": …, "payload": …}, likewise

Without --file, and with --file -, they come from standard input.

  --file FILE      JSON, or NDJSON (one a line)
  --json           print each whole answer: {"id", "event", "rooms", "duplicate"}
  --idempotency-key KEY
                   a repeat under the same key doubles nothing. Of several events the first
                   goes under KEY, the next under KEY:2, and so on
  --retry TIME     how long to go on trying when the bridge cannot be had (default 5s)
${BRIDGE_HELP}

A repeated message (the same messageId or providerMessageId) prints the id that it had.
Exit codes: 0 all are in the log, 1 some are not (each is named on standard error), 2 used wrongly.

Examples:
  roomcast publish tickets.updated '{"tenantId":"tenant-1","ticketId":"ticket-1","ticketStatus":"OPEN",
    "ticketUpdatedAt":"2024-06-01T12:00:00Z","ticket":{"subject":"Hello"}}'
  roomcast tail --tenant tenant-1 --after start --json | roomcast publish --url https://other.example
`;

const FLAGS = {
  ...BRIDGE_FLAGS,
  file: { type: 'string' },
  json: { type: 'boolean', default: false },
  'idempotency-key': { type: 'string' },
  retry: { type: 'string', default: '5s' },
} as const;

/** Events that are under way at a time: two full requests. */
const MOST_UNDER_WAY = 1_000;

interface Input {
  /** Where it came from, for messages: `line 3: `. */
  readonly place: string;
  readonly event: string;
  readonly payload: object;
}

export async function publish(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseFlags('publish', argv, FLAGS, 2);
  const [event, payload] = positionals;
  const { file, json, 'idempotency-key': key } = values;
  if (payload !== undefined && file !== undefined) {
    throw new UsageError('it takes a payload or --file, not both', 'publish');
  }
  if (key !== undefined && !/^[\x21-\x7e]{1,240}$/.test(key)) {
    throw new UsageError('--idempotency-key takes 1 to 240 visible ASCII characters', 'publish');
  }
  const fromStdin = payload === undefined && (file === undefined || file === '-');
  if (fromStdin && process.stdin.isTTY) throw new UsageError('there is nothing to publish', 'publish');

  const url = bridgeUrl('publish', values.url);
  const token = bearerToken('publish', values.token);
  const retryMs = secondsOf('publish', 'retry', values.retry) * 1000;
  const publisher = createPublisher({ url, retryMs, ...(token === undefined ? {} : { token }) });
  const underWay: { readonly place: string; readonly done: Promise<Published | PublishError> }[] = [];
  let failed = 0;
  let isGivenUp = false;

  /** Waits for the oldest, so that ids come out in the order of the events. */
  async function settle(): Promise<void> {
    const { place, done } = underWay.shift() as (typeof underWay)[number];
    const outcome = await done;
    if (!(outcome instanceof PublishError)) {
      process.stdout.write(`${json ? JSON.stringify(outcome) : outcome.id}\n`);
      return;
    }
    failed++;
    if (isGivenUp && outcome.code === 'closed') return;
    complain(place, outcome);
    if (isEventsOwnFault(outcome)) return;
    isGivenUp = true;
    void publisher.close(0);
  }

  const inputs =
    payload === undefined
      ? inputsOf(event, fromStdin ? process.stdin : createReadStream(file as string))
      : [parseInput(event, payload, '')];
  let count = 0;
  for await (const input of inputs) {
    if (isGivenUp) break;
    if (input instanceof Error) {
      if (payload !== undefined) throw new UsageError(input.message, 'publish');
      failed++;
      process.stderr.write(`roomcast: ${input.message}\n`);
      continue;
    }
    count++;
    const options = key === undefined ? {} : { idempotencyKey: count === 1 ? key : `${key}:${count}` };
    underWay.push({
      place: input.place,
      done: publisher.publish(input.event, input.payload, options).catch((error: PublishError) => error),
    });
    if (underWay.length >= MOST_UNDER_WAY) await settle();
  }
  while (underWay.length > 0) await settle();
  if (isGivenUp) process.stderr.write('roomcast: gave up; the rest was not published\n');
  await publisher.close();
  return failed === 0 ? 0 : 1;
}

/** Whether another event may fare better: else the token or the bridge is at fault. */
function isEventsOwnFault({ status }: PublishError): boolean {
  return status >= 400 && status < 500 && status !== 401 && status !== 429;
}

/** The fields at fault, where the bridge names them; else its sentence. */
function complain(place: string, error: PublishError): void {
  const fields = error.errors.map(({ path, message }) => `\n  ${path}: ${message}`).join('');
  process.stderr.write(`roomcast: ${place}${error.code}:${fields || ` ${error.message}`}${causeOf(error)}\n`);
}

/** One event a line; or, where the first line is no JSON by itself, one that spans all of them. */
async function* inputsOf(event: string | undefined, stream: Readable): AsyncGenerator<Input | Error> {
  const whole: string[] = [];
  let number = 0;
  let isFirst = true;
  for await (const line of linesOf(stream)) {
    number++;
    if (whole.length > 0) whole.push(line);
    if (whole.length > 0 || line.trim() === '') continue;
    if (isFirst && parseJson(line) === undefined) whole.push(line);
    else yield parseInput(event, line, `line ${number}: `);
    isFirst = false;
  }
  if (whole.length === 0) return;
  const text = whole.join('\n');
  if (parseJson(text) === undefined) yield new Error('it is not JSON, neither the first line nor all of it');
  else yield parseInput(event, text, '');
}

/**
 * A line ends at a line feed only: node:readline ends it at U+2028 too, which JSON text may hold. The byte order mark
 * that some programs put before all else is no part of the first.
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

/** The bridge checks the payload; here only whether there is one. */
function parseInput(event: string | undefined, text: string, place: string): Input | Error {
  const value = parseJson(text);
  if (value === undefined) return new Error(`${place}it is not JSON`);
  if (event !== undefined) return { place, event, payload: value as object };
  const { event: name, payload } = (value ?? {}) as { readonly event?: unknown; readonly payload?: unknown };
  if (typeof name !== 'string' || payload === undefined) {
    return new Error(`${place}it takes {"event": …, "payload": …}, or the event's name as an argument`);
  }
  return { place, event: name, payload: payload as object };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
