/** The app, openapi.yaml and the /docs page describe the same API. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { Ajv } from 'ajv';
import { parse } from 'yaml';
import { createRevoked } from '../../src/auth/revocations.ts';
import { configure } from '../../src/config.ts';
import { ERRORS } from '../../src/contract/errors.ts';
import { type Audience, createEventCatalog } from '../../src/contract/events.ts';
import { allKinds, ID_SCHEMA, isRoomId } from '../../src/contract/rooms.ts';
import { createSignalCatalog } from '../../src/contract/signals.ts';
import { createApp } from '../../src/http/app.ts';
import { createDocument, type OpenApiDocument } from '../../src/http/reference/openapi.ts';
import type { ApiResponse, Content, Operation } from '../../src/http/reference/parts.ts';
import { toYaml } from '../../src/http/reference/routes.ts';
import { createLogger } from '../../src/logger.ts';
import { createPrometheus } from '../../src/metrics/prometheus.ts';
import { startBridge } from '../support/bridge.ts';

const catalog = createEventCatalog();
const document = createDocument(configure());

const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ name: `${method.toUpperCase()} ${path}`, operation })),
);

/** The response itself, also of those that every route has. */
function resolved(response: Operation['responses'][string]): ApiResponse {
  if (!('$ref' in response)) return response;
  const { [response.$ref.replace('#/components/responses/', '')]: common } = document.components.responses;
  assert.ok(common, response.$ref);
  return common;
}

test('openapi.yaml matches the schemas; `npm run openapi` writes it', async () => {
  const file = await readFile(new URL('../../openapi.yaml', import.meta.url), 'utf8');
  assert.equal(file, toYaml(document));
  assert.deepEqual(parse(file), document);
});

test('the document and the app list the same routes', () => {
  const unused = () => assert.fail('no request is made');
  const app = createApp({
    config: configure(),
    bus: {} as never,
    gate: { admitAnswer: () => {} },
    store: {} as never,
    revoked: createRevoked(createLogger('silent')),
    logger: createLogger('silent'),
    prometheus: createPrometheus({ roomLabel: 'room', maxRooms: 1, sampleStore: unused }),
    refusals: { identify: unused, add: unused, addTo: unused, list: unused },
    allNodes: { ask: unused },
    authenticate: unused,
    authenticateReader: unused,
    authorizeMetrics: async () => {},
    countRead: () => {},
    mintPass: unused,
    ready: unused,
    transports: { sse: unused, events: unused },
    stats: { stats: unused, statsHistory: unused },
    check: { stream: unused, poll: unused },
  });
  const routes = app.routes
    .filter(({ method }) => method !== 'ALL')
    .map(({ method, path }) => `${method} ${path.replaceAll(/:(\w+)/g, '{$1}')}`);
  assert.deepEqual(operations.map(({ name }) => name).sort(), routes.sort());
});

test('every reference resolves, and every path parameter is described', () => {
  for (const [, name] of JSON.stringify(document).matchAll(/#\/components\/schemas\/(\w+)/g)) {
    assert.ok(Object.hasOwn(document.components.schemas, name as string), name);
  }
  for (const { name, operation } of operations) {
    const described = (operation.parameters ?? [])
      .filter((parameter) => parameter.in === 'path')
      .map((parameter) => parameter.name);
    assert.deepEqual(
      described,
      [...name.matchAll(/\{(\w+)\}/g)].map(([, parameter]) => parameter),
      name,
    );
    for (const parameter of operation.parameters ?? []) {
      assert.ok(parameter.description.length > 0 && parameter.schema !== undefined, `${name} ${parameter.name}`);
    }
  }
  const ids = operations.map(({ operation }) => operation.operationId);
  assert.equal(new Set(ids).size, ids.length);
});

test('every error is described as a problem under its status', () => {
  for (const { name, operation } of operations) {
    for (const [status, response] of Object.entries(operation.responses)) {
      if (Number(status) < 400) continue;
      const content = resolved(response).content?.['application/problem+json'];
      assert.ok(content, `${name} ${status}`);
      for (const code of Object.keys(content.examples ?? {})) {
        assert.equal(ERRORS[code as keyof typeof ERRORS].status, Number(status), `${name} ${code}`);
      }
    }
  }
});

test('the schema of ids agrees with the check', () => {
  const fits = new Ajv().compile(ID_SCHEMA);
  const ids = ['a', 'a:b@c+d%/?#', '__proto__', 'x'.repeat(128), '😀'.repeat(128), '\u200b'];
  const others = [
    '',
    'a b',
    'a,b',
    ',',
    'x'.repeat(129),
    '😀'.repeat(129),
    ...'\n\r\t\0\u007f\u0085\u00a0\u2028\ufeff',
  ];
  for (const id of ids) assert.deepEqual([isRoomId(id), fits(id)], [true, true], JSON.stringify(id));
  for (const id of others) assert.deepEqual([isRoomId(id), fits(id)], [false, false], JSON.stringify(id));
});

test('the examples of a publish are valid events', () => {
  const { examples = {} } = document.paths['/events']?.post?.requestBody?.content['application/json'] ?? {};
  interface One extends Audience {
    event: string;
    payload: unknown;
  }
  const bodies = Object.values(examples).map(({ value }) => value as object as One & { events?: One[] });
  assert.equal(bodies.length, 4);
  for (const { event, payload, ...audience } of bodies.flatMap((body) => body.events ?? [body])) {
    assert.equal(catalog.check(event, payload, audience).kind, 'ok', event);
  }
});

for (const [name, extraEvents, roomKinds, signals] of [
  ['the default document', [], [], []],
  ['one with declared events and kinds', ['leads.updated', 'messages.updated'], ['queue'], ['tickets.typing']],
] as const) {
  test(`${name}: every example matches its schema`, () => {
    const { paths, components } = createDocument(configure({ extraEvents, roomKinds, signals }));
    const ajv = new Ajv({ strict: false, validateFormats: false, allErrors: true });
    let count = 0;
    const check = (of: string, content: Readonly<Record<string, Content>> = {}): void => {
      for (const { schema, examples = {} } of Object.values(content)) {
        for (const [example, { value }] of Object.entries(examples)) {
          assert.ok(ajv.validate({ ...schema, components }, value), `${of} ${example}: ${ajv.errorsText()}`);
          count++;
        }
      }
    };
    for (const [path, methods] of Object.entries(paths)) {
      for (const { requestBody, responses } of Object.values(methods)) {
        check(path, requestBody?.content);
        for (const [status, response] of Object.entries(responses)) {
          check(`${path} ${status}`, resolved(response).content);
        }
      }
    }
    assert.ok(count > 50);
  });
}

test('a bridge with room kinds describes their fields, and which bodies it takes', () => {
  const { paths, components } = createDocument(configure({ roomKinds: ['queue'], extraEvents: ['leads.updated'] }));
  for (const [path, method] of [
    ['/sse', 'get'],
    ['/events', 'get'],
  ] as const) {
    const names = paths[path]?.[method]?.parameters?.map(({ name }) => name);
    assert.ok(names?.includes('queueId'), path);
    assert.ok(!document.paths[path]?.[method]?.parameters?.some(({ name }) => name === 'queueId'), path);
  }
  const ajv = new Ajv({ strict: false, validateFormats: false });
  const fits = ajv.compile({ oneOf: [{ $ref: '#/components/schemas/PublishOne' }], components });
  const checks = createEventCatalog(['leads.updated'], ['queue']);
  const lead = { event: 'leads.updated', payload: { tenantId: 't' } };
  for (const body of [
    lead,
    { ...lead, tenantId: 't', rooms: ['queue:a:b', 'user:u'] },
    { ...lead, payload: { queueId: 7, userId: '' }, tenantId: 7 },
    { ...lead, tenantId: null, rooms: null },
    { ...lead, rooms: [] },
    { ...lead, rooms: ['team:x'] },
    { ...lead, rooms: ['queue:'] },
    { ...lead, rooms: ['queue:a b'] },
    { ...lead, rooms: [`queue:${'x'.repeat(129)}`] },
    { ...lead, rooms: Array.from({ length: 101 }, (_, index) => `queue:${index}`) },
    { ...lead, payload: { tenantId: 't', queueId: 'a b' } },
    { ...lead, payload: { tenantId: 't', queueId: true } },
  ]) {
    const { kind } = checks.check(body.event, body.payload, body as Audience);
    assert.equal(fits(body), kind === 'ok', JSON.stringify(body).slice(0, 200));
  }
});

test('a bridge with signals describes which it takes, and that streams may be filtered by them', () => {
  const declared = { signals: ['tickets.typing'], roomKinds: ['queue'] };
  const { paths, components } = createDocument(configure(declared));
  for (const path of ['/sse', '/events']) {
    const filter = paths[path]?.get?.parameters?.find((parameter) => parameter.name === 'events');
    assert.ok(JSON.stringify(filter?.schema).includes('"tickets.typing"'), path);
  }
  const fits = new Ajv({ strict: false, validateFormats: false }).compile({
    oneOf: [{ $ref: '#/components/schemas/NewSignal' }],
    components,
  });
  const signals = createSignalCatalog(declared.signals, allKinds(declared.roomKinds));
  const signal = { event: 'tickets.typing', room: 'queue:a' };
  for (const body of [
    signal,
    { ...signal, payload: { ticketId: 7 }, ttlSeconds: 0, tenantId: 7, client: 'tab 1' },
    { ...signal, tenantId: null },
    { ...signal, ttlSeconds: 120 },
    { ...signal, ttlSeconds: 121 },
    { ...signal, ttlSeconds: -1 },
    { ...signal, ttlSeconds: 1.5 },
    { ...signal, ttlSeconds: null },
    { ...signal, payload: [] },
    { ...signal, payload: null },
    { ...signal, tenantId: '' },
    { ...signal, tenantId: 'a b' },
    { ...signal, name: 'Ana' },
    { ...signal, event: 'tickets.typed' },
    { event: signal.event },
    { ...signal, room: 'team:a' },
    { room: signal.room },
    [signal],
  ]) {
    const isTaken = () => signals.check(body, ['client']) !== undefined;
    if (fits(body)) assert.ok(isTaken(), JSON.stringify(body));
    else assert.throws(isTaken, /signal|must|required/i, JSON.stringify(body));
  }
});

test('a bridge serves its own description, with its base path, declared events and kinds', async () => {
  const bridge = await startBridge({ basePath: '/rt', extraEvents: ['leads.updated'], roomKinds: ['queue'] });
  try {
    const json = await fetch(`${bridge.url}/openapi.json`);
    assert.equal(json.headers.get('content-type'), 'application/json');
    const served = (await json.json()) as OpenApiDocument;
    assert.equal(served.servers[0]?.url, '/rt');
    assert.ok(JSON.stringify(served.components.schemas.PublishOne).includes('leads.updated'));
    assert.ok(JSON.stringify(served.components.schemas.TicketsUpdated).includes('queueId'));
    const yaml = await fetch(`${bridge.url}/openapi.yaml`);
    assert.equal(yaml.headers.get('content-type'), 'application/yaml');
    assert.deepEqual(parse(await yaml.text()), served);
    for (const [path, body] of [
      ['/healthz', 'alive'],
      ['/readyz', 'ready'],
    ] as const) {
      const health = await fetch(`${bridge.url}${path}`);
      assert.equal(health.status, 200);
      assert.deepEqual(await health.json(), { status: body });
    }

    const docs = await fetch(`${bridge.url}/docs`);
    const page = await docs.text();
    assert.match(docs.headers.get('content-type') ?? '', /^text\/html; charset=utf-8$/);
    for (const { name, operation } of operations) {
      assert.ok(page.includes(`id="${operation.operationId}"`), name);
      assert.ok(page.includes(`<code>${name.split(' ')[1]}</code>`), name);
    }
    const [, description = ''] = /href="([^"]*openapi\.json)"/.exec(page) ?? [];
    assert.equal(new URL(description, `${bridge.url}/docs`).pathname, '/rt/openapi.json');
    assert.doesNotMatch(page, /<style|<img|@import|url\(|\son\w+=|style=/i, 'nothing inline');
    const loaded = [...page.matchAll(/<(?:script|link)[^>]* (?:src|href)="([^"]+)"/g)].map(([, url]) => url);
    assert.deepEqual(loaded, ['data:,', 'assets/docs.css', 'assets/docs.js']);
    assert.equal(
      docs.headers.get('content-security-policy'),
      "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; " +
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    );
    const ids = [...page.matchAll(/\sid="([^"]+)"/g)].map(([, id]) => id as string);
    assert.equal(new Set(ids).size, ids.length, 'ids are unique');
    for (const [, target] of page.matchAll(/href="#([^"]+)"/g)) assert.ok(ids.includes(target as string), target);
  } finally {
    await bridge.close();
  }
});
