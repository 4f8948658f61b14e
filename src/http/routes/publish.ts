/**
 * `POST /events` (protocol §9): one event or a batch, all or nothing, answered once the log holds it durably.
 *
 * The body is checked here for its outer shape only; names and payloads are the bus's, which also serves publishers in
 * the process. What travels is the parsed value as it is, never a schema's output.
 */
import type { IncomingMessage } from 'node:http';
import { answer, type BridgeContext, type Handler, JSON_TYPE } from '../../answers/answer.ts';
import { createRateLimit } from '../../auth/limits.ts';
import { mayPublish, type Principal, publisherKey } from '../../auth/principal.ts';
import type { Bus, PublishInput } from '../../bus/bus.ts';
import type { Config } from '../../config.ts';
import { BridgeError } from '../../contract/errors.ts';
import { IDEMPOTENCY_KEY, IDEMPOTENCY_KEY_RULE } from '../../contract/publishing.ts';

/** protocol §9: more is a 400. */
export const MAX_BATCH = 1000;

export interface PublishDeps {
  readonly config: Config;
  readonly bus: Bus;
  readonly authenticate: (context: BridgeContext) => Promise<Principal>;
}

export function createPublishRoute({ config, bus, authenticate }: PublishDeps): Handler {
  const limit = config.ratePublish === null ? null : createRateLimit(config.ratePublish);

  return async (context) => {
    const principal = await authenticate(context);
    if (principal.kind === 'token' && !principal.scopes.has('publish')) {
      throw new BridgeError('forbidden', 'The token may not publish.');
    }
    const publisher = publisherKey(principal);
    const waitSeconds = limit?.waitSeconds(publisher) ?? 0;
    if (waitSeconds > 0) {
      throw new BridgeError('rate_limited', `At most ${config.ratePublish} publishes a second are allowed.`, {
        retryAfterSeconds: waitSeconds,
      });
    }
    // Taken before the body is read, so that bodies which are held back do not all get in on one look.
    limit?.take(publisher);
    const { incoming } = context.env;
    const idempotencyKey = idempotencyKeyOf(incoming);
    requireJson(incoming);
    const body = parseJson(await readBody(incoming, config.maxBodyBytes));
    const { inputs, isBatch } = inputsOf(body);
    limit?.take(publisher, inputs.length - 1);
    const results = await bus.publish(inputs, {
      idempotencyKey,
      publisher,
      mayPublish: (tenantId) => mayPublish(principal, tenantId),
      ...(isBatch ? { pathOf: (index: number) => `/events/${index}` } : {}),
    });
    const status = results.every(({ duplicate }) => duplicate) ? 200 : 201;
    const headers = { 'Content-Type': JSON_TYPE, 'Cache-Control': 'no-store' };
    return answer(context, status, headers, JSON.stringify(isBatch ? { results } : results[0]));
  };
}

function idempotencyKeyOf({ headers }: IncomingMessage): string | null {
  const key = headers['idempotency-key'];
  if (key === undefined) return null;
  // More than one header arrives joined by a space.
  if (typeof key === 'string' && IDEMPOTENCY_KEY.test(key)) return key;
  throw new BridgeError('invalid_request', `Idempotency-Key ${IDEMPOTENCY_KEY_RULE}.`, {
    errors: [{ path: 'Idempotency-Key', message: IDEMPOTENCY_KEY_RULE }],
  });
}

/** `application/json`, in UTF-8 (RFC 8259 §8.1), not compressed. */
function requireJson({ headers }: IncomingMessage): void {
  const [type = '', ...parameters] = (headers['content-type'] ?? '')
    .split(';')
    .map((part) => part.trim().toLowerCase());
  const charset = parameters.find((parameter) => parameter.startsWith('charset='))?.slice('charset='.length);
  if (type !== JSON_TYPE || (charset !== undefined && !/^"?utf-?8"?$/.test(charset))) {
    throw new BridgeError('unsupported_media_type', `Content-Type must be ${JSON_TYPE}, in UTF-8.`);
  }
  if ((headers['content-encoding'] ?? 'identity').toLowerCase() !== 'identity') {
    throw new BridgeError('unsupported_media_type', 'Content-Encoding is not supported.');
  }
}

/**
 * The whole body, or 413 as soon as it is known to be too large. The rest of it is left unread: the server lets go of
 * it, and of the connection when there is much more, after the answer.
 */
function readBody(incoming: IncomingMessage, maxBytes: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const tooLarge = () => new BridgeError('body_too_large', `The body may have at most ${maxBytes} bytes.`);
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
    const onCut = (): void => settle(() => reject(new BridgeError('invalid_request', 'The body ended too early.')));
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
    throw new BridgeError('invalid_json', 'The body is not UTF-8.');
  }
  try {
    return JSON.parse(text);
  } catch {
    // The parser's message quotes the body, which may hold what no log or answer should.
    throw new BridgeError('invalid_json', 'The body is not JSON.');
  }
}

interface Inputs {
  readonly inputs: readonly PublishInput[];
  readonly isBatch: boolean;
}

function inputsOf(body: unknown): Inputs {
  if (!isObject(body)) throw wrongShape('', 'must be an object');
  const isBatch = Object.hasOwn(body, 'events');
  if (isBatch === Object.hasOwn(body, 'event')) throw wrongShape('', 'must have either event and payload, or events');
  if (!isBatch) return { inputs: [inputOf(body)], isBatch };
  const { events } = body;
  if (!Array.isArray(events)) throw wrongShape('/events', 'must be an array');
  if (events.length === 0) throw wrongShape('/events', 'must have at least one event');
  if (events.length > MAX_BATCH) {
    throw new BridgeError(
      'batch_too_large',
      `A batch may have at most ${MAX_BATCH} events; this one has ${events.length}.`,
    );
  }
  const misshapen = events.findIndex((event) => !isObject(event));
  if (misshapen !== -1) throw wrongShape(`/events/${misshapen}`, 'must be an object with event and payload');
  return { inputs: events.map(inputOf), isBatch };
}

const inputOf = ({ event, payload }: Readonly<Record<string, unknown>>): PublishInput => ({ event, payload });

function wrongShape(path: string, message: string): BridgeError {
  return new BridgeError('invalid_body', `${path === '' ? 'The body' : path} ${message}.`, {
    errors: [{ path, message }],
  });
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
