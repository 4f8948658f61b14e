/**
 * The URL of a Redis: one server, or the Sentinels that know it. Not a URL of the WHATWG's, which have one host.
 *
 * Pure, so that the configuration checks a URL by the rule by which the store takes it apart.
 */
export interface Address {
  readonly host: string;
  readonly port: number;
}

export interface RedisTarget {
  readonly nodes: readonly Address[];
  /** The master's name when `nodes` are Sentinels, null when the one node is Redis itself. */
  readonly masterName: string | null;
  readonly tls: boolean;
  readonly username: string | null;
  readonly password: string | null;
  readonly database: number;
  /** Credentials of the Sentinels themselves. */
  readonly sentinelUsername: string | null;
  readonly sentinelPassword: string | null;
}

const URL_FORM = /^(rediss?)(\+sentinel)?:\/\/(?:([^/?#]*)@)?([^@/?#]+)((?:\/[^/?#]*)*)(?:\?([^#]*))?$/;

export const REDIS_URL_RULE =
  'redis[s]://[user:password@]host[:port][/database], or for Sentinel ' +
  'redis[s]+sentinel://[user:password@]host[:port],host[:port],…/masterName[/database][?sentinelUsername=…&sentinelPassword=…]';

/** Null when the text is no URL of this form. `rediss` uses TLS to Redis and to Sentinels. */
export function parseRedisUrl(url: string): RedisTarget | null {
  const match = URL_FORM.exec(url);
  if (match === null) return null;
  const [, scheme, sentinel, userInfo, hosts = '', path = '', query] = match;
  const nodes = hosts.split(',').map((host) => parseAddress(host, sentinel ? 26379 : 6379));
  const segments = path.split('/').filter((segment) => segment !== '');
  const masterName = sentinel ? (segments.shift() ?? null) : null;
  const database = segments.shift() ?? '0';
  if (sentinel ? masterName === null : nodes.length !== 1) return null;
  if (segments.length > 0 || !/^\d{1,5}$/.test(database)) return null;
  const parsed = nodes.filter((node) => node !== null);
  if (parsed.length !== nodes.length) return null;
  const parameters = new URLSearchParams(query ?? '');
  try {
    const colon = userInfo?.indexOf(':') ?? -1;
    const username = colon === -1 ? userInfo : userInfo?.slice(0, colon);
    return {
      nodes: parsed,
      masterName: masterName === null ? null : decodeURIComponent(masterName),
      tls: scheme === 'rediss',
      username: username ? decodeURIComponent(username) : null,
      password: colon === -1 ? null : decodeURIComponent(userInfo?.slice(colon + 1) ?? ''),
      database: Number(database),
      sentinelUsername: parameters.get('sentinelUsername'),
      sentinelPassword: parameters.get('sentinelPassword'),
    };
  } catch {
    return null; // a stray % in the credentials or the name
  }
}

function parseAddress(text: string, defaultPort: number): Address | null {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]+))(?::(\d{1,5}))?$/.exec(text);
  const port = Number(match?.[3] ?? defaultPort);
  if (match === null || port < 1 || port > 65535) return null;
  return { host: (match[1] ?? match[2]) as string, port };
}

/** For messages: no credentials. */
export function describeTarget(target: RedisTarget): string {
  const hosts = target.nodes.map(({ host, port }) => `${host}:${port}`).join(',');
  return target.masterName === null ? hosts : `master ${target.masterName} of Sentinels ${hosts}`;
}
