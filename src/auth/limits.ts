/**
 * How much one client, and all of them, may take (protocol §10, §13): connections per node and per client address, and
 * token buckets for joins and publishes. Memory is bounded by what is in use: an address without connections and a
 * bucket that is full again are forgotten.
 */
import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import { BridgeError } from '../contract/errors.ts';

export interface ConnectionLimits {
  /** How many are held now. */
  readonly count: number;
  /**
   * Counts a connection in. The returned function counts it out, once; further calls do nothing.
   * @throws {BridgeError} `too_many_connections`
   */
  acquire(address: string): () => void;
}

export interface ConnectionLimitOptions {
  /** null: no limit. */
  readonly maxConnections: number | null;
  readonly maxConnectionsPerAddress: number | null;
}

/** Seconds after which a client refused for want of room may ask again. */
const RETRY_AFTER_S = 5;

export function createConnectionLimits(options: ConnectionLimitOptions): ConnectionLimits {
  const { maxConnections, maxConnectionsPerAddress } = options;
  const perAddress = new Map<string, number>();
  let count = 0;

  function refuse(whose: string): never {
    throw new BridgeError('too_many_connections', `${whose} has as many connections as it may.`, {
      retryAfterSeconds: RETRY_AFTER_S,
    });
  }

  return {
    get count() {
      return count;
    },
    acquire(address) {
      if (maxConnections !== null && count >= maxConnections) refuse('This server');
      const key = networkOf(address);
      const held = perAddress.get(key) ?? 0;
      if (maxConnectionsPerAddress !== null && held >= maxConnectionsPerAddress) refuse('This client address');
      count++;
      perAddress.set(key, held + 1);
      let released = false;
      return () => {
        if (released) return;
        released = true;
        count--;
        const left = (perAddress.get(key) as number) - 1;
        if (left === 0) perAddress.delete(key);
        else perAddress.set(key, left);
      };
    },
  };
}

/** What counts as one client: an IPv4 address, or an IPv6 network of 64 bits, which is what a household is given. */
function networkOf(address: string): string {
  if (isIP(address) !== 6) return address;
  const [head = '', tail] = address.toLowerCase().replace(/%.*$/, '').split('::');
  const groups = (text: string | undefined) => (text ? text.split(':') : []);
  const start = groups(head);
  const end = groups(tail);
  // An IPv4 ending stands for two groups.
  const missing = 8 - start.length - end.length - (address.includes('.') ? 1 : 0);
  const all = tail === undefined ? start : [...start, ...Array<string>(Math.max(0, missing)).fill('0'), ...end];
  return `${all
    .slice(0, 4)
    .map((group) => group.replace(/^0+(?=.)/, ''))
    .join(':')}::/64`;
}

/**
 * One bucket per key. A bucket holds one second's worth and gives when it holds anything, also more than it holds: it is
 * in debt then, so that a batch larger than the rate passes and what follows waits for it.
 */
export interface RateLimit {
  /** Seconds until the key may go on; 0: it may now. */
  waitSeconds(key: string): number;
  take(key: string, amount?: number): void;
  /** Buckets in memory. */
  readonly size: number;
}

/** Buckets that may be held before those that are full again are swept out; doubles with what is in use. */
const LEAST_SWEEP = 1024;
/** Takes up what is lost in adding fractions. */
const WHOLE = 1 - 1e-9;

/**
 * @param perSecond also what may come at once
 * @param now milliseconds on a clock that never steps back
 */
export function createRateLimit(perSecond: number, now: () => number = () => performance.now()): RateLimit {
  const burst = Math.max(1, perSecond);
  const buckets = new Map<string, { tokens: number; atMs: number }>();
  let sweepAt = LEAST_SWEEP;

  const filled = (bucket: { readonly tokens: number; readonly atMs: number }, nowMs: number) =>
    Math.min(burst, bucket.tokens + ((nowMs - bucket.atMs) / 1000) * perSecond);

  function sweep(nowMs: number): void {
    for (const [key, bucket] of buckets) if (filled(bucket, nowMs) >= burst) buckets.delete(key);
    sweepAt = Math.max(LEAST_SWEEP, 2 * buckets.size);
  }

  return {
    get size() {
      return buckets.size;
    },
    waitSeconds(key) {
      // A key without a bucket has a full one.
      const bucket = buckets.get(key);
      const tokens = bucket === undefined ? burst : filled(bucket, now());
      return tokens >= WHOLE ? 0 : (1 - tokens) / perSecond;
    },
    take(key, amount = 1) {
      const nowMs = now();
      const bucket = buckets.get(key);
      if (bucket === undefined) {
        if (buckets.size >= sweepAt) sweep(nowMs);
        buckets.set(key, { tokens: burst - amount, atMs: nowMs });
      } else {
        bucket.tokens = filled(bucket, nowMs) - amount;
        bucket.atMs = nowMs;
      }
    },
  };
}

/**
 * The address of the client: the peer's, or, behind `trustProxy` proxies, the one that the outermost of them saw, which
 * is that many places from the right in `X-Forwarded-For`. What stands further left is the client's own invention. A
 * place that holds no address counts as the next one to its right, so that nothing made up becomes a key.
 */
export function clientAddress(
  request: Pick<IncomingMessage, 'headers'> & { readonly socket: { readonly remoteAddress?: string | undefined } },
  trustProxy: number | null,
): string {
  let address = canonical(request.socket.remoteAddress ?? '') ?? 'unknown';
  const hops = trustProxy ?? 0;
  const header = request.headers['x-forwarded-for'];
  if (hops === 0 || header === undefined) return address;
  const chain = (Array.isArray(header) ? header.join(',') : header).split(',').reverse().slice(0, hops);
  for (const entry of chain) {
    const named = canonical(entry.trim());
    if (named === null) break;
    address = named;
  }
  return address;
}

/** An address without port and brackets; IPv4 mapped into IPv6 as IPv4. null when it is none. */
function canonical(text: string): string | null {
  const bare = /^\[([^\]]+)\](?::\d+)?$/.exec(text)?.[1] ?? /^([\d.]+):\d+$/.exec(text)?.[1] ?? text;
  const address = /^::ffff:([\d.]+)$/i.exec(bare)?.[1] ?? bare;
  return isIP(address) === 0 ? null : address;
}
