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
  if (rawHeaders.filter((text, index) => index % 2 === 0 && text.toLowerCase() === 'host').length > 1) {
    throw invalid('The request has more than one Host header. Send one.');
  }
  if (!url.startsWith('/') && url !== '*') {
    const [, authority, target = ''] = /^https?:\/\/([^/?#]+)([/?].*)?$/i.exec(url) ?? [];
    if (authority === undefined) throw invalid('The request target must be a path, or an http:// URL with a host.');
    headers.host = authority;
    request.url = target.startsWith('/') ? target : `/${target}`;
  }
  // A URL parser would take a part of it for the host.
  if (/[\s/?#\\@]/.test(headers.host ?? '')) throw invalid('The Host is not a host name or an address.');
}

/**
 * The path as the client wrote it. Routes match this text, undecoded and with its dot segments, so that a path has one
 * spelling, and a rule of a proxy for `/metrics` cannot be passed with `/%6detrics` or `/x/../metrics`.
 */
export function rawPathOf({ url = '' }: IncomingMessage): string {
  const query = url.indexOf('?');
  return query === -1 ? url : url.slice(0, query);
}

const invalid = (message: string): BridgeError => new BridgeError('invalid_request', message);
