/** A request to a route of the API: from the filled form to what is sent, and to samples that send the same. */

export interface Parameter {
  readonly name: string;
  readonly in: 'query' | 'header' | 'path';
  readonly required?: boolean;
  readonly schema: { readonly type?: unknown; readonly enum?: readonly unknown[]; readonly default?: unknown };
}

/** The parts of an OpenAPI operation that a form needs. */
export interface Operation {
  readonly operationId: string;
  readonly summary: string;
  readonly tags: readonly string[];
  readonly security?: readonly object[];
  readonly parameters?: readonly Parameter[];
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly examples?: Examples }>> };
  readonly responses: Readonly<Record<string, { readonly content?: Readonly<Record<string, unknown>> }>>;
}

type Examples = Readonly<Record<string, { readonly summary?: string; readonly value: unknown }>>;

export interface Route {
  readonly path: string;
  readonly method: string;
  readonly operation: Operation;
}

export interface Filled {
  /** By `keyOf`; an empty value is left out. */
  readonly values: Readonly<Record<string, string>>;
  readonly body: string | null;
}

export interface ApiRequest {
  readonly method: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | null;
  readonly isStream: boolean;
  /** Whether the route reads a token. */
  readonly takesToken: boolean;
}

const EVENT_STREAM = 'text/event-stream';
/** The value that a form starts with, so that a first request shows something. */
const FIRST_VALUES: Readonly<Record<string, string>> = { tenantId: 'tenant-1', ticketId: 'ticket-123' };

export const keyOf = (parameter: Parameter): string => `${parameter.in}:${parameter.name}`;

export function routesOf(document: {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
}): Route[] {
  return Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method: method.toUpperCase(), operation })),
  );
}

/** What is required, and one room where a route needs at least one. @param tenant of the reader's token */
export function firstValues({ operation }: Route, tenant: string | undefined): Record<string, string> {
  const needsRoom = operation.tags.some((tag) => tag === 'Listen' || tag === 'Signals');
  const wanted = (operation.parameters ?? []).filter(
    ({ name, required }) => required === true || (needsRoom && name === 'tenantId'),
  );
  const values: Readonly<Record<string, string>> = {
    ...FIRST_VALUES,
    ...(tenant === undefined ? {} : { tenantId: tenant }),
  };
  return Object.fromEntries(wanted.map((parameter) => [keyOf(parameter), values[parameter.name] ?? '']));
}

/** The examples of the route's JSON body, by title. */
export function bodiesOf({ operation: { requestBody } }: Route): { readonly title: string; readonly text: string }[] {
  const [content] = Object.values(requestBody?.content ?? {});
  return Object.entries(content?.examples ?? {}).map(([name, { summary, value }]) => ({
    title: summary ?? name,
    text: JSON.stringify(value, null, 2),
  }));
}

/** @param base ends with a slash */
export function requestOf({ path, method, operation }: Route, { values, body }: Filled, base: string): ApiRequest {
  const headers: Record<string, string> = {};
  let filledPath = path;
  const query: string[] = [];
  for (const parameter of operation.parameters ?? []) {
    const value = values[keyOf(parameter)] ?? '';
    if (parameter.in === 'path') filledPath = filledPath.replace(`{${parameter.name}}`, encodeURIComponent(value));
    else if (value === '') continue;
    else if (parameter.in === 'header') headers[parameter.name.toLowerCase()] = value;
    // Rooms and lists read better as they are written: `ticket:1`, `a,b`.
    else query.push(`${parameter.name}=${encodeURIComponent(value).replaceAll('%2C', ',').replaceAll('%3A', ':')}`);
  }
  const isStream = Object.values(operation.responses).some(({ content }) => content?.[EVENT_STREAM] !== undefined);
  if (isStream) headers.accept = EVENT_STREAM;
  if (body !== null) headers['content-type'] = 'application/json';
  return {
    method,
    url: new URL(`.${filledPath}`, base).href + (query.length === 0 ? '' : `?${query.join('&')}`),
    headers,
    body,
    isStream,
    takesToken: operation.security === undefined || operation.security.some((one) => 'bearer' in one),
  };
}

/** For a POSIX shell. `$TOKEN` stands for the token: a copied command must not hold it. */
export function curlOf({ method, url, headers, body, isStream }: ApiRequest, hasToken: boolean): string {
  const command = ['curl', isStream ? '-N' : '', method === 'GET' || body !== null ? '' : `-X ${method}`];
  const parts = [[...command, quoted(url)].filter((part) => part !== '').join(' ')];
  if (hasToken) parts.push('-H "authorization: Bearer $TOKEN"');
  for (const [name, value] of Object.entries(headers)) {
    if (!isStream || name !== 'accept') parts.push(`-H ${quoted(`${name}: ${value}`)}`);
  }
  if (body !== null) parts.push(`-d ${quoted(body)}`);
  return parts.join(' \\\n  ');
}

const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

/** For a browser, Node or Deno. */
export function javaScriptOf({ method, url, headers, body, isStream }: ApiRequest, hasToken: boolean): string {
  if (isStream && headers['last-event-id'] === undefined) {
    const pass = hasToken ? "url.searchParams.set('pass', pass); // from POST /pass: no token in a URL\n" : '';
    return (
      `const url = new URL(${literal(url)});\n${pass}const source = new EventSource(url);\n` +
      "source.addEventListener('messages.new', ({ data, lastEventId }) => {\n" +
      '  console.log(lastEventId, JSON.parse(data));\n});'
    );
  }
  const all = [
    // biome-ignore lint/suspicious/noTemplateCurlyInString: a template string of the sample
    ...(hasToken ? ['    authorization: `Bearer ${token}`,'] : []),
    ...Object.entries(headers).map(([name, value]) => `    '${name}': ${literal(value)},`),
  ];
  const options = [
    ...(method === 'GET' ? [] : [`  method: '${method}',`]),
    ...(all.length === 0 ? [] : ['  headers: {', ...all, '  },']),
    ...(body === null ? [] : [`  body: JSON.stringify(${indented(body)}),`]),
  ];
  const given = options.length === 0 ? '' : `, {\n${options.join('\n')}\n}`;
  return `const response = await fetch(${literal(url)}${given});\nconsole.log(response.status, await response.text());`;
}

const literal = (text: string): string => `'${text.replace(/[\\']/g, '\\$&').replaceAll('\n', '\\n')}'`;
const indented = (text: string): string => text.trim().replaceAll('\n', '\n  ');
