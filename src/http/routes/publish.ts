/**
 * `POST /events` (protocol §9): publishes one event or a batch, all or nothing, and answers once it is durable.
 *
 * This route checks the outer shape of the body. The bus checks names and payloads, because it also serves publishers in
 * the same process. The payload goes on as it was parsed, never as a schema's output.
 */
import type { IncomingMessage } from 'node:http';
import { answerJson, type BridgeContext, type Handler, JSON_TYPE } from '../../answers/answer.ts';
import { locateJsonFault } from '../../answers/json.ts';
import { requireNoQuery } from '../../answers/query.ts';
import { createRateLimit } from '../../auth/limits.ts';
import { mayPublish, type Principal, publisherKey } from '../../auth/principal.ts';
import type { Bus } from '../../bus/bus.ts';
import type { PublishInput } from '../../bus/publish.ts';
import type { Config } from '../../config.ts';
import { BridgeError, type FieldError, fieldsError, pointerOf } from '../../contract/errors.ts';
import { nearest } from '../../contract/nearest.ts';
import { IDEMPOTENCY_KEY, IDEMPOTENCY_KEY_RULE, MAX_BATCH } from '../../contract/publishing.ts';

export interface PublishDeps {
  readonly config: Config;
  readonly bus: Bus;
  readonly authenticate: (context: BridgeContext) => Promise<Principal>;
}

export function createPublishRoute({ config, bus, authenticate }: PublishDeps): Handler {
  const limit = config.ratePublish === null ? null : createRateLimit(config.ratePublish);

  return async (context) => {
    const principal = await authenticate(context);
    requireNoQuery(context);
    if (principal.kind === 'token' && !principal.scopes.has('publish')) {
      throw new BridgeError('forbidden', 'The token may not publish. Use one with the scope publish.');
    }
    const publisher = publisherKey(principal);
    limit?.requireToken(publisher, 'events');
    // Counted before the body is read: otherwise many requests that hold back their bodies would pass the check together.
    limit?.take(publisher);
    const { incoming } = context.env;
    const idempotencyKey = idempotencyKeyOf(incoming);
    requireJson(incoming);
    const { inputs, isBatch } = inputsOf(parseJson(await readBody(incoming, config.maxBodyBytes)));
    limit?.take(publisher, inputs.length - 1);
    const results = await bus.publish(inputs, {
      idempotencyKey,
      publisher,
      mayPublish: (tenantId) => mayPublish(principal, tenantId),
      ...(isBatch ? { pathOf: (index: number) => `/events/${index}` } : {}),
    });
    const status = results.every(({ duplicate }) => duplicate) ? 200 : 201;
    return answerJson(context, status, JSON.stringify(isBatch ? { results } : results[0]));
  };
}

function idempotencyKeyOf({ headers }: IncomingMessage): string | null {
  const key = headers['idempotency-key'];
  if (key === undefined) return null;
  // Node joins repeated headers with a comma and a space; the space fails the check.
  if (typeof key === 'string' && IDEMPOTENCY_KEY.test(key)) return key;
  const path = 'Idempotency-Key';
  throw fieldsError('invalid_request', [{ in: 'header', path, message: IDEMPOTENCY_KEY_RULE }]);
}

/** Only uncompressed `application/json` in UTF-8 (RFC 8259 §8.1). */
function requireJson({ headers }: IncomingMessage): void {
  const [type = '', ...parameters] = (headers['content-type'] ?? '')
    .split(';')
    .map((text) => text.trim().toLowerCase());
  const charset = parameters.find((parameter) => parameter.startsWith('charset='))?.slice('charset='.length);
  if (type !== JSON_TYPE || (charset !== undefined && !/^"?utf-?8"?$/.test(charset))) {
    throw new BridgeError('unsupported_media_type', `Content-Type must be ${JSON_TYPE} in UTF-8.`);
  }
  if ((headers['content-encoding'] ?? 'identity').toLowerCase() !== 'identity') {
    throw new BridgeError('unsupported_media_type', 'Content-Encoding is not supported. Send the body uncompressed.');
  }
}

/**
 * Rejects with 413 as soon as the body is known to be too large, and leaves the rest unread: after the answer, the server
 * discards it, or closes the connection if much is left.
 */
function readBody(incoming: IncomingMessage, maxBytes: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const tooLarge = () =>
      new BridgeError(
        'body_too_large',
        `The body exceeds ${maxBytes} bytes. Send fewer events in one request, or raise MAX_BODY_BYTES.`,
      );
    if (Number(incoming.headers['content-length'] ?? 0) > maxBytes) return reject(tooLarge());

    const settle = (act: () => void): void => {
      incoming.off('data', onData).off('end', onEnd).off('error', onCut).off('close', onCut);
      act();
    };
    const onData = (chunk: Buffer): void => {
      size += chunk.length;
      chunks.push(chunk);
      if (size <= maxBytes) return;
      incoming.pause();
      settle(() => reject(tooLarge()));
    };
    const onEnd = (): void =>
      settle(() => resolve(chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks)));
    const onCut = (): void =>
      settle(() => reject(new BridgeError('invalid_request', 'The body ended early. Send the request again.')));
    incoming.on('data', onData).on('end', onEnd).on('error', onCut).on('close', onCut);
    if (incoming.destroyed) onCut();
  });
}

const utf8 = new TextDecoder('utf-8', { fatal: true });

function parseJson(bytes: Buffer): unknown {
  let text: string;
  try {
    text = utf8.decode(bytes);
  } catch {
    throw invalidJson('is not valid UTF-8; encode it as UTF-8');
  }
  try {
    return JSON.parse(text);
  } catch {
    if (text.trim() === '') throw invalidJson('is required: one JSON object');
    // No `cause`: the parser's message quotes the body, which may contain secrets.
    const { line, column, expected } = locateJsonFault(text);
    throw invalidJson(`is not valid JSON at line ${line}, column ${column}: expected ${expected}`);
  }
}

const invalidJson = (message: string): BridgeError => fieldsError('invalid_json', [{ in: 'body', path: '', message }]);

function inputsOf(body: unknown): { readonly inputs: readonly PublishInput[]; readonly isBatch: boolean } {
  if (!isObject(body)) throw wrongShape('', 'must be a JSON object');
  const isBatch = Object.hasOwn(body, 'events');
  if (isBatch && Object.hasOwn(body, 'event'))
    throw wrongShape('', 'must have either the members event and payload, or the member events');
  if (!isBatch && !Object.hasOwn(body, 'event'))
    throw wrongShape('/event', 'is required and must be the name of an event (or send a batch, which has events)');
  const errors = faultsOfMembers(body, isBatch ? BATCH_MEMBERS : EVENT_MEMBERS, '');
  const events = isBatch ? body.events : [body];
  if (!Array.isArray(events)) throw wrongShape('/events', 'must be an array');
  if (events.length === 0) throw wrongShape('/events', 'must have at least one event');
  if (events.length > MAX_BATCH) {
    throw new BridgeError(
      'batch_too_large',
      `The batch has ${events.length} events; the maximum is ${MAX_BATCH}. Split it.`,
    );
  }
  const inputs = events.map((event: unknown, index): PublishInput => {
    if (!isObject(event))
      throw wrongShape(`/events/${index}`, 'must be a JSON object with the members event and payload');
    if (isBatch) errors.push(...faultsOfMembers(event, EVENT_MEMBERS, `/events/${index}`));
    const { event: name, payload, tenantId, rooms } = event;
    return { event: name, payload, tenantId: tenantId ?? null, rooms: rooms ?? null };
  });
  const [first, ...rest] = errors;
  if (first !== undefined) throw fieldsError('invalid_body', [first, ...rest.slice(0, MAX_FAULTS)]);
  return { inputs, isBatch };
}

const BATCH_MEMBERS = ['events'];
const EVENT_MEMBERS = ['event', 'payload', 'tenantId', 'rooms'];
/** Faults that one answer lists. */
const MAX_FAULTS = 100;

function faultsOfMembers(object: Members, known: readonly string[], path: string): FieldError[] {
  const errors: FieldError[] = [];
  for (const name of Object.keys(object)) {
    if (known.includes(name)) continue;
    const near = nearest(name, known);
    const hint = near === null ? `the members are ${known.join(', ')}` : `did you mean ${near}?`;
    errors.push({ in: 'body', path: path + pointerOf(name), message: `must be absent; ${hint}` });
    if (errors.length === MAX_FAULTS) break;
  }
  return errors;
}

const wrongShape = (path: string, message: string): BridgeError =>
  fieldsError('invalid_body', [{ in: 'body', path, message }]);

type Members = Readonly<Record<string, unknown>>;

function isObject(value: unknown): value is Members {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
