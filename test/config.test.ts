/** protocol §13: every variable has its default and its check; a bad value is refused in one line. */
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { test } from 'node:test';
import { ConfigError, configure, parseConfig } from '../src/config.ts';
import { spawnServer } from './support/server.ts';

const SECRET = 'a-secret-of-more-than-32-bytes-in-all';
const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const PUBLIC_PEM = publicKey.export({ type: 'spki', format: 'pem' }).toString();
/** As environment files hold it. */
const ESCAPED_PEM = PUBLIC_PEM.trim().replaceAll('\n', '\\n');
const SHORT_PEM = generateKeyPairSync('rsa', { modulusLength: 1024 })
  .publicKey.export({ type: 'spki', format: 'pem' })
  .toString();
const PRIVATE_PEM = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();

function refusal(env: Record<string, string>): string {
  try {
    parseConfig(env);
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    return error.message;
  }
  assert.fail(`${JSON.stringify(env)} was taken`);
}

test('room kinds and the default scope are lists; a claimed kind is a kind', () => {
  const config = parseConfig({
    ROOM_KINDS: 'queue, team,queue',
    CLAIMED_ROOM_KINDS: 'team,squad',
    JWT_DEFAULT_SCOPE: 'subscribe  publish',
  });
  assert.deepEqual(config.roomKinds, ['queue', 'team', 'squad']);
  assert.deepEqual(config.claimedRoomKinds, ['team', 'squad']);
  assert.deepEqual(config.jwtDefaultScope, ['subscribe', 'publish']);
  for (const name of ['tenant', 'user', 'Queue', '1st', 'a-b', 'a:b', 'x'.repeat(33), '__proto__']) {
    assert.match(refusal({ ROOM_KINDS: name }), /^ROOM_KINDS must be /);
    assert.match(refusal({ CLAIMED_ROOM_KINDS: `queue,${name}` }), /^CLAIMED_ROOM_KINDS must be /);
  }
  for (const scope of ['admin', 'metrics', 'subscribe admin', '*', 'Subscribe']) {
    assert.match(refusal({ JWT_DEFAULT_SCOPE: scope }), /^JWT_DEFAULT_SCOPE must be .*subscribe, signal, publish/);
  }
});

test('an empty environment gives the defaults of the contract', () => {
  const config = parseConfig({});
  assert.deepEqual(config, {
    host: '127.0.0.1',
    port: 4003,
    storeUrl: 'sqlite:./data/roomcast.db',
    retentionHours: 72,
    retentionEvents: 1_000_000,
    extraEvents: [],
    legacyEvents: true,
    signals: [],
    roomKinds: [],
    claimedRoomKinds: [],
    authMode: 'none',
    jwtSecret: null,
    jwtPublicKey: null,
    jwksUrl: null,
    jwtIssuer: null,
    jwtAudience: null,
    jwtDefaultScope: [],
    authCookie: 'access_token',
    corsOrigins: [],
    allowedHosts: [],
    basePath: '',
    socketPath: '/socket.io',
    heartbeatMs: 15_000,
    pingMs: 25_000,
    retryMs: 2_000,
    maxBufferBytes: 1_048_576,
    maxBodyBytes: 1_048_576,
    maxRooms: 500,
    maxConnections: null,
    recoverySeconds: 259_200,
    maxConnectionsPerAddress: null,
    trustProxy: 0,
    rateJoins: 100,
    rateSignals: 10,
    ratePublish: null,
    rateReads: null,
    dedupeHours: 24,
    stateDays: 30,
    revocationDays: 30,
    drainMs: 5_000,
    logLevel: 'info',
    logFormat: null,
    metricsRoomLabel: 'room',
    metricsMaxRooms: 10_000,
    metricsToken: null,
    metricsPort: null,
    metricsHost: '127.0.0.1',
  });
  assert.ok(Object.isFrozen(config));
  assert.deepEqual(configure(), config);
  assert.deepEqual(configure(config), config, 'a whole configuration is taken again');
});

test('an empty or blank variable counts as not set', () => {
  assert.equal(parseConfig({ PORT: '', HOST: ' ', AUTH_MODE: '' }).port, 4003);
});

test('good values are taken as they mean', () => {
  const cases: [Record<string, string>, string, unknown][] = [
    [{ PORT: '0' }, 'port', 0],
    [{ STORE_URL: 'sqlite::memory:' }, 'storeUrl', 'sqlite::memory:'],
    [{ STORE_URL: 'rediss://u:p@host:6380/2' }, 'storeUrl', 'rediss://u:p@host:6380/2'],
    [{ STORE_URL: 'redis://host/2?prefix=team:a.b_c-1' }, 'storeUrl', 'redis://host/2?prefix=team:a.b_c-1'],
    [{ STORE_URL: 'redis+sentinel://a:26379/primary' }, 'storeUrl', 'redis+sentinel://a:26379/primary'],
    [{ STORE_URL: 'rediss+sentinel://a:1,[::1]:2,c/m/1' }, 'storeUrl', 'rediss+sentinel://a:1,[::1]:2,c/m/1'],
    [{ RETENTION_HOURS: '0.001' }, 'retentionHours', 0.001],
    [{ RETENTION_HOURS: '0.5' }, 'recoverySeconds', 1_800],
    [{ RETENTION_HOURS: '0.5', RECOVERY_SECONDS: '60' }, 'recoverySeconds', 60],
    [{ EXTRA_EVENTS: 'tickets.new, messages.updated,tickets.new' }, 'extraEvents', ['tickets.new', 'messages.updated']],
    [{ LEGACY_EVENTS: 'off' }, 'legacyEvents', false],
    [{ AUTH_MODE: 'jwt', JWT_SECRET: SECRET }, 'jwtSecret', SECRET],
    [{ AUTH_MODE: 'jwt', JWT_SECRET: ` ${SECRET}\n` }, 'jwtSecret', ` ${SECRET}\n`],
    [{ JWT_PUBLIC_KEY: PUBLIC_PEM }, 'jwtPublicKey', PUBLIC_PEM.trim()],
    [{ JWT_PUBLIC_KEY: ESCAPED_PEM }, 'jwtPublicKey', ESCAPED_PEM],
    [{ JWT_PUBLIC_KEY: `${PUBLIC_PEM}${PUBLIC_PEM}` }, 'jwtPublicKey', `${PUBLIC_PEM}${PUBLIC_PEM}`.trim()],
    [{ HOST: '0.0.0.0', AUTH_MODE: 'none' }, 'host', '0.0.0.0'],
    [{ HOST: '::1' }, 'authMode', 'none'],
    [{ HOST: 'localhost' }, 'authMode', 'none'],
    [
      { CORS_ORIGINS: 'https://A.example/, http://b.example:8080' },
      'corsOrigins',
      ['https://a.example', 'http://b.example:8080'],
    ],
    [{ CORS_ORIGINS: 'capacitor://localhost' }, 'corsOrigins', ['capacitor://localhost']],
    [{ ALLOWED_HOSTS: 'Bridge.LAN., my-laptop.local,bridge.lan' }, 'allowedHosts', ['bridge.lan', 'my-laptop.local']],
    [{ BASE_PATH: '/bridge/' }, 'basePath', '/bridge'],
    [{ BASE_PATH: '/' }, 'basePath', ''],
    [{ SOCKET_PATH: '/rt/socket.io/' }, 'socketPath', '/rt/socket.io'],
    [{ RATE_PUBLISH: '50' }, 'ratePublish', 50],
    [{ RATE_READS: '50' }, 'rateReads', 50],
    [{ LOG_LEVEL: 'silent' }, 'logLevel', 'silent'],
    [{ LOG_FORMAT: 'pretty' }, 'logFormat', 'pretty'],
    [{ METRICS_ROOM_LABEL: 'kind' }, 'metricsRoomLabel', 'kind'],
    [{ METRICS_TOKEN: ' scraper\n' }, 'metricsToken', 'scraper'],
    [{ METRICS_PORT: '0' }, 'metricsPort', 0],
    [{ METRICS_HOST: '0.0.0.0' }, 'metricsHost', '0.0.0.0'],
  ];
  for (const [env, name, expected] of cases) {
    const config: Readonly<Record<string, unknown>> = { ...parseConfig(env) };
    assert.deepEqual(config[name], expected, JSON.stringify(env));
  }
});

test('a bad value is refused in one line: the variable, its rule, the value', () => {
  const cases: [string, string][] = [
    ['PORT', '65536'],
    ['PORT', '-1'],
    ['PORT', '80.5'],
    ['PORT', '0x50'],
    ['HOST', 'not a host'],
    ['ALLOWED_HOSTS', 'http://bridge.lan'],
    ['ALLOWED_HOSTS', 'bridge.lan:4003'],
    ['ALLOWED_HOSTS', '*'],
    ['METRICS_PORT', '65536'],
    ['METRICS_HOST', 'not a host'],
    ['RETENTION_HOURS', '0'],
    ['RETENTION_HOURS', 'three\ndays'],
    ['RETENTION_HOURS', '1e3'],
    ['RETENTION_HOURS', 'Infinity'],
    ['RETENTION_EVENTS', '0'],
    ['EXTRA_EVENTS', 'tickets.updated'],
    ['EXTRA_EVENTS', 'ticket.message'],
    ['EXTRA_EVENTS', 'bridge.mine'],
    ['EXTRA_EVENTS', 'connect'],
    ['EXTRA_EVENTS', 'constructor'],
    ['EXTRA_EVENTS', 'a b'],
    ['LEGACY_EVENTS', 'yes'],
    ['AUTH_MODE', 'basic'],
    ['AUTH_COOKIE', 'a=b'],
    ['CORS_ORIGINS', '*'],
    ['CORS_ORIGINS', 'https://*.example.com'],
    ['CORS_ORIGINS', 'https://a.example/path'],
    ['CORS_ORIGINS', 'a.example'],
    ['CORS_ORIGINS', 'null'],
    ['BASE_PATH', 'bridge'],
    ['BASE_PATH', '/a?b'],
    ['BASE_PATH', '/:id'],
    ['SOCKET_PATH', '/'],
    ['HEARTBEAT_MS', '0'],
    ['PING_MS', '25s'],
    ['PING_MS', '999'],
    ['PING_MS', '86400001'],
    ['MAX_ROOMS', '0'],
    ['MAX_CONNECTIONS', 'many'],
    ['TRUST_PROXY', 'true'],
    ['RATE_PUBLISH', '0'],
    ['RATE_READS', '0'],
    ['LOG_LEVEL', 'verbose'],
    ['LOG_FORMAT', 'text'],
    ['METRICS_ROOM_LABEL', 'none'],
  ];
  for (const [variable, value] of cases) {
    const message = refusal({ [variable]: value });
    assert.match(message, new RegExp(`^${variable} must be .+, but got .+\\.$`), message);
    assert.ok(!message.includes('\n'), message);
    assert.ok(message.includes(JSON.stringify(value)), message);
  }
});

test('a refusal never shows a secret', () => {
  const cases: [string, string, string][] = [
    ['JWT_SECRET', 'hunter2-short', 'hunter2'],
    ['JWT_PUBLIC_KEY', PRIVATE_PEM, PRIVATE_PEM.slice(40, 60)],
    ['JWT_PUBLIC_KEY', 'hunter2', 'hunter2'],
    ['JWT_PUBLIC_KEY', SHORT_PEM, SHORT_PEM.slice(40, 60)],
    ['JWT_PUBLIC_KEY', `${PUBLIC_PEM}${PRIVATE_PEM}`, PRIVATE_PEM.slice(40, 60)],
    ['STORE_URL', 'postgres://user:hunter2@host/db', 'hunter2'],
    ['STORE_URL', 'redis:/user:hunter2@host', 'hunter2'],
    ['STORE_URL', 'redis://user:hunter2@host/x', 'hunter2'],
    ['STORE_URL', 'redis://user:hunter2@a,b', 'hunter2'],
    ['STORE_URL', 'hunter2', 'hunter2'],
    ['METRICS_TOKEN', 'hunter2 and more', 'hunter2'],
    ['STORE_URL', 'sqlite:', 'hunter2'],
    ['JWKS_URL', 'https://user:hunter2@idp.example/keys', 'hunter2'],
  ];
  for (const [variable, value, hidden] of cases) {
    const message = refusal({ [variable]: value });
    assert.match(message, new RegExp(`^${variable} must be [^\n]+, but got a value [^\n]+\\.$`));
    assert.ok(!message.includes(hidden), message);
  }
});

test('AUTH_MODE must be explicit on an address that is not loopback', () => {
  for (const HOST of ['0.0.0.0', '::', '192.168.1.4', 'bridge.internal']) {
    assert.match(refusal({ HOST }), /^AUTH_MODE .*HOST/);
    assert.equal(parseConfig({ HOST, AUTH_MODE: 'none' }).authMode, 'none');
  }
});

test('jwt mode needs a key', () => {
  assert.match(refusal({ AUTH_MODE: 'jwt' }), /^AUTH_MODE .*JWT_SECRET, JWT_PUBLIC_KEY, JWKS_URL/);
  assert.equal(parseConfig({ AUTH_MODE: 'jwt', JWKS_URL: 'https://idp.example/keys' }).authMode, 'jwt');
});

test('SOCKET_PATH may not swallow BASE_PATH', () => {
  assert.match(refusal({ SOCKET_PATH: '/rt', BASE_PATH: '/rt' }), /^SOCKET_PATH/);
  assert.match(refusal({ SOCKET_PATH: '/rt', BASE_PATH: '/rt/api' }), /^SOCKET_PATH/);
  assert.equal(parseConfig({ SOCKET_PATH: '/rt/socket.io', BASE_PATH: '/rt' }).basePath, '/rt');
});

test('options given in the program are checked the same way', () => {
  assert.equal(configure({ retentionHours: 1 }).recoverySeconds, 3_600);
  assert.throws(
    () => configure({ port: 70_000 }),
    /^ConfigError: PORT must be a whole number from 0 to 65535, but got 70000\.$/,
  );
  assert.throws(() => configure({ extraEvents: ['message'] }), /^ConfigError: EXTRA_EVENTS must be /);
  assert.throws(() => configure({ corsOrigins: ['*'] }), /^ConfigError: CORS_ORIGINS must be /);
  assert.throws(
    () => configure({ jwtSecret: 'short' }),
    (error: Error) => !error.message.includes('short'),
  );
  assert.throws(
    () => configure({ hearbeatMs: 1 } as never),
    /^ConfigError: hearbeatMs is not an option of the bridge\. Did you mean heartbeatMs\?$/,
  );
});

test('a server that cannot listen says in one line why, and what to do', async () => {
  const cases: [Record<string, string>, string][] = [
    [
      { HOST: '192.0.2.1', AUTH_MODE: 'none' },
      'HOST 192.0.2.1 is not an address of this machine. Try HOST=127.0.0.1, or HOST=0.0.0.0 for all addresses.',
    ],
    [
      { HOST: 'nowhere.invalid', AUTH_MODE: 'none' },
      'HOST nowhere.invalid could not be resolved to an address. Try HOST=127.0.0.1.',
    ],
    [
      { METRICS_HOST: '192.0.2.1', METRICS_PORT: '0' },
      'METRICS_HOST 192.0.2.1 is not an address of this machine. Try METRICS_HOST=127.0.0.1, or METRICS_HOST=0.0.0.0 for all addresses.',
    ],
    [{ PORT: '4003', METRICS_PORT: '4003' }, 'METRICS_PORT must be another port than PORT, but both are 4003.'],
  ];
  for (const [env, message] of cases) {
    const server = spawnServer({ STORE_URL: 'sqlite::memory:', ...env });
    const [code] = await once(server.process, 'exit');
    assert.equal(code, 1);
    assert.equal(server.stderr(), `roomcast: ${message}\n`);
  }
});

test('an unknown parameter of STORE_URL stops the start, with the name that was meant, and without the URL', () => {
  for (const [url, message] of [
    ['redis://u:hunter2@h?db=3', /the unknown parameter "db" \(a database is named by the path: \/3\)/],
    ['redis://u:hunter2@h/1?prefx=a', /the unknown parameter "prefx" \(did you mean prefix\?\)/],
    ['rediss://u:hunter2@h?tls=1', /the unknown parameter "tls" \(it takes prefix\)/],
    ['redis://u:hunter2@h?sentinelPassword=hunter2', /the unknown parameter "sentinelPassword"/],
    ['redis+sentinel://:hunter2@a,b/m?sentinelpassword=hunter2', /did you mean sentinelPassword\?/],
    ['redis://u:hunter2@h?prefix=a&prefix=b', /the parameter prefix twice/],
    ['redis://u:hunter2@h?prefix=', /a prefix that is not 1 to 64 letters/],
    ['redis://u:hunter2@h?prefix=a*', /a prefix that is not 1 to 64 letters/],
    ['redis://u:hunter2@h?prefix=%7Ba%7D', /a prefix that is not 1 to 64 letters/],
    ['redis://u:1?hunter2@h', /an unknown parameter \(.*%3F\)/],
    ['redis://u:1?hunter2=x@h', /an unknown parameter \(.*%3F\)/],
    ['sqlite:./hunter2.db?mode=ro', /the unknown parameter "mode" \(it takes none\)/],
    ['sqlite:./hunter2.db?', /but got a value that begins with "sqlite:"/],
  ] as const) {
    const text = refusal({ STORE_URL: url });
    assert.match(text, message, url);
    assert.doesNotMatch(text, /hunter2|\n/, url);
  }
});
