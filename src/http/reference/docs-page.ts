/**
 * `/docs`: the OpenAPI document as one page, rendered on the server, readable without scripts. Where scripts run,
 * pages/docs/ adds the search, the samples and "send". Everything comes from this server, by relative URLs.
 */
import { contentSecurityPolicy } from '../../answers/headers.ts';
import { PROBLEM_TYPE } from '../../answers/problem.ts';
import type { OpenApiDocument } from './openapi.ts';
import type { ApiResponse, Content, Json, JsonObject, Operation, Parameter } from './parts.ts';

/** The Content-Security-Policy of the page: its own script, style sheet and requests, and nothing else. */
export const DOCS_POLICY = contentSecurityPolicy(
  "script-src 'self'",
  "style-src 'self'",
  'img-src data:',
  "connect-src 'self'",
);

export function renderDocs(document: OpenApiDocument): string {
  const all = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method: method.toUpperCase(), operation })),
  );
  const tags = document.tags.map(({ name, description }) => {
    const operations = all.filter(({ operation }) => operation.tags.includes(name));
    return { id: anchor(`tag-${name}`), name: escapeHtml(name), description, operations };
  });
  const contents = tags.map(
    ({ id, name, operations }) => `<li><a class="tag" href="#${id}">${name}</a><ul>
${operations.map(renderLink).join('\n')}
</ul></li>`,
  );
  const sections = tags.map(
    ({ id, name, description, operations }) => `<section aria-labelledby="${id}">
<h2 id="${id}">${name}</h2>
<p>${prose(description)}</p>
${operations.map(({ path, method, operation }) => renderOperation(path, method, operation)).join('\n')}
</section>`,
  );
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${escapeHtml(document.info.title)} API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="assets/docs.css">
<script type="module" src="assets/docs.js"></script>
</head>
<body>
<header class="top">
<h1>${escapeHtml(document.info.title)} <span>API</span></h1>
<div id="tools"></div>
</header>
<div class="frame">
<nav id="contents" class="contents" aria-label="Contents">
<div id="search"></div>
<ul>
${contents.join('\n')}
<li><a class="tag" href="#common">Responses of every route</a></li>
<li><a class="tag" href="#schemas">Schemas</a></li>
</ul>
</nav>
<main>
<section class="intro">
<p>${prose(document.info.description)}</p>
<p>Machine-readable: <a href="openapi.json">openapi.json</a>, <a href="openapi.yaml">openapi.yaml</a>, and
<a href="asyncapi.yaml">asyncapi.yaml</a> for the messages of Socket.IO and Server-Sent Events, which OpenAPI cannot describe.
Pages: <a href="console">console</a>, <a href="check">connection check</a>.</p>
</section>
${sections.join('\n')}
<section aria-labelledby="common"><h2 id="common">Responses of every route</h2>
<dl class="list">${Object.entries(document.components.responses).map(renderResponse).join('')}</dl></section>
<section aria-labelledby="schemas"><h2 id="schemas">Schemas</h2>
${Object.entries(document.components.schemas).map(renderNamedSchema).join('\n')}
</section>
</main>
</div>
</body>
</html>
`;
}

interface Placed {
  readonly path: string;
  readonly method: string;
  readonly operation: Operation;
}

const renderLink = ({ path, method, operation: { operationId, summary } }: Placed): string =>
  `<li><a href="#${operationId}">${badge(method)}<span>${escapeHtml(summary)} <code>${escapeHtml(path)}</code></span></a></li>`;

const badge = (method: string): string => `<span class="method ${method.toLowerCase()}">${method}</span> `;

function renderOperation(path: string, method: string, operation: Operation): string {
  const { operationId, summary, description, parameters = [], requestBody, responses } = operation;
  return `<article aria-labelledby="${operationId}">
<div class="text">
<h3 id="${operationId}">${escapeHtml(summary)}</h3>
<p class="route">${badge(method)}<code>${escapeHtml(path)}</code></p>
${description === undefined ? '' : `<p>${prose(description)}</p>`}
${parameters.length === 0 ? '' : `<h4>Parameters</h4>\n<dl class="list">${parameters.map(renderParameter).join('')}</dl>`}
${requestBody === undefined ? '' : `<h4>Request body</h4>\n${renderContent(requestBody.content)}`}
<h4>Responses</h4>
<dl class="list">${Object.entries(responses).map(renderOwnResponse).join('')}</dl>
<p class="note">And the <a href="#common">responses of every route</a>.</p>
</div>
<div class="try" data-operation="${operationId}"></div>
</article>`;
}

function renderParameter({ name, in: location, required, description, schema }: Parameter): string {
  const facts = [location, required === true ? 'required' : '', typeText(schema), limitsText(schema)];
  return entry(name, facts, `<p>${prose(description)}</p>`);
}

/** A name with facts beside it. */
function entry(name: string, facts: readonly string[], body: string): string {
  const note = facts.filter((fact) => fact !== '').join(' · ');
  return `<dt><code>${escapeHtml(name)}</code> <span class="note">${escapeHtml(note)}</span></dt><dd>${body}</dd>`;
}

/** Not those of every route, which have a section of their own. */
const renderOwnResponse = ([status, response]: [string, Operation['responses'][string]]): string =>
  '$ref' in response ? '' : renderResponse([status, response]);

function renderResponse([name, { description, headers = {}, content = {} }]: [string, ApiResponse]): string {
  const names = Object.keys(headers).map((name) => `<code>${escapeHtml(name)}</code>`);
  return `<dt><code>${name}</code></dt><dd><p>${prose(description)}</p>
${names.length === 0 ? '' : `<p class="note">Headers: ${names.join(', ')}</p>`}
${renderContent(content)}</dd>`;
}

function renderContent(content: Readonly<Record<string, Content>>): string {
  return Object.entries(content)
    .map(([type, { schema, examples = {} }]) => {
      // The examples of problems differ only in their code, which the description names.
      const details = (type === PROBLEM_TYPE ? [] : Object.entries(examples)).map(
        ([name, { summary, value }]) =>
          `<details><summary>Example: ${escapeHtml(summary ?? name)}</summary>${block(value)}</details>`,
      );
      return `<p class="note"><code>${escapeHtml(type)}</code> ${schemaLinks(schema)}</p>\n${details.join('\n')}`;
    })
    .join('\n');
}

function schemaLinks(schema: Json): string {
  const names = [...JSON.stringify(schema).matchAll(/#\/components\/schemas\/(\w+)/g)].map(
    ([, name]) => name as string,
  );
  return names.map(schemaLink).join(' or ');
}

const schemaLink = (name: string): string => `<a href="#${anchor(`schema-${name}`)}">${escapeHtml(name)}</a>`;

/** The id is inside of the details, so that a link to it opens them (WHATWG HTML, ancestor revealing). */
function renderNamedSchema([name, schema]: [string, JsonObject]): string {
  return `<details class="schema"><summary>${escapeHtml(name)}</summary>
<div id="${anchor(`schema-${name}`)}">${renderSchema(schema)}
<details><summary>JSON Schema</summary>${block(schema)}</details></div></details>`;
}

/** A schema as a tree of properties; nested objects open on demand. */
function renderSchema(schema: JsonObject): string {
  const { description, properties, required, items } = schema;
  const parts = typeof description === 'string' ? [`<p>${prose(description)}</p>`] : [];
  if (isObject(properties)) {
    const names = Array.isArray(required) ? required : [];
    const entries = Object.entries(properties).filter((one): one is [string, JsonObject] => isObject(one[1]));
    const rendered = entries.map(([name, one]) =>
      entry(name, [names.includes(name) ? 'required' : '', typeText(one), limitsText(one)], renderProperty(one)),
    );
    parts.push(`<dl class="list">${rendered.join('')}</dl>`);
  }
  if (isObject(items)) parts.push(renderProperty(items));
  for (const key of ['oneOf', 'anyOf', 'allOf'] as const) {
    const variants = schema[key];
    if (!Array.isArray(variants)) continue;
    // Which properties are required together is in the JSON Schema.
    const shown = variants.filter(isObject).filter((one) => one.properties !== undefined || one.$ref !== undefined);
    if (shown.length > 0)
      parts.push(`<p class="note">${VARIANTS[key]}</p><ul>${shown.map(renderVariant).join('')}</ul>`);
  }
  return parts.join('\n');
}

const VARIANTS = { oneOf: 'One of:', anyOf: 'At least one of:', allOf: 'All of:' } as const;

function renderVariant(schema: JsonObject, index: number): string {
  if (typeof schema.$ref === 'string') return `<li>${schemaLinks(schema)}</li>`;
  const event = isObject(schema.properties) ? schema.properties.event : undefined;
  const title = isObject(event) && typeof event.const === 'string' ? event.const : `Variant ${index + 1}`;
  return `<li><details><summary>${escapeHtml(title)}</summary>${renderSchema(schema)}</details></li>`;
}

function renderProperty(schema: JsonObject): string {
  if (typeof schema.$ref === 'string') return `<p>${schemaLinks(schema)}</p>`;
  const inner = renderSchema(schema);
  const isDeep = isObject(schema.properties) || (isObject(schema.items) && isObject(schema.items.properties));
  return isDeep ? `<details><summary>Properties</summary>${inner}</details>` : inner;
}

function typeText({ type, enum: values, const: only, $ref, items }: JsonObject): string {
  if (only !== undefined) return JSON.stringify(only);
  if (Array.isArray(values)) return values.map((value) => JSON.stringify(value)).join(' or ');
  if (typeof $ref === 'string') return 'object';
  const name = Array.isArray(type) ? type.join(' or ') : typeof type === 'string' ? type : '';
  const of = isObject(items) ? typeText(items) : '';
  return of === '' ? name : name.replace('array', `array of ${of}`);
}

function limitsText({ minimum, maximum, default: fallback }: JsonObject): string {
  const limits = typeof minimum === 'number' && typeof maximum === 'number' ? `${minimum} to ${maximum}` : '';
  const usual = fallback === undefined ? '' : `default ${String(fallback)}`;
  return [limits, usual].filter((text) => text !== '').join(' · ');
}

const isObject = (value: Json | undefined): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function block(value: Json): string {
  return `<pre>${escapeHtml(typeof value === 'string' ? value : JSON.stringify(value, null, 2))}</pre>`;
}

const anchor = (name: string): string => name.toLowerCase().replace(/[^a-z0-9]+/g, '-');

/** HTML of a text in which backticks mark code. */
function prose(text: string): string {
  return escapeHtml(text).replaceAll(/`([^`]+)`/g, '<code>$1</code>');
}

function escapeHtml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}
