/**
 * How a route answers: straight on Node's response. With Hono's own globals (`overrideGlobalObjects: false`, so that an
 * embedding program keeps its `Response`) a `Response` with a body is a web stream, at about half the throughput.
 *
 * Headers that middleware set on the raw response go along, for these answers as for the transports that stream.
 */
import type { HttpBindings } from '@hono/node-server';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import type { Context } from 'hono';

export type BridgeContext = Context<{ Bindings: HttpBindings }>;
export type Handler = (context: BridgeContext) => Response | Promise<Response>;

export const JSON_TYPE = 'application/json';

/** Sends the whole answer. For HEAD, Node keeps the headers and leaves the body out. */
export function answer(
  context: BridgeContext,
  status: number,
  headers: Readonly<Record<string, string>>,
  body = '',
): Response {
  const { outgoing } = context.env;
  if (!outgoing.destroyed) {
    outgoing.writeHead(
      status,
      status === 204 || status === 304 ? headers : { ...headers, 'Content-Length': Buffer.byteLength(body) },
    );
    outgoing.end(body);
  }
  return RESPONSE_ALREADY_SENT;
}

/** Sends JSON that no cache may store. */
export function answerJson(context: BridgeContext, status: number, body: string): Response {
  return answer(context, status, { 'Content-Type': JSON_TYPE, 'Cache-Control': 'no-store' }, body);
}

export const queryOf = (context: BridgeContext): URLSearchParams => new URL(context.req.url).searchParams;
