/**
 * `/docs`: the OpenAPI document as one page, rendered on the server. It has no scripts, loads nothing else, follows the
 * reader's light or dark theme, and works on a phone and with a screen reader.
 */
import { createHash } from 'node:crypto';
import { contentSecurityPolicy } from '../../answers/headers.ts';
import { PROBLEM_TYPE } from '../../answers/problem.ts';
import type { OpenApiDocument } from './openapi.ts';
import type { ApiResponse, Content, Json, Operation, Parameter } from './parts.ts';

const STYLE = `
:root { color-scheme: light dark; --line: light-dark(#d5d9e0, #3a404a); --soft: light-dark(#f4f5f8, #1d2127); --link: light-dark(#0b57b7, #8ab8ff); }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 56rem; font: 1rem/1.55 system-ui, sans-serif; color: light-dark(#1b1f24, #e4e7eb); background: light-dark(#fff, #14171c); overflow-wrap: anywhere; }
a { color: var(--link); }
h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
h3 { margin-top: 2rem; font-size: 1.05rem; }
h4 { margin: 1.2rem 0 .4rem; }
code, pre { font: .9em/1.5 ui-monospace, monospace; }
pre { margin: .5rem 0; padding: .75rem; background: var(--soft); border: 1px solid var(--line); border-radius: 6px; white-space: pre-wrap; }
dl { margin: 0; }
dt { margin-top: .6rem; }
dd { margin: 0 0 0 1rem; }
summary { cursor: pointer; }
.method { display: inline-block; padding: 0 .5rem; border: 1px solid currentcolor; border-radius: 4px; font-weight: 600; }
.note { font-size: .875rem; }
`;

const styleHash = createHash('sha256').update(STYLE).digest('base64');
/** The Content-Security-Policy of the page: it allows the one inline style sheet and nothing else. */
export const DOCS_POLICY = contentSecurityPolicy(`style-src 'sha256-${styleHash}'`);

export function renderDocs(document: OpenApiDocument): string {
  const all = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method: method.toUpperCase(), operation })),
  );
  const tags = document.tags.map(({ name, description }) => {
    const operations = all.filter(({ operation }) => operation.tags.includes(name));
    return { id: anchor(`tag-${name}`), name: escapeHtml(name), description, operations };
  });
  const contents = tags.flatMap(({ operations }) =>
    operations.map(
      ({ path, method, operation }) =>
        `<li><a href="#${operation.operationId}"><code>${method} ${escapeHtml(path)}</code></a> ${escapeHtml(operation.summary)}</li>`,
    ),
  );
  const sections = tags.map(
    ({ id, name, description, operations }) => `<section aria-labelledby="${id}"><h2 id="${id}">${name}</h2>
<p>${prose(description)}</p>
${operations.map(({ path, method, operation }) => renderOperation(path, method, operation)).join('\n')}</section>`,
  );
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(document.info.title)} API</title>
<style>${STYLE}</style>
</head>
<body>
<header>
<h1>${escapeHtml(document.info.title)} API</h1>
<p>${prose(document.info.description)}</p>
<p>Machine-readable: <a href="openapi.json">openapi.json</a>, <a href="openapi.yaml">openapi.yaml</a>, <a href="asyncapi.yaml">asyncapi.yaml</a>.
Pages: <a href="console">console</a>, <a href="check">connection check</a>.</p>
</header>
<nav aria-label="Contents"><ul>
${contents.join('\n')}
</ul></nav>
<main>
${sections.join('\n')}
<section aria-labelledby="common"><h2 id="common">Responses of every route</h2>
<dl>${Object.entries(document.components.responses).map(renderResponse).join('')}</dl></section>
<section aria-labelledby="schemas"><h2 id="schemas">Schemas</h2>
${Object.entries(document.components.schemas)
  .map(([name, schema]) => `<h3 id="${anchor(`schema-${name}`)}">${escapeHtml(name)}</h3>\n${block(schema)}`)
  .join('\n')}
</section>
</main>
</body>
</html>
`;
}

function renderOperation(path: string, method: string, operation: Operation): string {
  const { operationId, summary, description, parameters = [], requestBody, responses } = operation;
  return `<article aria-labelledby="${operationId}">
<h3 id="${operationId}"><span class="method">${method}</span> <code>${escapeHtml(path)}</code><br>${escapeHtml(summary)}</h3>
${description === undefined ? '' : `<p>${prose(description)}</p>`}
${parameters.length === 0 ? '' : `<h4>Parameters</h4>\n<dl>${parameters.map(renderParameter).join('')}</dl>`}
${requestBody === undefined ? '' : `<h4>Request body</h4>\n${renderContent(requestBody.content)}`}
<h4>Responses</h4>
<dl>${Object.entries(responses).map(renderOwnResponse).join('')}</dl>
<p class="note">And the <a href="#common">responses of every route</a>.</p>
</article>`;
}

function renderParameter({ name, in: location, required, description, schema }: Parameter): string {
  const { type, enum: values, default: fallback, minimum, maximum } = schema;
  const facts = [
    location,
    required === true ? 'required' : '',
    Array.isArray(values) ? values.join(' or ') : typeof type === 'string' ? type : '',
    typeof minimum === 'number' && typeof maximum === 'number' ? `${minimum} to ${maximum}` : '',
    fallback === undefined ? '' : `default ${String(fallback)}`,
  ];
  const note = facts.filter((fact) => fact !== '').join(', ');
  return `<dt><code>${escapeHtml(name)}</code> <span class="note">(${escapeHtml(note)})</span></dt><dd>${prose(description)}</dd>`;
}

/** Not those of every route, which have a section of their own. */
const renderOwnResponse = ([status, response]: [string, Operation['responses'][string]]): string =>
  '$ref' in response ? '' : renderResponse([status, response]);

function renderResponse([name, { description, headers = {}, content = {} }]: [string, ApiResponse]): string {
  const names = Object.keys(headers).map((name) => `<code>${escapeHtml(name)}</code>`);
  return `<dt><strong>${name}</strong></dt><dd>${prose(description)}
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
  return names.map((name) => `<a href="#${anchor(`schema-${name}`)}">${escapeHtml(name)}</a>`).join(' or ');
}

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
