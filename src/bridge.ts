/**
 * `createBridge` wires a bridge: the store, the bus, three transports and the HTTP routes.
 *
 * The server (serve.ts) and other Node programs use it alike: publish in-process, listen for HTTP if you want, close.
 * `close` drains: the bridge accepts nothing new, ends streams with a time to reconnect, and completes accepted writes.
 */

import { nanoid } from 'nanoid';
import { type BridgeContext, queryOf } from './answers/answer.ts';
import { createRefusals } from './answers/refusals.ts';
import { signalOf } from './answers/signals.ts';
import { type Credentials, createAuth, credentialsOfHandshake, credentialsOfRequest } from './auth/auth.ts';
import { createHostRule, isLoopback } from './auth/hosts.ts';
import { identityOf } from './auth/identity.ts';
import { createConnectionLimits, createReadLimit } from './auth/limits.ts';
import { createMetricsAccess } from './auth/metrics-access.ts';
import { createOrigins, pageFacts } from './auth/origins.ts';
import { ANONYMOUS, keyingOf, type Principal } from './auth/principal.ts';
import { createRevoked } from './auth/revocations.ts';
import { createBus } from './bus/bus.ts';
import { createPacer } from './bus/pacer.ts';
import { type Published, type PublishOptions, toJsonValue } from './bus/publish.ts';
import { type Config, configure } from './config.ts';
import { BridgeError } from './contract/errors.ts';
import { aliasesOf, createEventCatalog } from './contract/events.ts';
import { allKinds } from './contract/rooms.ts';
import { createSignalCatalog } from './contract/signals.ts';
import { createAllNodes } from './http/all-nodes.ts';
import { createApp, createMetricsApp } from './http/app.ts';
import { createNodeMonitor } from './http/node-monitor.ts';
import { createCheckRoutes } from './http/routes/check.ts';
import { connectionAnswerers } from './http/routes/connections.ts';
import { refusalAnswerers } from './http/routes/refusals.ts';
import { createStats } from './http/routes/stats.ts';
import { createHttpServer } from './http/server.ts';
import { createLogger, createSparseWarning } from './logger.ts';
import { createPrometheus } from './metrics/prometheus.ts';
import { openStore } from './store/open.ts';
import { createTopics } from './store/topics.ts';
import { createCheckArrivals } from './transports/check-arrivals.ts';
import { createCheckGate } from './transports/check-gate.ts';
import { createConnected } from './transports/connected.ts';
import { createGate } from './transports/gate.ts';
import { createPolling } from './transports/longpoll.ts';
import { createReaders } from './transports/readers.ts';
import { createSocketIo } from './transports/socketio/endpoint.ts';
import { createSse } from './transports/sse/endpoint.ts';

export type { Published } from './bus/publish.ts';
export type { Config } from './config.ts';
export { BridgeError } from './contract/errors.ts';

export interface Listening {
  readonly host: string;
  readonly port: number;
  readonly url: string;
  /** Where METRICS_PORT serves the metrics; null without one. */
  readonly metricsUrl: string | null;
}

export interface InProcessOptions extends Pick<PublishOptions, 'idempotencyKey'> {
  /** The event's tenant, where the payload has none, or as a check. */
  readonly tenantId?: string | number | null;
  /** 1 to 100 rooms that hear the event, in place of those that its payload names (protocol §2, §9). */
  readonly rooms?: readonly string[] | null;
}

export interface InProcessSignal {
  /** The tenant of the room. Required with AUTH_MODE=jwt. */
  readonly tenantId?: string | number | null;
  /** 1 to 120, default 10; 0 ends the signal. */
  readonly ttlSeconds?: number;
}

export interface Bridge {
  readonly config: Config;
  /**
   * Appends one event. Resolves once it is durable and on its way to the listeners.
   * @throws {BridgeError} `unknown_event`, `invalid_payload`, `invalid_body`, `idempotency_conflict`, `unavailable`, `outcome_unknown`
   */
  publish(event: string, payload: object, options?: InProcessOptions): Promise<Published>;
  /**
   * Sends a signal to a room (protocol §14). Resolves to the number of listeners on this node.
   * @throws {BridgeError} `unknown_event`, `invalid_signal`, `unavailable`
   */
  signal(event: string, room: string, payload?: object, options?: InProcessSignal): Promise<{ listeners: number }>;
  /** Serves HTTP and Socket.IO on the configured host and port. */
  listen(): Promise<Listening>;
  /** Drains within `drainMs` and releases everything. A log that hangs may take a few seconds more. */
  close(): Promise<void>;
}

/** The program that runs the bridge: it may signal in any room of any tenant. */
const PROGRAM: Principal = {
  kind: 'token',
  tenants: '*',
  subject: null,
  scopes: new Set(['publish']),
  narrowing: null,
  openKinds: [],
  claimed: new Map(),
  tokenId: null,
  issuedAtS: null,
  expiresAtMs: null,
};

/** Streams, sockets and long polls that are admitted in one turn of the event loop. */
const ADMISSIONS_PER_TURN = 8;
/** The share of `drainMs` after which a drain cuts the connections that are left. */
const CUT_SHARE = 0.8;
const HOUR_MS = 3_600_000;

/**
 * Opens the log and wires the bridge. Options that you leave out have their defaults (protocol §13).
 * @throws {Error} one line: a setting is wrong, or the log cannot be opened
 */
export async function createBridge(options: Partial<Config> = {}): Promise<Bridge> {
  const config = configure(options);
  const logger = createLogger(config.logLevel, config.logFormat);
  const keying = keyingOf(config.authMode);
  const store = await openStore(config.storeUrl, keying, logger, config);
  const revoked = createRevoked(logger);
  // Without tokens, there is nothing to refuse.
  if (config.authMode === 'jwt') {
    await store.followRevocations(revoked).catch(async (error) => {
      await store.close();
      throw error;
    });
  }
  const signalCatalog = createSignalCatalog(config.signals, allKinds(config.roomKinds));
  /** Its name as a sender of signals. */
  const programName = nanoid();
  const catalog = createEventCatalog(config.extraEvents, config.roomKinds);
  const prometheus = createPrometheus({
    roomLabel: config.metricsRoomLabel,
    maxRooms: config.metricsMaxRooms,
    sampleStore: () => store.stats(),
  });
  const { metrics } = prometheus;
  const retention = {
    retentionMs: config.retentionHours * HOUR_MS,
    maxRecords: config.retentionEvents,
    stateMs: config.stateDays * 24 * HOUR_MS,
    dedupeMs: config.dedupeHours * HOUR_MS,
    revocationMs: config.revocationDays * 24 * HOUR_MS,
  };
  const topicOf = createTopics(store);
  const bus = createBus({
    store,
    nodes: topicOf('signals'),
    catalog,
    keying,
    aliases: aliasesOf(config),
    signals: config.signals,
    maxBufferBytes: config.maxBufferBytes,
    retention,
    metrics,
    logger,
  });

  const isOpenHere = config.authMode === 'none' && isLoopback(config.host);
  const origins = createOrigins({ ...config, localPages: isOpenHere });
  const onForeignPage = createSparseWarning(logger);
  const auth = createAuth(config, origins, (name) => store.secret(name), { onForeignPage });
  const principalOf = (credentials: Credentials): Principal | Promise<Principal> => {
    const found = auth.principalOf(credentials);
    return found instanceof Promise ? found.then(revoked.current) : revoked.current(found);
  };
  const credentialsOf = (context: BridgeContext, acceptsPass: boolean) =>
    credentialsOfRequest(context.env.incoming.headers, queryOf(context), config.authCookie, acceptsPass);
  const refusals = createRefusals({
    ...{ metrics, logger, trustProxy: config.trustProxy },
    async readIdentity({ headers, url = '/' }) {
      if (config.authMode === 'none') return null;
      try {
        const query = new URL(url, 'http://localhost').searchParams;
        const principal = await auth.principalOf(credentialsOfRequest(headers, query, config.authCookie, true));
        return principal.kind === 'token' ? principal : null;
      } catch (error) {
        return identityOf(error) ?? null;
      }
    },
  });
  const authenticate = (acceptsPass: boolean) => (context: BridgeContext) => {
    const identified = (principal: Principal): Principal => {
      refusals.identify(context.env.incoming, principal);
      return principal;
    };
    const found = principalOf(credentialsOf(context, acceptsPass));
    return found instanceof Promise ? found.then(identified) : identified(found);
  };
  const mayScrape = createMetricsAccess(config, principalOf);
  const readers = createReaders({ metrics, logger });
  const gate = createGate({
    store,
    limits: createConnectionLimits(config),
    readers,
    pacer: createPacer(ADMISSIONS_PER_TURN),
    trustProxy: config.trustProxy,
  });
  const ready = () => !gate.draining && store.healthy();
  const countRead = createReadLimit(config.rateReads);
  const connected = createConnected(logger);
  const common = { bus, store, config, metrics, logger, gate, revoked, countRead, refusals, connected };

  const sse = createSse({ ...common, principalOf: authenticate(true) });
  const polling = createPolling({ ...common, principalOf: authenticate(true) });
  const checkGate = createCheckGate(config, gate);
  const checkArrivals = createCheckArrivals();
  const checkRoutes = createCheckRoutes({ config, metrics, gate: checkGate, arrivals: checkArrivals, ready });
  const socketio = createSocketIo({
    ...common,
    checkGate,
    checkArrivals,
    principalOf: (handshake) =>
      principalOf(credentialsOfHandshake(handshake.auth, handshake.headers, handshake.query, config.authCookie)),
    origins,
    originRefusal: (request) => origins.refusal(pageFacts(request.headers)),
  });
  const monitor = createNodeMonitor({ store, prometheus, logger });
  const allNodes = createAllNodes({
    channel: topicOf('operators'),
    monitor,
    answerers: { ...connectionAnswerers(connected, monitor.self.id), ...refusalAnswerers(refusals, monitor.self.id) },
    logger,
  });
  const stats = createStats({
    ...common,
    prometheus,
    monitor,
    draining: () => gate.draining,
    authenticate: authenticate(false),
  });
  const app = createApp({
    ...common,
    prometheus,
    stats,
    allNodes,
    authenticate: authenticate(false),
    authenticateReader: authenticate(true),
    authorizeMetrics: (context) => mayScrape(credentialsOf(context, false)),
    mintPass: auth.mintPass,
    ready,
    transports: { sse: sse.handle, events: polling.handle },
    check: checkRoutes,
  });
  const hostRule = createHostRule(config.allowedHosts);
  const server = createHttpServer({
    ...common,
    hostRule: isOpenHere ? hostRule : null,
    origins,
    readers,
    socketio,
    app,
  });
  const { metricsHost, metricsPort } = config;
  const metricsServer =
    metricsPort === null
      ? null
      : createHttpServer({
          ...common,
          config: { ...config, host: metricsHost, port: metricsPort },
          hostRule: isLoopback(metricsHost) ? hostRule : null,
          origins: null,
          readers,
          socketio: null,
          app: createMetricsApp({ ...common, prometheus, ready }),
        });

  async function close(): Promise<void> {
    gate.startDraining();
    const cutAfterMs = config.drainMs * CUT_SHARE;
    const drained = Promise.all([server.drain(cutAfterMs), metricsServer?.drain(cutAfterMs)]);
    for (const transport of [socketio, sse, polling, checkRoutes]) transport.drain();
    await drained;
    stats.close();
    await monitor.close();
    await socketio.close();
    await bus.close();
    await store.close();
  }
  let closing: Promise<void> | null = null;
  let scraping: Promise<number> | null = null;

  return {
    config,
    async publish(event, payload, { tenantId = null, rooms = null, idempotencyKey = null } = {}) {
      const input = { event, payload: toJsonValue(payload), tenantId, rooms };
      const [published] = await bus.publish([input], { idempotencyKey });
      return published as Published;
    },
    async signal(event, room, payload = {}, options = {}) {
      if (closing !== null) throw new BridgeError('unavailable', 'The bridge is closed.');
      const request = signalCatalog.check({ ...options, event, room, payload: toJsonValue(payload) });
      const signal = signalOf(config.authMode === 'none' ? ANONYMOUS : PROGRAM, request, () => programName);
      const listeners = bus.signals.listeners(signal);
      bus.signals.send(signal, false);
      return { listeners };
    },
    async listen() {
      if (closing !== null) throw new BridgeError('unavailable', 'The bridge is closed.');
      // Both in this turn, so that a `close` from now on ends both. The metrics stay up while a caller tries another time.
      scraping ??= metricsServer?.listen() ?? null;
      const [port, scraped] = await Promise.all([server.listen(), scraping]);
      return {
        host: config.host,
        port,
        url: urlOf(config.host, port, config.basePath),
        metricsUrl: scraped === null ? null : urlOf(metricsHost, scraped, '/metrics'),
      };
    },
    close() {
      closing ??= close();
      return closing;
    },
  };
}

function urlOf(host: string, port: number, path: string): string {
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}${path}`;
}
