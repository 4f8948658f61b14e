/**
 * Which names the bridge may be called by (protocol §11). Where it needs no token and listens on a loopback address, a web
 * page could reach it by rebinding its own host name to that address: for the browser, page and bridge then have one
 * origin. Only the `Host` header shows it, so there a name that is neither local nor in ALLOWED_HOSTS is refused. Nobody
 * can rebind an IP address.
 */
import { isIPv4, isIPv6 } from 'node:net';
import { BridgeError } from '../contract/errors.ts';
import { excerpt } from './origins.ts';

/** @returns why a request with this `Host` is refused (`host_not_allowed`); null if it is allowed, or has no `Host` */
export type HostRule = (host: string | undefined) => BridgeError | null;

export function createHostRule(allowedHosts: readonly string[]): HostRule {
  const allowed = new Set(allowedHosts);

  function isAllowed(host: string): boolean {
    const bare = host.replace(/:\d*$/, '');
    if (bare.startsWith('[')) return bare.endsWith(']') && isIPv6(bare.slice(1, -1));
    const name = bare.replace(/\.$/, '').toLowerCase();
    // Browsers write IPv4 addresses as four decimal numbers, so other spellings count as names.
    return isIPv4(name) || name === 'localhost' || name.endsWith('.localhost') || allowed.has(name);
  }

  /** Requests in a row name the same host. */
  let lastAllowed = '';
  return (host = '') => {
    if (host === lastAllowed || host === '') return null;
    if (isAllowed(host)) {
      lastAllowed = host;
      return null;
    }
    return new BridgeError(
      'host_not_allowed',
      `Host ${excerpt(host)} is not allowed: without tokens, this bridge answers to localhost, to IP addresses and to the names in ALLOWED_HOSTS. If this is a name of your machine, add it to ALLOWED_HOSTS.`,
    );
  };
}

/** A host name as browsers send it in `Host`; undefined if the text has a port, or is not a host name. */
export function toHostName(text: string): string | undefined {
  if (!/^[^\s/?#@:\\[\]%*,]+$/.test(text)) return undefined;
  return URL.parse(`http://${text}/`)?.hostname.replace(/\.$/, '') || undefined;
}

/** Whether a HOST to listen on can be reached from this machine only. */
export function isLoopback(host: string): boolean {
  const address = host.replace(/^\[(.*)\]$/, '$1').toLowerCase();
  return address === 'localhost' || address === '::1' || (isIPv4(address) && address.startsWith('127.'));
}
