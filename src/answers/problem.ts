/**
 * From an error to `application/problem+json` (RFC 9457, protocol §10): one of the three translators of the table in
 * contract/errors.ts. What is not a `BridgeError` is a bare 500, told to the log with its cause and to nobody else.
 */
import { STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import { BridgeError, ERRORS } from '../contract/errors.ts';
import type { Logger } from '../logger.ts';
import type { Metrics } from '../metrics/metrics.ts';
import { answer, type BridgeContext } from './answer.ts';
import { SECURITY_HEADERS } from './headers.ts';

export const PROBLEM_TYPE = 'application/problem+json';

/** The stable name of a kind of problem, for the document's `type`. */
export const problemUrn = (code: string): string => `urn:roomcast:error:${code}`;

export interface ProblemDeps {
  readonly metrics: Metrics;
  readonly logger: Logger;
}

/** What the client is told, counted; what is not a `BridgeError` is told to the log, with what was asked. */
export function refusalOf(error: unknown, { metrics, logger }: ProblemDeps, asked: object): BridgeError {
  const known =
    error instanceof BridgeError ? error : new BridgeError('internal', 'Something went wrong on this side.');
  if (known !== error) logger.error({ err: error, ...asked }, 'a request failed');
  metrics.refused(known.code);
  return known;
}

export function answerProblem(context: BridgeContext, error: unknown, deps: ProblemDeps): Response {
  const { method, path } = context.req;
  const known = refusalOf(error, deps, { method, path });
  const { outgoing } = context.env;
  if (outgoing.headersSent) {
    // Half an answer is out: only cutting the connection tells the client that it is not whole.
    outgoing.destroy();
    return answer(context, known.status, {});
  }
  const { status, headers, body } = problemAnswer(known);
  return answer(context, status, headers, body);
}

export interface ProblemAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

export function problemAnswer(error: BridgeError): ProblemAnswer {
  const { status, retryAfterSeconds } = error;
  return {
    status,
    headers: {
      'Content-Type': PROBLEM_TYPE,
      'Cache-Control': 'no-store',
      ...(retryAfterSeconds === undefined ? {} : { 'Retry-After': String(Math.ceil(retryAfterSeconds)) }),
      // RFC 9110 §11.6.1: a 401 names how to authenticate.
      ...(status === 401 ? { 'WWW-Authenticate': 'Bearer' } : {}),
    },
    body: JSON.stringify(problemOf(error)),
  };
}

/** The last that a connection without a response is sent: its upgrade is refused, or what it sent is no request. */
export function endWithProblem(socket: Duplex, error: BridgeError): void {
  const { status, headers, body } = problemAnswer(error);
  const lines = [
    ...SECURITY_HEADERS,
    ...Object.entries(headers),
    ['Content-Length', Buffer.byteLength(body)],
    ['Connection', 'close'],
  ].map(([name, value]) => `${name}: ${value}\r\n`);
  socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${lines.join('')}\r\n${body}`);
}

function problemOf(error: BridgeError): Record<string, unknown> {
  const { code, status, message, errors, fields } = error;
  const { title } = ERRORS[code];
  return { type: problemUrn(code), title, status, detail: message, code, ...(errors && { errors }), ...fields };
}
