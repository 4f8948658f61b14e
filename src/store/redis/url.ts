/**
 * The URL of one Redis, or of Sentinels. A URL for Sentinels has several hosts, so it is not a WHATWG URL. The module is
 * pure: the configuration checks a URL by the same rule.
 */
export interface Address {
  readonly host: string;
  readonly port: number;
}

export interface RedisTarget {
  readonly nodes: readonly Address[];
  /** If the nodes are Sentinels; null if the one node is Redis itself. */
  readonly masterName: string | null;
  readonly tls: boolean;
  readonly username: string | null;
  readonly password: string | null;
  readonly database: number;
  /** Credentials of the Sentinels themselves. */
  readonly sentinelUsername: string | null;
  readonly sentinelPassword: string | null;
}

const REDIS_URL = /^(rediss?)(\+sentinel)?:\/\/(?:([^/?#]*)@)?([^@/?#]+)((?:\/[^/?#]*)*)(?:\?([^#]*))?$/;

export const REDIS_URL_RULE =
  'redis[s]://[user:password@]host[:port][/database], or for Sentinel ' +
  'redis[s]+sentinel://[user:password@]host[:port],host[:port],…/masterName[/database][?sentinelUsername=…&sentinelPassword=…]';

/** Null if the URL breaks REDIS_URL_RULE. `rediss` uses TLS to Redis and to the Sentinels. */
export function parseRedisUrl(url: string): RedisTarget | null {
  const match = REDIS_URL.exec(url);
  if (match === null) return null;
  const [, scheme, sentinel, userInfo = '', hosts = '', path = '', query] = match;
  const nodes = hosts.split(',').map((host) => parseAddress(host, sentinel ? 26379 : 6379));
  const segments = path.split('/').filter((segment) => segment !== '');
  const masterName = sentinel ? (segments.shift() ?? null) : null;
  const database = segments.shift() ?? '0';
  if (sentinel ? masterName === null : nodes.length !== 1) return null;
  if (segments.length > 0 || !/^\d{1,5}$/.test(database) || !nodes.every((node) => node !== null)) return null;
  const parameters = new URLSearchParams(query);
  const [, username, password] = /^([^:]*)(?::(.*))?$/s.exec(userInfo) ?? [];
  try {
    return {
      nodes,
      masterName: masterName === null ? null : decodeURIComponent(masterName),
      tls: scheme === 'rediss',
      username: username ? decodeURIComponent(username) : null,
      password: password === undefined ? null : decodeURIComponent(password),
      database: Number(database),
      sentinelUsername: parameters.get('sentinelUsername'),
      sentinelPassword: parameters.get('sentinelPassword'),
    };
  } catch {
    return null; // a % that encodes nothing
  }
}

function parseAddress(text: string, defaultPort: number): Address | null {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]+))(?::(\d{1,5}))?$/.exec(text);
  const port = Number(match?.[3] ?? defaultPort);
  if (match === null || port < 1 || port > 65535) return null;
  return { host: (match[1] ?? match[2]) as string, port };
}

/** For messages, without credentials. */
export function describeTarget(target: RedisTarget): string {
  const hosts = target.nodes.map(({ host, port }) => `${host}:${port}`).join(',');
  return target.masterName === null ? hosts : `master ${target.masterName} of Sentinels ${hosts}`;
}
