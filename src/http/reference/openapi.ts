/**
 * The OpenAPI 3.1 document, built from what the routes check with: the query shapes of routes and transports, and the
 * payload schemas of contract/events.ts. openapi.yaml is this document with the default settings. Tests fail if the two
 * differ, or if the document and the app list different routes.
 */
import type { Config } from '../../config.ts';
import { pathsOf } from './operations.ts';
import { type ApiResponse, COMMON_RESPONSES, type JsonObject, type Operation, type Paths } from './parts.ts';
import { type Declared, schemas } from './schemas.ts';

export interface OpenApiDocument {
  readonly openapi: '3.1.0';
  readonly info: {
    readonly title: string;
    readonly version: string;
    readonly description: string;
    readonly license: JsonObject;
  };
  readonly servers: readonly { readonly url: string }[];
  readonly security: readonly JsonObject[];
  readonly tags: readonly { readonly name: string; readonly description: string }[];
  readonly paths: Paths;
  readonly components: {
    readonly schemas: Readonly<Record<string, JsonObject>>;
    readonly responses: Readonly<Record<string, ApiResponse>>;
    readonly headers: Readonly<Record<string, JsonObject>>;
    readonly securitySchemes: Readonly<Record<string, JsonObject>>;
  };
}

export type DocumentOptions = Pick<Config, 'basePath'> & Declared;

export const API_VERSION = '1.0.0';

export function createDocument({ basePath, ...declared }: DocumentOptions): OpenApiDocument {
  return {
    openapi: '3.1.0',
    info: {
      title: 'Roomcast',
      version: API_VERSION,
      description:
        'Roomcast is a realtime bridge with one durable log. You publish events over HTTP; clients that joined the rooms ' +
        'of an event receive it over Socket.IO, Server-Sent Events or polling, with the same bytes and the same cursor. ' +
        'asyncapi.yaml describes the messages of Socket.IO and Server-Sent Events. If the operator requires tokens ' +
        '(`AUTH_MODE=jwt`), send yours in the header `Authorization: Bearer …`. Errors are problem documents (RFC 9457); ' +
        'your code decides by their `code`.',
      license: { name: 'MIT', identifier: 'MIT' },
    },
    servers: [{ url: basePath === '' ? '/' : basePath }],
    // The empty requirement means no token, as with AUTH_MODE=none.
    security: [{}, { bearer: [] }, { cookie: [] }, { accessToken: [] }],
    tags: [
      { name: 'Publish', description: 'Send events to the bridge. Once you have the response, they are durable.' },
      { name: 'Listen', description: 'Receive events, live or after a cursor.' },
      {
        name: 'Signals',
        description:
          'Facts that expire, such as "somebody is typing". The bridge sends them on, and does not log them.',
      },
      { name: 'State', description: 'Read the newest state of tickets: when your client starts, and after a reset.' },
      { name: 'Operate', description: 'Metrics, health, erasure, the pages of the bridge, and this description.' },
    ],
    paths: Object.fromEntries(
      Object.entries(pathsOf(declared)).map(([path, operations]) => [
        path,
        // Load balancers probe these two by names of their own.
        path === '/healthz' || path === '/readyz' ? operations : withHostProblem(operations),
      ]),
    ),
    components: {
      schemas: schemas(declared),
      responses: COMMON_RESPONSES,
      headers: {
        RequestId: {
          description:
            'Identifies the request, in problems and in the server’s log: your own `X-Request-Id`, if it has 1 to 128 ' +
            'visible ASCII characters; else a new one.',
          schema: { type: 'string', minLength: 1, maxLength: 128 },
        },
      },
      securitySchemes: {
        bearer: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' },
        cookie: {
          type: 'apiKey',
          in: 'cookie',
          name: 'access_token',
          description: 'The operator sets the name with `AUTH_COOKIE`.',
        },
        accessToken: { type: 'apiKey', in: 'query', name: 'access_token' },
        metricsToken: { type: 'http', scheme: 'bearer', description: 'The operator’s `METRICS_TOKEN`.' },
        pass: {
          type: 'apiKey',
          in: 'query',
          name: 'pass',
          description: 'A listen-only stand-in for a token, from `POST /pass`.',
        },
      },
    },
  };
}

/** Without tokens, a bridge on a loopback address refuses a `Host` that is not local (protocol §11). */
function withHostProblem(operations: Readonly<Record<string, Operation>>): Readonly<Record<string, Operation>> {
  const problem = { 421: { $ref: '#/components/responses/host_not_allowed' } };
  return Object.fromEntries(
    Object.entries(operations).map(([method, operation]) => [
      method,
      { ...operation, responses: { ...operation.responses, ...problem } },
    ]),
  );
}
