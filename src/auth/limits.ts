/**
 * Limits on what one client, and all of them together, may use (protocol §10, §13): connections per node and per client
 * address, and token buckets for joins and publishes. Memory is bounded by current use: an address without connections
 * is forgotten, and so is a bucket that is full again.
 */
import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import { BridgeError } from '../contract/errors.ts';

export interface ConnectionLimits {
  /** Open connections. */
  readonly count: number;
  /**
   * Counts a connection in. The returned function counts it out; further calls do nothing.
   * @throws {BridgeError} `too_many_connections`
   */
  acquire(address: string): () => void;
}

export interface ConnectionLimitOptions {
  /** null: no limit. */
  readonly maxConnections: number | null;
  readonly maxConnectionsPerAddress: number | null;
}

/** Seconds after which a client that was refused may retry. */
const RETRY_AFTER_S = 5;

export function createConnectionLimits(options: ConnectionLimitOptions): ConnectionLimits {
  const { maxConnections, maxConnectionsPerAddress } = options;
  const perAddress = new Map<string, number>();
  let count = 0;

  function refuse(who: string): never {
    const message = `${who} has reached its limit of open connections. Try again later.`;
    throw new BridgeError('too_many_connections', message, { retryAfterSeconds: RETRY_AFTER_S });
  }

  return {
    get count() {
      return count;
    },
    acquire(address) {
      if (maxConnections !== null && count >= maxConnections) refuse('This server');
      const key = networkOf(address);
      const open = perAddress.get(key) ?? 0;
      if (maxConnectionsPerAddress !== null && open >= maxConnectionsPerAddress) refuse('This client address');
      count++;
      perAddress.set(key, open + 1);
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

/** One client: an IPv4 address, or the /64 network of an IPv6 address, which is what a household gets. */
export function networkOf(address: string): string {
  if (isIP(address) !== 6) return address;
  // The URL parser normalises case, leading zeros and an IPv4 ending.
  const { hostname } = new URL(`http://[${address.replace(/%.*$/, '')}]`);
  const [start = [], end = []] = hostname
    .slice(1, -1)
    .split('::')
    .map((groups) => groups.split(':').filter(Boolean));
  const zeros = Array<string>(8 - start.length - end.length).fill('0');
  return `${[...start, ...zeros, ...end].slice(0, 4).join(':')}::/64`;
}

/** Absorbs the rounding errors of adding fractions. */
const WHOLE_TOKEN = 1 - 1e-9;

/**
 * A token bucket that holds one second's worth, at least 1. While it holds a token it grants any amount and goes into
 * debt, so a batch larger than the rate passes and the next one waits longer. Times are in milliseconds on a clock that
 * never steps back.
 */
export class TokenBucket {
  readonly #perSecond: number;
  #tokens: number;
  #filledAtMs: number;

  /** Starts full. */
  constructor(perSecond: number, nowMs: number) {
    this.#perSecond = perSecond;
    this.#tokens = Math.max(1, perSecond);
    this.#filledAtMs = nowMs;
  }

  /** Seconds until the bucket grants the next amount; 0: now. */
  waitSeconds(nowMs: number): number {
    const tokens = this.#tokensAt(nowMs);
    return tokens >= WHOLE_TOKEN ? 0 : (1 - tokens) / this.#perSecond;
  }

  take(amount: number, nowMs: number): void {
    this.#tokens = this.#tokensAt(nowMs) - amount;
    this.#filledAtMs = nowMs;
  }

  isFull(nowMs: number): boolean {
    return this.#tokensAt(nowMs) >= Math.max(1, this.#perSecond);
  }

  #tokensAt(nowMs: number): number {
    const refill = ((nowMs - this.#filledAtMs) / 1000) * this.#perSecond;
    return Math.min(Math.max(1, this.#perSecond), this.#tokens + refill);
  }
}

/** Buckets in memory before full ones are swept out. Doubles with the number in use. */
const MIN_SWEEP = 1024;

/**
 * One bucket per key.
 * @param now milliseconds on a clock that never steps back
 */
export function createRateLimit(perSecond: number, now: () => number = () => performance.now()) {
  const buckets = new Map<string, TokenBucket>();
  let sweepAt = MIN_SWEEP;

  function sweep(nowMs: number): void {
    for (const [key, bucket] of buckets) if (bucket.isFull(nowMs)) buckets.delete(key);
    sweepAt = Math.max(MIN_SWEEP, 2 * buckets.size);
  }

  /** Seconds until the key may proceed; 0: now. A key without a bucket has a full one. */
  const waitSeconds = (key: string): number => buckets.get(key)?.waitSeconds(now()) ?? 0;

  return {
    /** Buckets in memory. */
    get size() {
      return buckets.size;
    },
    waitSeconds,
    /**
     * @param what what is counted, for the message, which ends with `alternative`
     * @throws {BridgeError} `rate_limited` if the key may not proceed now
     */
    requireToken(key: string, what: string, alternative = ''): void {
      const retryAfterSeconds = waitSeconds(key);
      if (retryAfterSeconds === 0) return;
      const message = `The limit is ${perSecond} ${what} a second. Repeat the request after Retry-After${alternative}.`;
      throw new BridgeError('rate_limited', message, { retryAfterSeconds });
    },
    take(key: string, amount = 1): void {
      const nowMs = now();
      const bucket = buckets.get(key) ?? new TokenBucket(perSecond, nowMs);
      if (!buckets.has(key) && buckets.size >= sweepAt) sweep(nowMs);
      buckets.set(key, bucket);
      bucket.take(amount, nowMs);
    },
  };
}

/**
 * `RATE_READS`. The returned function counts one read of a caller (principal.ts, `callerKey`).
 * @param perSecond null: no limit
 * @throws {BridgeError} `rate_limited`, from the returned function
 */
export function createReadLimit(perSecond: number | null): (caller: string) => void {
  if (perSecond === null) return () => {};
  const limit = createRateLimit(perSecond);
  return (caller) => {
    limit.requireToken(caller, 'reads', ', or listen instead');
    limit.take(caller);
  };
}

/**
 * The client's address: the peer's without proxies. Behind `trustProxy` proxies, it is the entry of `X-Forwarded-For`
 * that many places from the right, because the client can make up every entry further left. An entry that is not an
 * address ends the search, so that no invented text becomes a key.
 */
export function clientAddress(
  request: Pick<IncomingMessage, 'headers'> & { readonly socket: { readonly remoteAddress?: string | undefined } },
  trustProxy: number,
): string {
  let address = canonical(request.socket.remoteAddress ?? '') ?? 'unknown';
  const header = request.headers['x-forwarded-for'];
  if (trustProxy === 0 || header === undefined) return address;
  const chain = (Array.isArray(header) ? header.join(',') : header).split(',').reverse().slice(0, trustProxy);
  for (const entry of chain) {
    const named = canonical(entry.trim());
    if (named === null) break;
    address = named;
  }
  return address;
}

/** The address without port and brackets, and IPv4 mapped into IPv6 as IPv4; null if the text is not an address. */
function canonical(text: string): string | null {
  const bare = /^\[([^\]]+)\](?::\d+)?$/.exec(text)?.[1] ?? /^([\d.]+):\d+$/.exec(text)?.[1] ?? text;
  const address = /^::ffff:([\d.]+)$/i.exec(bare)?.[1] ?? bare;
  return isIP(address) === 0 ? null : address;
}
