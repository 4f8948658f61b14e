/**
 * Errors as `application/problem+json` (RFC 9457, protocol §10): one of the three translators of the table in
 * contract/errors.ts. An error that is not a `BridgeError` becomes a bare 500; only the logger receives its cause.
 */
import { STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import { BridgeError, ERRORS } from '../contract/errors.ts';
import type { Logger } from '../logger.ts';
import { answer, type BridgeContext } from './answer.ts';
import { REQUEST_ID, requestIdOf, SECURITY_HEADERS } from './headers.ts';
import { type Refusals, type Refused, type Requester, requestLine } from './refusals.ts';

export const PROBLEM_TYPE = 'application/problem+json';

/** The `type` of a problem document. */
export const problemUrn = (code: string): string => `urn:roomcast:error:${code}`;

export interface ProblemDeps {
  readonly refusals: Pick<Refusals, 'add'>;
  readonly logger: Logger;
}

/** The error to answer with, counted and kept for operators. An unexpected error is logged together with `context`. */
export function refusalOf(
  error: unknown,
  { refusals, logger }: ProblemDeps,
  refused: Pick<Refused, 'transport' | 'what'>,
  requester: Requester,
  context: object = {},
): BridgeError {
  const refusal =
    error instanceof BridgeError ? error : new BridgeError('internal', 'The bridge failed to process the request.');
  if (refusal !== error) logger.error({ err: error, ...context }, 'a request failed');
  refusals.add(refusal, refused, requester);
  return refusal;
}

/** @param transport of the route */
export function answerProblem(
  context: BridgeContext,
  error: unknown,
  transport: Refused['transport'],
  deps: ProblemDeps,
): Response {
  const { method, path } = context.req;
  const { incoming, outgoing } = context.env;
  const requestId = requestIdOf(outgoing);
  const refused = { transport, what: requestLine(incoming) };
  const refusal = refusalOf(error, deps, refused, incoming, { requestId, method, path });
  // After half an answer, only a cut connection shows the client that the answer is incomplete.
  if (outgoing.headersSent) outgoing.destroy();
  const { status, headers, body } = problemAnswer(refusal, requestId);
  return answer(context, status, headers, body);
}

export function problemAnswer(error: BridgeError, requestId: string) {
  const { code, status, message, errors, fields, retryAfterSeconds } = error;
  const { title } = ERRORS[code];
  const problem = { type: problemUrn(code), title, status, detail: message, code, requestId, errors, ...fields };
  return {
    status,
    headers: {
      'Content-Type': PROBLEM_TYPE,
      'Cache-Control': 'no-store',
      ...(retryAfterSeconds === undefined ? {} : { 'Retry-After': String(Math.ceil(retryAfterSeconds)) }),
      // RFC 9110 §11.6.1: a 401 names an authentication scheme.
      ...(status === 401 ? { 'WWW-Authenticate': 'Bearer' } : {}),
    },
    body: JSON.stringify(problem),
  };
}

/** Answers and closes a connection that has no response: a refused upgrade, or bytes that are not HTTP. */
export function endWithProblem(socket: Duplex, error: BridgeError, requestId: string): void {
  const { status, headers, body } = problemAnswer(error, requestId);
  const lines = [
    ...SECURITY_HEADERS,
    [REQUEST_ID, requestId],
    ...Object.entries(headers),
    ['Content-Length', Buffer.byteLength(body)],
    ['Connection', 'close'],
  ].map(([name, value]) => `${name}: ${value}\r\n`);
  // Node takes its own listeners off a socket that it hands over. A reset that nobody hears ends the process.
  socket.on('error', () => socket.destroy());
  socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${lines.join('')}\r\n${body}`);
}
