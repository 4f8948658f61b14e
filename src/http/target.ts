/**
 * The target of a request in one form (RFC 9112 §3.2). A client that takes the bridge for its proxy (`curl -x`) sends an
 * absolute URL as target. Its authority then replaces `Host`, and its path and query the target, before anything reads
 * them, so that routes, Socket.IO and the checks of `Host` and `Origin` need to know one form only.
 */
import type { IncomingMessage } from 'node:http';
import { BridgeError } from '../contract/errors.ts';

/** @throws {BridgeError} `invalid_request` if the target or `Host` is ambiguous */
export function unifyTarget(request: IncomingMessage): void {
  const { url = '', headers, rawHeaders } = request;
  // RFC 9112 §3.2: Node would take the first, and something in front of the bridge the last.
  if (countOfHosts(rawHeaders) > 1) throw invalid('The request has more than one Host header. Send one.');
  if (!url.startsWith('/') && url !== '*') {
    const [, authority, target = ''] = /^https?:\/\/([^/?#]+)([/?].*)?$/i.exec(url) ?? [];
    if (authority === undefined) throw invalid('The request target must be a path, or an http:// URL with a host.');
    headers.host = authority;
    request.url = target.startsWith('/') ? target : `/${target}`;
  }
  // A URL parser would take a part of it for the host.
  const { host = '' } = headers;
  if (PLAIN_HOST.test(host)) return;
  if (/[\s/?#\\@]/.test(host)) throw invalid('The Host is not a host name or an address.');
}

/** A name or an IPv4 address, with or without a port that no parser could take for another. */
const PLAIN_HOST = /^[a-z0-9._-]+(?::(?:[1-5]\d{3,4}|[6-9]\d{3}))?$/;

function countOfHosts(rawHeaders: readonly string[]): number {
  let count = 0;
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const name = rawHeaders[index] as string;
    if (name.length === 'host'.length && name.toLowerCase() === 'host') count++;
  }
  return count;
}

/**
 * The path as the client wrote it. Routes match this text, undecoded and with its dot segments, so that a path has one
 * spelling, and a rule of a proxy for `/metrics` cannot be passed with `/%6detrics` or `/x/../metrics`.
 */
export function rawPathOf({ url = '' }: IncomingMessage): string {
  const query = url.indexOf('?');
  return query === -1 ? url : url.slice(0, query);
}

/**
 * What Hono reads of a request. A real `Request` costs more than a small answer, and the routes read Node's.
 * @throws {BridgeError} `invalid_request` if `Host` and the target are no URL
 */
export function requestOf(incoming: IncomingMessage): Request {
  const { url = '', headers } = incoming;
  const { host = '' } = headers;
  if (!url.startsWith('/') || !(PLAIN_HOST.test(host) || host === '' || isHostOf(incoming))) {
    throw invalid('The request target or the Host header is not valid.');
  }
  const request: FromNode = Object.create(FROM_NODE);
  request.incoming = incoming;
  return request;
}

interface FromNode extends Request {
  incoming: IncomingMessage;
}

const urlOf = ({ url = '', headers }: IncomingMessage): string => `http://${headers.host || 'localhost'}${url}`;

/** As `Request` has them. The others of its members fail. */
const FROM_NODE = Object.create(Request.prototype, {
  method: {
    get(this: FromNode) {
      return this.incoming.method;
    },
  },
  url: {
    get(this: FromNode) {
      return urlOf(this.incoming);
    },
  },
});

/** Whether a URL parser finds this `Host` in the URL, and not another one. */
function isHostOf(incoming: IncomingMessage): boolean {
  const { host = '' } = incoming.headers;
  const hostname = URL.parse(urlOf(incoming))?.hostname;
  if (hostname === undefined || rawPathOf(incoming).includes('\\')) return false;
  return hostname.length === host.length || hostname === host.replace(/:\d+$/, '').toLowerCase();
}

const invalid = (message: string): BridgeError => new BridgeError('invalid_request', message);
