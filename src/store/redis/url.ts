/**
 * The URL of one Redis, or of Sentinels. A URL for Sentinels has several hosts, so it is not a WHATWG URL. The module is
 * pure: the configuration checks a URL by the same rule.
 */
import { nearest } from '../../contract/nearest.ts';

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
  /** How every key of the log begins. A hash tag, so that all keys are in one slot. */
  readonly keyPrefix: string;
  /** Credentials of the Sentinels themselves. */
  readonly sentinelUsername: string | null;
  readonly sentinelPassword: string | null;
}

const REDIS_URL = /^(rediss?)(\+sentinel)?:\/\/(?:([^/?#]*)@)?([^@/?#]+)((?:\/[^/?#]*)*)(?:\?([^#]*))?$/;

export const REDIS_URL_RULE =
  'redis[s]://[user:password@]host[:port][/database][?prefix=…], or for Sentinel ' +
  'redis[s]+sentinel://[user:password@]host[:port],host[:port],…/masterName[/database][?prefix=…&sentinelUsername=…&sentinelPassword=…]';

/** A glob, a brace or a blank would reach keys of another log. */
const PREFIX = /^[\w.:-]{1,64}$/;
const DEFAULT_PREFIX = 'roomcast';

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
  const prefix = parameters.get('prefix') ?? DEFAULT_PREFIX;
  if (parameterFault(url) !== null || !PREFIX.test(prefix)) return null;
  const [, username, password] = /^([^:]*)(?::(.*))?$/s.exec(userInfo) ?? [];
  try {
    return {
      nodes,
      masterName: masterName === null ? null : decodeURIComponent(masterName),
      tls: scheme === 'rediss',
      username: username ? decodeURIComponent(username) : null,
      password: password === undefined ? null : decodeURIComponent(password),
      database: Number(database),
      keyPrefix: `{${prefix}}:`,
      sentinelUsername: parameters.get('sentinelUsername'),
      sentinelPassword: parameters.get('sentinelPassword'),
    };
  } catch {
    return null; // a % that encodes nothing
  }
}

/** The parameters that a URL of the scheme takes. */
const parametersOf = (url: string): readonly string[] =>
  /^rediss?\+sentinel:/.test(url)
    ? ['prefix', 'sentinelUsername', 'sentinelPassword']
    : /^rediss?:/.test(url)
      ? ['prefix']
      : [];

/** What is wrong with the parameters of a STORE_URL, for an error; null if nothing is. Holds no credentials. */
export function parameterFault(url: string): string | null {
  const [, query] = /\?([^#]*)/.exec(url) ?? [];
  if (query === undefined) return null;
  const known = parametersOf(url);
  const takes = known.length === 0 ? 'none' : known.join(', ');
  const names = [...new URLSearchParams(query).keys()];
  const repeated = known.find((name) => names.indexOf(name) !== names.lastIndexOf(name));
  if (repeated !== undefined) return `the parameter ${repeated} twice`;
  if (!PREFIX.test(new URLSearchParams(query).get('prefix') ?? DEFAULT_PREFIX)) {
    return 'a prefix that is not 1 to 64 letters, digits, "_", ".", ":" or "-"';
  }
  const unknown = names.find((name) => !known.includes(name));
  if (unknown === undefined) return null;
  // A name may be the rest of a password with a `?`. Then the `@` before the host comes after it.
  if (query.includes('@')) return `an unknown parameter (it takes ${takes}; a ? in a password is written %3F)`;
  const meant = nearest(unknown, known);
  const instead = /^(db|database)$/i.test(unknown) ? 'a database is named by the path: /3' : `it takes ${takes}`;
  return `the unknown parameter ${JSON.stringify(unknown)} (${meant === null ? instead : `did you mean ${meant}?`})`;
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
