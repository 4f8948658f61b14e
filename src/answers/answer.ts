/**
 * Routes answer directly on Node's response. The bridge leaves the global `Response` alone, for the sake of programs
 * that embed it (`overrideGlobalObjects: false`); a Hono `Response` with a body is then a web stream, which halves the
 * throughput. Headers that are already set on Node's response are sent too.
 */
import type { HttpBindings } from '@hono/node-server';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import type { Context } from 'hono';

export type BridgeContext = Context<{ Bindings: HttpBindings }>;
export type Handler = (context: BridgeContext) => Response | Promise<Response>;

export const JSON_TYPE = 'application/json';

/** Sends a complete answer. For HEAD, Node sends the headers without the body. */
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
