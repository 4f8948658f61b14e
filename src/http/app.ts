/**
 * Every HTTP route except Socket.IO's: the list below says which routes exist and who may call them. Also here: what all
 * routes share, under `BASE_PATH`: preflights, errors as problem+json, 404 and 405. (answers/headers.ts sets the headers
 * that every response carries.)
 */
import type { IncomingMessage } from 'node:http';
import type { HttpBindings } from '@hono/node-server';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import { Hono } from 'hono';
import { type Authenticate, answer, type BridgeContext, type Handler } from '../answers/answer.ts';
import { answerProblem } from '../answers/problem.ts';
import type { Refusals, Refused } from '../answers/refusals.ts';
import type { Auth } from '../auth/auth.ts';
import type { Revoked } from '../auth/revocations.ts';
import type { Bus } from '../bus/bus.ts';
import type { Config } from '../config.ts';
import { BridgeError } from '../contract/errors.ts';
import type { Logger } from '../logger.ts';
import type { Prometheus } from '../metrics/prometheus.ts';
import type { Revocations } from '../store/revocations.ts';
import type { Erasure, LogScan, Secrets, TicketState } from '../store/store.ts';
import type { Gate } from '../transports/gate.ts';
import type { AllNodes } from './all-nodes.ts';
import { createReferenceRoutes } from './reference/routes.ts';
import type { CheckRoutes } from './routes/check.ts';
import { createConnectionRoutes } from './routes/connections.ts';
import { createEraseRoutes } from './routes/erase.ts';
import { createLogRoute } from './routes/log.ts';
import { createOpsRoutes, type OpsDeps } from './routes/ops.ts';
import { createPages } from './routes/pages.ts';
import { createPassRoute } from './routes/pass.ts';
import { createPublishRoute } from './routes/publish.ts';
import { createRefusalsRoute } from './routes/refusals.ts';
import { createRevocationRoutes } from './routes/revocations.ts';
import { createSignalRoutes } from './routes/signals.ts';
import { createStateRoutes } from './routes/state.ts';
import type { StatsRoutes } from './routes/stats.ts';
import { rawPathOf } from './target.ts';

export interface AppDeps {
  readonly config: Config;
  readonly bus: Bus;
  readonly gate: Pick<Gate, 'admitAnswer'>;
  readonly store: TicketState & Erasure & Secrets & Revocations & LogScan;
  readonly revoked: Pick<Revoked, 'current'>;
  readonly logger: Logger;
  readonly prometheus: Prometheus;
  readonly refusals: Refusals;
  readonly allNodes: AllNodes;
  readonly stats: Pick<StatsRoutes, 'stats' | 'statsHistory'>;
  /** @throws {BridgeError} `unauthorized`, `token_expired`, `unavailable` */
  readonly authenticate: Authenticate;
  /** As `authenticate`; a pass counts as well. */
  readonly authenticateReader: Authenticate;
  readonly authorizeMetrics: OpsDeps['authorizeMetrics'];
  /** @throws {BridgeError} `rate_limited` */
  readonly countRead: (caller: string) => void;
  readonly mintPass: Auth['mintPass'];
  readonly ready: () => boolean;
  readonly transports: { readonly sse: Handler; readonly events: Handler };
  readonly check: Pick<CheckRoutes, 'stream' | 'poll'>;
}

type Route = readonly [method: 'GET' | 'POST' | 'DELETE', path: string, handler: Handler];
export type BridgeApp = Hono<{ Bindings: HttpBindings }>;

/** How long a browser may cache the answer to a preflight. */
const PREFLIGHT_SECONDS = 600;

const ALLOWED_HEADERS = 'Authorization, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID';

export function createApp(deps: AppDeps): BridgeApp {
  const { config, transports, check } = deps;
  const state = createStateRoutes(deps);
  const erase = createEraseRoutes(deps);
  const signals = createSignalRoutes(deps);
  const revocations = createRevocationRoutes(deps);
  const connections = createConnectionRoutes(deps);
  const ops = createOpsRoutes(deps);
  const reference = createReferenceRoutes(config);
  const pages = createPages(config);

  // With AUTH_MODE=none everyone may call every route. With AUTH_MODE=jwt each handler checks the credential named here.
  const routes: readonly Route[] = [
    // A token with the scope `subscribe`, or a pass.
    ['GET', '/sse', transports.sse],
    ['GET', '/events', transports.events],
    ['GET', '/signals', signals.list],

    // A token with the scope `publish`.
    ['POST', '/events', createPublishRoute(deps)],

    // A token with the scope `signal` or `publish`.
    ['POST', '/signals', signals.send],

    // A token with the scope `subscribe`.
    ['GET', '/tickets', state.tickets],
    ['GET', '/tickets/:ticketId', state.ticket],
    ['GET', '/tickets/:ticketId/messages', state.messages],
    ['POST', '/pass', createPassRoute(deps)],

    // A token with the scope `admin`.
    ['DELETE', '/tickets/:ticketId', erase.ticket],
    ['DELETE', '/tenants/:tenantId', erase.tenant],
    ['GET', '/stats', deps.stats.stats],
    ['GET', '/stats/history', deps.stats.statsHistory],
    ['GET', '/connections', connections.list],
    ['GET', '/connections/:id', connections.get],
    ['DELETE', '/connections', connections.closeAll],
    ['DELETE', '/connections/:id', connections.close],
    ['GET', '/refusals', createRefusalsRoute(deps)],
    ['GET', '/log', createLogRoute(deps)],
    ['POST', '/revocations', revocations.create],
    ['GET', '/revocations', revocations.list],
    ['DELETE', '/revocations/:id', revocations.lift],

    // METRICS_TOKEN, or a token with the scope `metrics` or `admin` for all tenants.
    ['GET', '/metrics', ops.metrics],

    // Everyone, without a token.
    ['GET', '/healthz', ops.healthz],
    ['GET', '/readyz', ops.readyz],
    ['GET', '/openapi.json', reference.openapiJson],
    ['GET', '/openapi.yaml', reference.openapiYaml],
    ['GET', '/asyncapi.yaml', reference.asyncapiYaml],
    ['GET', '/docs', reference.docs],
    ['GET', '/docs/', pages.withoutSlash],
    ['GET', '/', pages.home],
    // Under a base path, Hono matches `/` without the trailing slash, and the empty path with it.
    ...(config.basePath === '' ? [] : [['GET', '', pages.home] as const]),
    ['GET', '/console', pages.console],
    ['GET', '/console/', pages.withoutSlash],
    ['GET', '/check', pages.check],
    ['GET', '/check/', pages.withoutSlash],
    ['GET', '/check/stream', check.stream],
    ['GET', '/check/poll', check.poll],
    ['GET', '/assets/:file', pages.asset],
  ];

  return serveRoutes(routes, deps);
}

/** The app of METRICS_PORT. It answers with and without BASE_PATH, so that a scraper needs to know the port only. */
export function createMetricsApp(
  deps: Pick<AppDeps, 'config' | 'prometheus' | 'refusals' | 'logger' | 'ready'>,
): BridgeApp {
  const { metrics } = createOpsRoutes({ ...deps, authorizeMetrics: async () => {} });
  const paths = new Set(['/metrics', `${deps.config.basePath}/metrics`]);
  const routes = [...paths].map((path) => ['GET', path, metrics] as const);
  return serveRoutes(routes, { ...deps, config: { basePath: '' } });
}

interface ServeDeps extends Pick<AppDeps, 'refusals' | 'logger'> {
  readonly config: Pick<Config, 'basePath'>;
}

function serveRoutes(routes: readonly Route[], { config, refusals, logger }: ServeDeps): BridgeApp {
  const app = appOf(config.basePath);
  const onError = (error: unknown, context: BridgeContext): Response =>
    answerProblem(context, error, transportOf(context, config.basePath), { refusals, logger });
  /** Hono need not wait for an answer that goes to Node's response: that would take it several promises. */
  const unawaited =
    (handler: Handler): Handler =>
    (context) => {
      const answered = handler(context);
      if (answered instanceof Promise) answered.catch((error: unknown) => onError(error, context));
      return RESPONSE_ALREADY_SENT;
    };
  for (const [method, path, handler] of routes) app.on(method, path, unawaited(handler));
  // An app of its own: with a second handler for a path, Hono would run both as a chain of middleware, for each request.
  const others = appOf(config.basePath).onError(onError);
  for (const [path, ofPath] of Map.groupBy(routes, ([, path]) => path)) {
    others.all(path, answerOtherMethod(ofPath.map(([method]) => method)));
  }
  others.notFound((context: BridgeContext) => {
    const error = new BridgeError('not_found', `No route has this path. See ${config.basePath}/docs for all routes.`);
    return answerProblem(context, error, 'http', { refusals, logger });
  });
  app.notFound(({ env, req }: BridgeContext) => others.fetch(req.raw, env));
  return app.onError(onError);
}

const appOf = (basePath: string): BridgeApp =>
  new Hono<{ Bindings: HttpBindings }>({
    getPath: (_request, options) => rawPathOf(options?.env?.incoming as IncomingMessage),
  }).basePath(basePath);

/** A `GET /events` that does not wait is a plain request. */
function transportOf({ req }: BridgeContext, basePath: string): Refused['transport'] {
  const path = req.path.slice(basePath.length);
  if (path === '/sse') return 'sse';
  const waits = path === '/events' && req.method === 'GET' && Number(req.query('wait')) > 0;
  return waits ? 'longpoll' : 'http';
}

/** Answers OPTIONS (also CORS preflights), and other methods with 405 and `Allow` (RFC 9110 §15.5.6). */
function answerOtherMethod(methods: readonly string[]): Handler {
  const allow = [...methods.flatMap((method) => (method === 'GET' ? ['GET', 'HEAD'] : [method])), 'OPTIONS'].join(', ');
  return (context) => {
    const { outgoing } = context.env;
    outgoing.setHeader('Allow', allow);
    if (context.req.method !== 'OPTIONS') {
      throw new BridgeError(
        'method_not_allowed',
        `This path does not support ${context.req.method}. It supports ${allow}.`,
      );
    }
    if (outgoing.hasHeader('Access-Control-Allow-Origin')) {
      outgoing.setHeader('Access-Control-Allow-Methods', allow);
      outgoing.setHeader('Access-Control-Allow-Headers', ALLOWED_HEADERS);
      outgoing.setHeader('Access-Control-Max-Age', PREFLIGHT_SECONDS);
    }
    return answer(context, 204, {});
  };
}
