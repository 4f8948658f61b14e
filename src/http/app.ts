/**
 * Every HTTP route but Socket.IO's, under `BASE_PATH`, and what all of them share: preflights, one translator for
 * errors, 404 and 405 as problems, HEAD as GET. (The headers that all answers carry are answers/headers.ts's.)
 */
import type { HttpBindings } from '@hono/node-server';
import { Hono } from 'hono';
import { answer, type BridgeContext, type Handler } from '../answers/answer.ts';
import { answerProblem } from '../answers/problem.ts';
import type { Auth } from '../auth/auth.ts';
import type { Principal } from '../auth/principal.ts';
import type { Bus } from '../bus/bus.ts';
import type { Config } from '../config.ts';
import { BridgeError } from '../contract/errors.ts';
import type { EventCatalog } from '../contract/events.ts';
import type { Logger } from '../logger.ts';
import type { Prometheus } from '../metrics/prometheus.ts';
import type { Erasure, TicketState } from '../store/store.ts';
import { createAsyncApi } from './reference/asyncapi.ts';
import { renderDocs } from './reference/docs-page.ts';
import { createDocument } from './reference/openapi.ts';
import type { Probes } from './routes/check.ts';
import { createEraseRoutes } from './routes/erase.ts';
import { createOpsRoutes } from './routes/ops.ts';
import { createPages } from './routes/pages.ts';
import { createPassRoute } from './routes/pass.ts';
import { createPublishRoute } from './routes/publish.ts';
import { createStateRoutes } from './routes/state.ts';

export interface AppDeps {
  readonly config: Config;
  readonly bus: Bus;
  readonly store: TicketState & Erasure;
  readonly catalog: EventCatalog;
  readonly logger: Logger;
  readonly prometheus: Prometheus;
  readonly stats: Handler;
  /** @throws {BridgeError} `unauthorized`, `token_expired`, `unavailable` */
  readonly authenticate: (context: BridgeContext) => Promise<Principal>;
  readonly mintPass: Auth['mintPass'];
  readonly ready: () => boolean;
  readonly transports: { readonly sse: Handler; readonly events: Handler };
  readonly probes: Pick<Probes, 'stream' | 'poll'>;
}

type Method = 'GET' | 'POST' | 'DELETE';
export type BridgeApp = Hono<{ Bindings: HttpBindings }>;

/** How long a browser may keep the answer to a preflight. */
const PREFLIGHT_SECONDS = 600;

const ALLOWED_HEADERS = 'Authorization, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID';

export function createApp(deps: AppDeps): BridgeApp {
  const { config, catalog, prometheus, logger, transports } = deps;
  const document = createDocument({ basePath: config.basePath, eventNames: catalog.names });
  const state = createStateRoutes(deps);
  const erase = createEraseRoutes(deps);
  const asyncApi = createAsyncApi({ ...config, eventNames: catalog.names });
  const ops = createOpsRoutes({ prometheus, ready: deps.ready, document, asyncApi, docs: renderDocs(document) });
  const pages = createPages(config);
  const routes: Readonly<Record<string, Partial<Record<Method, Handler>>>> = {
    '/sse': { GET: transports.sse },
    '/events': { GET: transports.events, POST: createPublishRoute(deps) },
    '/tickets': { GET: state.tickets },
    '/tickets/:ticketId': { GET: state.ticket, DELETE: erase.ticket },
    '/tickets/:ticketId/messages': { GET: state.messages },
    '/tenants/:tenantId': { DELETE: erase.tenant },
    '/pass': { POST: createPassRoute(deps) },
    '/stats': { GET: deps.stats },
    '/metrics': { GET: ops.metrics },
    '/healthz': { GET: ops.healthz },
    '/readyz': { GET: ops.readyz },
    '/openapi.json': { GET: ops.openapiJson },
    '/openapi.yaml': { GET: ops.openapiYaml },
    '/asyncapi.yaml': { GET: ops.asyncapiYaml },
    '/docs': { GET: ops.docs },
    '/docs/': { GET: pages.withoutSlash },
    '/': { GET: pages.home },
    // Under a base path Hono takes `/` for that path without a slash at its end, and this for the one with it.
    ...(config.basePath === '' ? {} : { '': { GET: pages.home } }),
    '/console': { GET: pages.console },
    '/console/': { GET: pages.withoutSlash },
    '/check': { GET: pages.check },
    '/check/': { GET: pages.withoutSlash },
    '/check/stream': { GET: deps.probes.stream },
    '/check/poll': { GET: deps.probes.poll },
    '/assets/:file': { GET: pages.asset },
  };

  const root: BridgeApp = new Hono<{ Bindings: HttpBindings }>();
  const app: BridgeApp = root.basePath(config.basePath);
  for (const [path, handlers] of Object.entries(routes)) {
    for (const [method, handler] of Object.entries(handlers)) app.on(method, path, handler);
    app.all(path, otherMethod(Object.keys(handlers)));
  }
  app.notFound((context: BridgeContext) => {
    const error = new BridgeError('not_found', 'There is nothing at this path.');
    return answerProblem(context, error, { metrics: prometheus.metrics, logger });
  });
  app.onError((error, context) => answerProblem(context, error, { metrics: prometheus.metrics, logger }));
  return app;
}

/** OPTIONS (and with it CORS preflights), and 405 with `Allow` for what a path does not take (RFC 9110 §15.5.6). */
function otherMethod(methods: readonly string[]): Handler {
  const allow = [...methods.flatMap((method) => (method === 'GET' ? ['GET', 'HEAD'] : [method])), 'OPTIONS'].join(', ');
  return (context) => {
    const { outgoing } = context.env;
    outgoing.setHeader('Allow', allow);
    if (context.req.method !== 'OPTIONS') {
      throw new BridgeError('method_not_allowed', `${context.req.method} is not allowed here; ${allow} are.`);
    }
    if (outgoing.hasHeader('Access-Control-Allow-Origin')) {
      outgoing.setHeader('Access-Control-Allow-Methods', allow);
      outgoing.setHeader('Access-Control-Allow-Headers', ALLOWED_HEADERS);
      outgoing.setHeader('Access-Control-Max-Age', PREFLIGHT_SECONDS);
    }
    return answer(context, 204, {});
  };
}
