/**
 * JSON bodies: how a route reads one, and the faults that all routes report alike (protocol §10).
 */
import type { IncomingMessage } from 'node:http';
import { BridgeError, type FieldError, fieldsError, MAX_BODY_FAULTS, pointerOf } from '../contract/errors.ts';
import { nearest } from '../contract/nearest.ts';
import { JSON_TYPE } from './answer.ts';
import { locateJsonFault } from './json.ts';

/** Only uncompressed `application/json` in UTF-8 (RFC 8259 §8.1). */
function requireJson({ headers }: IncomingMessage): void {
  if (headers['content-type'] === JSON_TYPE && headers['content-encoding'] === undefined) return;
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
 * Reads a JSON body.
 * @throws {BridgeError} `unsupported_media_type`, `body_too_large`, `invalid_json`, `invalid_request` if it ends early
 */
export function readJson(incoming: IncomingMessage, maxBytes: number): Promise<unknown> {
  return new Promise((resolve, reject) => {
    requireJson(incoming);
    readBody(incoming, maxBytes, reject, (body) => {
      try {
        resolve(parseJson(body));
      } catch (error) {
        reject(error);
      }
    });
  });
}

/**
 * Fails with 413 as soon as the body is known to be too large, and leaves the rest unread: after the answer, the server
 * discards it, or closes the connection if much is left.
 */
function readBody(
  incoming: IncomingMessage,
  maxBytes: number,
  fail: (error: BridgeError) => void,
  done: (body: Buffer) => void,
): void {
  const chunks: Buffer[] = [];
  let size = 0;
  const tooLarge = () =>
    new BridgeError(
      'body_too_large',
      `The body exceeds ${maxBytes} bytes. Send less in one request, or raise MAX_BODY_BYTES.`,
    );
  if (Number(incoming.headers['content-length'] ?? 0) > maxBytes) {
    fail(tooLarge());
    return;
  }

  const onData = (chunk: Buffer): void => {
    size += chunk.length;
    chunks.push(chunk);
    if (size <= maxBytes) return;
    incoming.off('data', onData).pause();
    fail(tooLarge());
  };
  // Both end the body, and only the first of them counts. An error comes with `close`.
  const onEnd = (): void => done(chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks));
  const onCut = (): void => {
    if (!incoming.readableEnded)
      fail(new BridgeError('invalid_request', 'The body ended early. Send the request again.'));
  };
  incoming.on('data', onData).on('end', onEnd).on('close', onCut);
  if (incoming.destroyed) onCut();
}

/** Longest that a client may go on sending a body whose answer it has. Then its connection is closed. */
const DISCARD_MS = 500;

/** For what is left of a body once the answer was sent: reads it, so that the connection serves the next request. */
export function discardBody(incoming: IncomingMessage): void {
  if (incoming.readableEnded || incoming.destroyed) return;
  incoming.resume();
  if (incoming.complete) return;
  const tooLong = setTimeout(() => incoming.socket.destroySoon(), DISCARD_MS);
  const end = (): void => clearTimeout(tooLong);
  incoming.on('end', end).on('close', end);
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

/** What nearly every body has: {@link faultsOfMembers} would find none. */
export function hasOnlyMembers(object: Members, known: readonly string[]): boolean {
  for (const name in object) if (!known.includes(name)) return false;
  return true;
}

/** The members of a JSON object that a route does not know, with the nearest known name of each. */
export function faultsOfMembers(object: Members, known: readonly string[], path: string): FieldError[] {
  const errors: FieldError[] = [];
  for (const name of Object.keys(object)) {
    if (known.includes(name)) continue;
    const near = nearest(name, known);
    const hint = near === null ? `the members are ${known.join(', ')}` : `did you mean ${near}?`;
    errors.push({ in: 'body', path: path + pointerOf(name), message: `must be absent; ${hint}` });
    if (errors.length === MAX_BODY_FAULTS) break;
  }
  return errors;
}

export const wrongShape = (path: string, message: string): BridgeError =>
  fieldsError('invalid_body', [{ in: 'body', path, message }]);

export type Members = Readonly<Record<string, unknown>>;

export function isObject(value: unknown): value is Members {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
