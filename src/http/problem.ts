/**
 * From an error to `application/problem+json` (RFC 9457, CONTRACT §10): one of the three translators of the table in
 * contract/errors.ts. What is not a `BridgeError` is a bare 500, told to the log with its cause and to nobody else.
 */
import { BridgeError, ERRORS } from '../contract/errors.ts';
import type { Logger } from '../log.ts';
import type { Metrics } from '../metrics/metrics.ts';
import { answer, type BridgeContext } from './answer.ts';

export const PROBLEM_TYPE = 'application/problem+json';

/** The stable name of a kind of problem, for the document's `type`. */
export const problemUrn = (code: string): string => `urn:roomcast:error:${code}`;

export interface ProblemDeps {
  readonly metrics: Metrics;
  readonly log: Logger;
}

export function answerProblem(context: BridgeContext, error: unknown, { metrics, log }: ProblemDeps): Response {
  const { method, path } = context.req;
  const known =
    error instanceof BridgeError ? error : new BridgeError('internal', 'Something went wrong on this side.');
  if (known !== error) log.error({ err: error, method, path }, 'a request failed');
  metrics.refused(known.code);
  const { outgoing } = context.env;
  if (outgoing.headersSent) {
    // Half an answer is out: only cutting the connection tells the client that it is not whole.
    outgoing.destroy();
    return answer(context, known.status, {});
  }
  const headers: Record<string, string> = { 'Content-Type': PROBLEM_TYPE, 'Cache-Control': 'no-store' };
  if (known.retryAfterSeconds !== undefined) headers['Retry-After'] = String(Math.ceil(known.retryAfterSeconds));
  // RFC 9110 §11.6.1: a 401 names how to authenticate.
  if (known.status === 401) headers['WWW-Authenticate'] = 'Bearer';
  return answer(context, known.status, headers, JSON.stringify(problemOf(known)));
}

export function problemOf(error: BridgeError): Record<string, unknown> {
  const { code, status, message, errors, fields } = error;
  const { title } = ERRORS[code];
  return { type: problemUrn(code), title, status, detail: message, code, ...(errors && { errors }), ...fields };
}
