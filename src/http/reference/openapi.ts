/**
 * The API's description (OpenAPI 3.1), made from the schemas that the routes check with: query parameters from the
 * shapes of transports/query.ts, payloads from contract/events.ts. The repository's openapi.yaml is this, with the
 * default configuration; a test fails when they differ, and when the document and the app's routes disagree.
 */
import { JSON_TYPE } from '../../answers/answer.ts';
import { MESSAGES_NEW, TICKETS_UPDATED } from '../../contract/events.ts';
import {
  assetOperation,
  eraseTenantOperation,
  eraseTicketOperation,
  eventsOperation,
  messagesOperation,
  operate,
  PAGE,
  passOperation,
  probePollOperation,
  probeStreamOperation,
  publishOperation,
  redirectOperation,
  sseOperation,
  statsOperation,
  statusContent,
  ticketOperation,
  ticketsOperation,
} from './operations.ts';
import { type JsonObject, type Operation, ok, problems } from './parts.ts';
import { schemas } from './schemas.ts';

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
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: {
    readonly schemas: Readonly<Record<string, JsonObject>>;
    readonly securitySchemes: Readonly<Record<string, JsonObject>>;
  };
}

export interface DocumentOptions {
  readonly basePath: string;
  /** Every name that may be published, the operator's declared ones included. */
  readonly eventNames: readonly string[];
}

export const API_VERSION = '1.0.0';

export function createDocument({ basePath, eventNames }: DocumentOptions): OpenApiDocument {
  const declared = eventNames.filter((name) => name !== TICKETS_UPDATED && name !== MESSAGES_NEW);
  return {
    openapi: '3.1.0',
    info: {
      title: 'Roomcast',
      version: API_VERSION,
      description:
        'A realtime bridge with one durable log: the same events, the same bytes and the same cursor over Socket.IO, ' +
        'Server-Sent Events and polling. What is heard, over Socket.IO too, is described in asyncapi.yaml.',
      license: { name: 'MIT', identifier: 'MIT' },
    },
    servers: [{ url: basePath === '' ? '/' : basePath }],
    // The empty requirement: with AUTH_MODE=none nobody shows a token.
    security: [{}, { bearer: [] }, { cookie: [] }, { accessToken: [] }],
    tags: [
      { name: 'Publish', description: 'Events go in here, and are durable once answered.' },
      { name: 'Listen', description: 'Events come out here, live and from a cursor on.' },
      { name: 'State', description: 'The newest state of tickets, to begin with and to come back to after a gap.' },
      { name: 'Operate', description: 'Metrics, health, and this description.' },
    ],
    paths: {
      '/events': { post: publishOperation(), get: eventsOperation() },
      '/sse': { get: sseOperation() },
      '/tickets': { get: ticketsOperation() },
      '/tickets/{ticketId}': { get: ticketOperation(), delete: eraseTicketOperation() },
      '/tickets/{ticketId}/messages': { get: messagesOperation() },
      '/tenants/{tenantId}': { delete: eraseTenantOperation() },
      '/pass': { post: passOperation() },
      '/stats': { get: statsOperation() },
      '/metrics': {
        get: operate('metrics', 'Metrics for Prometheus', {
          'text/plain': { schema: { type: 'string' } },
          'application/openmetrics-text': { schema: { type: 'string' } },
        }),
      },
      '/healthz': { get: operate('healthz', 'Whether the process lives', statusContent('alive')) },
      '/readyz': {
        get: {
          ...operate('readyz', 'Whether the log takes events', statusContent('ready')),
          responses: { 200: ok('It does.', statusContent('ready')), ...problems(['unavailable']) },
        },
      },
      '/openapi.json': {
        get: operate('openapiJson', 'This description as JSON', { [JSON_TYPE]: { schema: { type: 'object' } } }),
      },
      '/openapi.yaml': {
        get: operate('openapiYaml', 'This description as YAML', { 'application/yaml': { schema: { type: 'string' } } }),
      },
      '/asyncapi.yaml': {
        get: operate('asyncapiYaml', 'What is heard over Socket.IO and SSE, as AsyncAPI 3.0', {
          'application/yaml': { schema: { type: 'string' } },
        }),
      },
      '/docs': {
        get: operate('docs', 'This description as a page', PAGE),
      },
      '/docs/': { get: redirectOperation('docsSlash', 'To this description as a page', '/docs') },
      '/': { get: redirectOperation('home', 'To the operators’ page', '/console') },
      '/console': { get: operate('console', 'The operators’ page', PAGE) },
      '/console/': { get: redirectOperation('consoleSlash', 'To the operators’ page', '/console') },
      '/check': { get: operate('check', 'Which transport works from this browser', PAGE) },
      '/check/': { get: redirectOperation('checkSlash', 'To the check', '/check') },
      '/check/stream': { get: probeStreamOperation() },
      '/check/poll': { get: probePollOperation() },
      '/assets/{file}': { get: assetOperation() },
    },
    components: {
      schemas: schemas(declared),
      securitySchemes: {
        bearer: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' },
        cookie: { type: 'apiKey', in: 'cookie', name: 'access_token', description: 'The name is set by AUTH_COOKIE.' },
        accessToken: { type: 'apiKey', in: 'query', name: 'access_token' },
        pass: { type: 'apiKey', in: 'query', name: 'pass', description: 'A listen-only stand-in for a token.' },
      },
    },
  };
}
