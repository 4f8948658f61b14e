/**
 * Routes answer directly on Node's response. The bridge leaves the global `Response` alone, for the sake of programs
 * that embed it (`overrideGlobalObjects: false`); a Hono `Response` with a body is then a web stream, which halves the
 * throughput. Headers that are already set on Node's response are sent too.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { pipeline } from 'node:stream/promises';
import type { HttpBindings } from '@hono/node-server';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import type { Context } from 'hono';
import type { Principal } from '../auth/principal.ts';
import { hasExchangeEnded } from './exchange.ts';

export type BridgeContext = Context<{ Bindings: HttpBindings }>;
export type Handler = (context: BridgeContext) => Response | Promise<Response>;

/**
 * Who sends a request. No promise where that is known at once.
 * @throws {BridgeError} `unauthorized`, `token_expired`, `forbidden`, `unavailable`
 */
export type Authenticate = (context: BridgeContext) => Principal | Promise<Principal>;

export const JSON_TYPE = 'application/json';

/** A text of at most this many characters is sent whole: the network takes about as much at once. */
const WHOLE_CHARS = 64 * 1024;

export const isSentWhole = (chars: number): boolean => chars <= WHOLE_CHARS;

/** See transports/gate.ts. */
interface AnswerGate {
  admitAnswer(request: IncomingMessage, response: ServerResponse): void;
}

/** Sends a complete answer. For HEAD, Node sends the headers without the body. */
export function answer(
  context: BridgeContext,
  status: number,
  headers: Readonly<Record<string, string>>,
  body: string | Buffer = '',
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

/**
 * Sends a 200 of any length as its client takes it: the next of `texts` is asked for when the last one has left. An error
 * on the way cuts the connection, since only that shows the client that the answer is incomplete.
 * @throws {BridgeError} `too_many_connections`: the answer counts as a connection from its start
 */
export async function answerStream(
  { env: { incoming, outgoing } }: BridgeContext,
  gate: AnswerGate,
  headers: Readonly<Record<string, string>>,
  texts: AsyncIterable<string>,
): Promise<Response> {
  if (hasExchangeEnded(incoming, outgoing)) return RESPONSE_ALREADY_SENT;
  gate.admitAnswer(incoming, outgoing);
  outgoing.writeHead(200, headers);
  if (incoming.method === 'HEAD') outgoing.end();
  else {
    await pipeline(inPieces(texts), outgoing).catch((error: NodeJS.ErrnoException) => {
      // The client has gone.
      if (error.code !== 'ERR_STREAM_PREMATURE_CLOSE') throw error;
    });
  }
  return RESPONSE_ALREADY_SENT;
}

/** A write for each of a thousand small items would cost more than the items. */
async function* inPieces(texts: AsyncIterable<string>): AsyncGenerator<string> {
  let piece = '';
  for await (const text of texts) {
    piece += text;
    if (piece.length < WHOLE_CHARS) continue;
    yield piece;
    piece = '';
  }
  yield piece;
}

export const UNCACHED_JSON = { 'Content-Type': JSON_TYPE, 'Cache-Control': 'no-store' };

/** Sends JSON that no cache may store. */
export function answerJson(context: BridgeContext, status: number, body: string): Response {
  return answer(context, status, UNCACHED_JSON, body);
}

const NO_QUERY = new URLSearchParams();

export const queryOf = ({ env, req }: BridgeContext): URLSearchParams =>
  env.incoming.url?.includes('?') ? new URL(req.url).searchParams : NO_QUERY;
