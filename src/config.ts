/**
 * The server's settings (protocol §13): read once from its environment, checked, typed and frozen. `SETTINGS` defines
 * each of them: its variable, its default, its valid values. (The commands of the CLI read `ROOMCAST_URL` and
 * `ROOMCAST_TOKEN` themselves.)
 *
 * A bad value stops the start with one line: the variable, the valid values, and the value (of a secret, its length).
 */
import { isLoopback, toHostName } from './auth/hosts.ts';
import { PUBLIC_KEYS_RULE, parsePublicKeys } from './auth/public-keys.ts';
import { isDeclarableEvent } from './contract/events.ts';
import { nearest } from './contract/nearest.ts';
import { isDeclarableKind } from './contract/rooms.ts';
import { isDeclarableSignal } from './contract/signals.ts';
import { parameterFault, parseRedisUrl, REDIS_URL_RULE } from './store/redis/url.ts';

const AUTH_MODES = ['none', 'jwt'] as const;
const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const;
const LOG_FORMATS = ['pretty', 'json'] as const;
const ROOM_LABELS = ['room', 'kind'] as const;
/** The scopes that a token may get without naming them: to listen and to take part, never to administer. */
const DEFAULT_SCOPES = ['subscribe', 'signal', 'publish'] as const;

export interface Config {
  readonly host: string;
  readonly port: number;
  readonly storeUrl: string;
  readonly retentionHours: number;
  readonly retentionEvents: number;
  readonly extraEvents: readonly string[];
  readonly legacyEvents: boolean;
  /** The names that may be signalled (protocol §14). */
  readonly signals: readonly string[];
  /** Room kinds that the operator declares, `claimedRoomKinds` included. */
  readonly roomKinds: readonly string[];
  /** Room kinds whose rooms only tokens that claim them may join. */
  readonly claimedRoomKinds: readonly string[];
  readonly authMode: (typeof AUTH_MODES)[number];
  readonly jwtSecret: string | null;
  /** PEM text. */
  readonly jwtPublicKey: string | null;
  readonly jwksUrl: string | null;
  readonly jwtIssuer: string | null;
  readonly jwtAudience: string | null;
  /** The scopes of a token that has none. */
  readonly jwtDefaultScope: readonly string[];
  readonly authCookie: string;
  readonly corsOrigins: readonly string[];
  /** Names by which clients may call a bridge that needs no token, beside localhost. Lower case. */
  readonly allowedHosts: readonly string[];
  /** Empty, or `/x` without a slash at its end. */
  readonly basePath: string;
  readonly socketPath: string;
  readonly heartbeatMs: number;
  /** Engine.IO's ping. */
  readonly pingMs: number;
  readonly retryMs: number;
  readonly maxBufferBytes: number;
  readonly maxBodyBytes: number;
  readonly maxRooms: number;
  readonly maxConnections: number | null;
  readonly recoverySeconds: number;
  readonly maxConnectionsPerAddress: number | null;
  /** Trusted proxies in front of the server, which may name the client's address. 0: none. */
  readonly trustProxy: number;
  /** Joins a second per connection. */
  readonly rateJoins: number;
  /** Signals a second per connection, or per caller of `POST /signals`. */
  readonly rateSignals: number;
  /** Publishes a second per publisher. */
  readonly ratePublish: number | null;
  /** Reads a second per caller. */
  readonly rateReads: number | null;
  readonly dedupeHours: number;
  readonly stateDays: number;
  readonly revocationDays: number;
  readonly drainMs: number;
  readonly logLevel: (typeof LOG_LEVELS)[number];
  /** Null: pretty if standard output is a terminal, else json. */
  readonly logFormat: (typeof LOG_FORMATS)[number] | null;
  readonly metricsRoomLabel: (typeof ROOM_LABELS)[number];
  readonly metricsMaxRooms: number;
  readonly metricsToken: string | null;
  readonly metricsPort: number | null;
  readonly metricsHost: string;
}

export class ConfigError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'ConfigError';
  }
}

interface Setting<T> {
  readonly variable: string;
  readonly fallback: T;
  /** Completes "PORT must be …". */
  readonly rule: string;
  /** Parses the variable's text; undefined if it breaks the rule. */
  readonly parse: (text: string) => T | undefined;
  /** The same check for a value that a program passes. */
  readonly accepts: (value: unknown) => boolean;
  /** A refused value, for the error message. */
  readonly show: (value: unknown) => string;
}

type Settings = { readonly [K in keyof Config]: Setting<Config[K] | undefined> };

/** A century. More is a typing error. */
const MAX_HOURS = 876_000;
const MAX_BYTES = 1024 ** 3;
const MAX_COUNT = 1_000_000_000;
const DAY_MS = 86_400_000;
/** RFC 7518 §3.2: the key must be at least as large as the hash. */
const MIN_SECRET_BYTES = 32;

const SETTINGS: Settings = {
  host: hostToListenOn('HOST'),
  port: whole('PORT', 4003, 0, 65_535),
  storeUrl: text(
    'STORE_URL',
    'sqlite:./data/roomcast.db',
    `sqlite:FILE, sqlite::memory:, or ${REDIS_URL_RULE}`,
    isStoreUrl,
    (value) => (typeof value === 'string' ? parameterFault(value) : null) ?? showScheme(value),
  ),
  retentionHours: decimal('RETENTION_HOURS', 72, MAX_HOURS, 'hours'),
  retentionEvents: whole('RETENTION_EVENTS', 1_000_000, 1, MAX_COUNT),
  extraEvents: list(
    'EXTRA_EVENTS',
    'comma-separated event names (a letter, then letters, digits, "_", ".", ":", "-"; at most 128 characters; not reserved)',
    (name) => (isDeclarableEvent(name) ? name : undefined),
  ),
  legacyEvents: {
    variable: 'LEGACY_EVENTS',
    fallback: true,
    rule: 'on or off',
    parse: (text) => (text === 'on' ? true : text === 'off' ? false : undefined),
    accepts: (value) => typeof value === 'boolean',
    show: showPlain,
  },
  signals: list(
    'SIGNALS',
    'comma-separated names of signals, such as tickets.typing (a letter, then letters, digits, "_", ".", ":", "-"; at most 128 characters; no name of an event; not reserved)',
    (name) => (isDeclarableSignal(name) ? name : undefined),
  ),
  roomKinds: kinds('ROOM_KINDS'),
  claimedRoomKinds: kinds('CLAIMED_ROOM_KINDS'),
  authMode: { ...choice('AUTH_MODE', AUTH_MODES, 'none'), fallback: undefined },
  jwtSecret: secret(
    'JWT_SECRET',
    `at least ${MIN_SECRET_BYTES} bytes`,
    (key) => Buffer.byteLength(key) >= MIN_SECRET_BYTES,
  ),
  jwtPublicKey: secret('JWT_PUBLIC_KEY', PUBLIC_KEYS_RULE, (pem) => parsePublicKeys(pem) !== null),
  jwksUrl: nullable(
    text('JWKS_URL', '', 'an http:// or https:// URL without a user name or password', isHttpUrl, showScheme),
  ),
  jwtIssuer: nullable(text('JWT_ISSUER', '', 'the value of the iss claim', Boolean)),
  jwtAudience: nullable(text('JWT_AUDIENCE', '', 'the value of the aud claim', Boolean)),
  jwtDefaultScope: list(
    'JWT_DEFAULT_SCOPE',
    `one or more of ${DEFAULT_SCOPES.join(', ')}, separated by spaces`,
    (scope) => DEFAULT_SCOPES.find((name) => name === scope),
    /[\s,]+/,
  ),
  // RFC 6265 §4.1.1: a cookie name is a token.
  authCookie: text('AUTH_COOKIE', 'access_token', 'a cookie name', (name) => /^[!#$%&'*+.^_`|~\w-]{1,128}$/.test(name)),
  corsOrigins: list(
    'CORS_ORIGINS',
    'comma-separated origins such as https://app.example.com ("*" is refused, since credentials are allowed)',
    toOrigin,
  ),
  allowedHosts: list(
    'ALLOWED_HOSTS',
    'comma-separated host names without scheme or port, such as bridge.example',
    toHostName,
  ),
  basePath: path('BASE_PATH', ''),
  socketPath: path('SOCKET_PATH', '/socket.io'),
  heartbeatMs: whole('HEARTBEAT_MS', 15_000, 10, DAY_MS),
  // The pings of all connections have one timer, which ticks once a second.
  pingMs: whole('PING_MS', 25_000, 1_000, DAY_MS),
  retryMs: whole('RETRY_MS', 2_000, 1, DAY_MS),
  maxBufferBytes: whole('MAX_BUFFER_BYTES', 1_048_576, 1, MAX_BYTES),
  maxBodyBytes: whole('MAX_BODY_BYTES', 1_048_576, 1, MAX_BYTES),
  maxRooms: whole('MAX_ROOMS', 500, 1, 100_000),
  maxConnections: nullable(whole('MAX_CONNECTIONS', 0, 1, MAX_COUNT)),
  recoverySeconds: { ...decimal('RECOVERY_SECONDS', 0, MAX_HOURS * 3_600, 'seconds'), fallback: undefined },
  maxConnectionsPerAddress: nullable(whole('MAX_CONNECTIONS_PER_ADDRESS', 0, 1, MAX_COUNT)),
  trustProxy: whole('TRUST_PROXY', 0, 0, 100),
  rateJoins: whole('RATE_JOINS', 100, 1, MAX_COUNT),
  rateSignals: whole('RATE_SIGNALS', 10, 1, MAX_COUNT),
  ratePublish: nullable(whole('RATE_PUBLISH', 0, 1, MAX_COUNT)),
  rateReads: nullable(whole('RATE_READS', 0, 1, MAX_COUNT)),
  dedupeHours: decimal('DEDUPE_HOURS', 24, MAX_HOURS, 'hours'),
  stateDays: decimal('STATE_DAYS', 30, MAX_HOURS / 24, 'days'),
  revocationDays: decimal('REVOCATION_DAYS', 30, MAX_HOURS / 24, 'days'),
  drainMs: whole('DRAIN_MS', 5_000, 0, DAY_MS),
  logLevel: choice('LOG_LEVEL', LOG_LEVELS, 'info'),
  logFormat: nullable(choice('LOG_FORMAT', LOG_FORMATS, 'json')),
  metricsRoomLabel: choice('METRICS_ROOM_LABEL', ROOM_LABELS, 'room'),
  metricsMaxRooms: whole('METRICS_MAX_ROOMS', 10_000, 0, 10_000_000),
  metricsToken: secret('METRICS_TOKEN', 'up to 1024 visible ASCII characters without spaces', (token) =>
    /^[\x21-\x7e]{1,1024}$/.test(token),
  ),
  metricsPort: nullable(whole('METRICS_PORT', 0, 0, 65_535)),
  metricsHost: hostToListenOn('METRICS_HOST'),
};

const NAMES = Object.keys(SETTINGS) as (keyof Config)[];

/**
 * The configuration of the server, from its environment. An empty variable counts as not set.
 * @throws {ConfigError} one line: the variable, its rule, its value
 */
export function parseConfig(env: Readonly<Record<string, string | undefined>>): Config {
  const values: Partial<Record<keyof Config, unknown>> = {};
  for (const name of NAMES) {
    const { variable, parse } = SETTINGS[name];
    const text = env[variable] ?? '';
    if (text.trim() === '') continue;
    // Blanks are part of a secret. Around any other value they are an accident.
    const value = name === 'jwtSecret' ? text : text.trim();
    values[name] = parse(value);
    if (values[name] === undefined) throw refusal(name, value);
  }
  return complete(values);
}

/**
 * The configuration of a bridge inside another program. Options that are left out have their defaults.
 * @throws {ConfigError}
 */
export function configure(options: Readonly<Partial<Config>> = {}): Config {
  const values: Partial<Record<keyof Config, unknown>> = {};
  for (const [name, value] of Object.entries(options)) {
    if (!Object.hasOwn(SETTINGS, name)) {
      const near = nearest(name, NAMES);
      throw new ConfigError(`${name} is not an option of the bridge.${near === null ? '' : ` Did you mean ${near}?`}`);
    }
    if (value === undefined) continue;
    if (!SETTINGS[name as keyof Config].accepts(value)) throw refusal(name as keyof Config, value);
    values[name as keyof Config] = value;
  }
  return complete(values);
}

/** Fills in the defaults and checks the rules that bind several settings. */
function complete(values: Partial<Record<keyof Config, unknown>>): Config {
  const settings = Object.fromEntries(NAMES.map((name) => [name, values[name] ?? SETTINGS[name].fallback]));
  const config = settings as { -readonly [K in keyof Config]: Config[K] };
  const { host, basePath, socketPath } = config;
  config.recoverySeconds ??= config.retentionHours * 3_600;
  if (values.authMode === undefined) {
    if (!isLoopback(host)) {
      throw new ConfigError(
        `AUTH_MODE must be set to jwt or none, because HOST ${showPlain(host)} is not a loopback address.`,
      );
    }
    config.authMode = 'none';
  }
  if (config.authMode === 'jwt' && (config.jwtSecret ?? config.jwtPublicKey ?? config.jwksUrl) === null) {
    throw new ConfigError('AUTH_MODE is jwt, but no key is set. Set one of JWT_SECRET, JWT_PUBLIC_KEY, JWKS_URL.');
  }
  if (config.metricsPort === config.port && config.port !== 0 && config.metricsHost === host) {
    throw new ConfigError(`METRICS_PORT must be another port than PORT, but both are ${config.port}.`);
  }
  const taken = config.signals.find((name) => config.extraEvents.includes(name));
  if (taken !== undefined) {
    throw new ConfigError(`SIGNALS must have no name of an event, but ${showPlain(taken)} is in EXTRA_EVENTS too.`);
  }
  if (socketPath === '' || `${basePath}/`.startsWith(`${socketPath}/`)) {
    throw new ConfigError(
      `SOCKET_PATH must be a path such as /socket.io that does not contain BASE_PATH, but got ${showPlain(socketPath || '/')}.`,
    );
  }
  config.claimedRoomKinds = Object.freeze([...new Set(config.claimedRoomKinds)]);
  config.roomKinds = Object.freeze([...new Set([...config.roomKinds, ...config.claimedRoomKinds])]);
  config.jwtDefaultScope = Object.freeze([...config.jwtDefaultScope]);
  config.extraEvents = Object.freeze([...config.extraEvents]);
  config.signals = Object.freeze([...config.signals]);
  config.corsOrigins = Object.freeze([...config.corsOrigins]);
  config.allowedHosts = Object.freeze([...config.allowedHosts]);
  return Object.freeze(config);
}

function refusal(name: keyof Config, value: unknown): ConfigError {
  const { variable, rule, show } = SETTINGS[name];
  return new ConfigError(`${variable} must be ${rule}, but got ${show(value)}.`);
}

/** Quoted and escaped, so that it stays one line. */
function showPlain(value: unknown): string {
  const shown = JSON.stringify(value) ?? String(value);
  return shown.length > 100 ? `${shown.slice(0, 100)}…` : shown;
}

function showLength(value: unknown): string {
  return typeof value === 'string' ? `a value of ${Buffer.byteLength(value)} bytes` : `a ${typeof value}`;
}

/** A URL may hold a password anywhere after its scheme. */
function showScheme(value: unknown): string {
  if (typeof value !== 'string') return showPlain(value);
  const scheme = /^[a-z][a-z0-9+.-]{0,30}:/i.exec(value)?.[0];
  return scheme === undefined ? 'a value without a scheme' : `a value that begins with ${JSON.stringify(scheme)}`;
}

/** The normal form of a text, which a program must pass; undefined if the text breaks the rule. */
type Normalise = (text: string) => string | undefined;

function normalised(
  variable: string,
  fallback: string,
  rule: string,
  normalise: Normalise,
  show = showPlain,
): Setting<string> {
  const accepts = (value: unknown): boolean => typeof value === 'string' && normalise(value) === value;
  return { variable, fallback, rule, parse: normalise, accepts, show };
}

function text(
  variable: string,
  fallback: string,
  rule: string,
  fits: (text: string) => boolean,
  show = showPlain,
): Setting<string> {
  const check = (value: string) => (value !== '' && fits(value) ? value : undefined);
  return normalised(variable, fallback, rule, check, show);
}

function hostToListenOn(variable: string): Setting<string> {
  return text(variable, '127.0.0.1', 'a host name or an address to listen on', (host) => /^[\w.:%[\]-]+$/.test(host));
}

function secret(variable: string, rule: string, fits: (text: string) => boolean): Setting<string | null> {
  return nullable(text(variable, '', rule, fits, showLength));
}

function path(variable: string, fallback: string): Setting<string> {
  return normalised(variable, fallback, 'a path such as /bridge', (value) => {
    const trimmed = value.replace(/\/+$/, '');
    return /^(\/[\w.~-]+)*$/.test(trimmed) ? trimmed : undefined;
  });
}

function whole(variable: string, fallback: number, min: number, max: number): Setting<number> {
  const fits = (value: unknown): boolean => Number.isSafeInteger(value) && Number(value) >= min && Number(value) <= max;
  return number(variable, fallback, `a whole number from ${min} to ${max}`, /^\d{1,15}$/, fits);
}

function decimal(variable: string, fallback: number, max: number, unit: string): Setting<number> {
  const fits = (value: unknown): boolean => typeof value === 'number' && value > 0 && value <= max;
  return number(variable, fallback, `a number of ${unit} above 0, at most ${max}`, /^\d{1,15}(\.\d{1,15})?$/, fits);
}

function number(
  variable: string,
  fallback: number,
  rule: string,
  syntax: RegExp,
  accepts: (value: unknown) => boolean,
): Setting<number> {
  const parse = (text: string) => (syntax.test(text) && accepts(Number(text)) ? Number(text) : undefined);
  return { variable, fallback, rule, parse, accepts, show: showPlain };
}

function choice<const T extends string>(variable: string, values: readonly T[], fallback: T): Setting<T> {
  const parse = (text: unknown) => values.find((value) => value === text);
  const accepts = (value: unknown): boolean => parse(value) !== undefined;
  return { variable, fallback, rule: `one of ${values.join(', ')}`, parse, accepts, show: showPlain };
}

function list(
  variable: string,
  rule: string,
  normalise: Normalise,
  separator: string | RegExp = ',',
): Setting<readonly string[]> {
  const parse = (text: string) => {
    const items = text.split(separator).map((item) => item.trim());
    const normal = items.filter((item) => item !== '').map(normalise);
    return normal.every((item) => item !== undefined) ? [...new Set(normal)] : undefined;
  };
  const accepts = (value: unknown): boolean =>
    Array.isArray(value) && value.every((item) => typeof item === 'string' && normalise(item) === item);
  return { variable, fallback: [], rule, parse, accepts, show: showPlain };
}

function kinds(variable: string): Setting<readonly string[]> {
  return list(
    variable,
    'comma-separated kinds of rooms (a lower-case letter, then up to 31 lower-case letters and digits; not tenant, ticket, agreement or user)',
    (name) => (isDeclarableKind(name) ? name : undefined),
  );
}

function nullable<T>(setting: Setting<T>): Setting<T | null> {
  return { ...setting, fallback: null, accepts: (value) => value === null || setting.accepts(value) };
}

function isStoreUrl(url: string): boolean {
  return url.startsWith('sqlite:') ? /^sqlite:[^?]+$/.test(url) : parseRedisUrl(url) !== null;
}

function isHttpUrl(url: string): boolean {
  if (!URL.canParse(url)) return false;
  const { protocol, username, password } = new URL(url);
  return (protocol === 'https:' || protocol === 'http:') && username === '' && password === '';
}

/** In the form of the Origin header (RFC 6454 §6.2), also for app schemes such as `capacitor://localhost`. */
function toOrigin(origin: string): string | undefined {
  if (!/^[a-z][a-z0-9+.-]*:\/\/[^\s/?#@*,]+\/?$/i.test(origin) || !URL.canParse(origin)) return undefined;
  const url = new URL(origin);
  return url.origin === 'null' ? origin.replace(/\/$/, '') : url.origin;
}
