/** The API's own description (protocol §12): OpenAPI, AsyncAPI and the `/docs` page, rendered once at the start. */
import { stringify } from 'yaml';
import { answer, type Handler, JSON_TYPE } from '../../answers/answer.ts';
import type { Config } from '../../config.ts';
import { type AsyncApiDocument, createAsyncApi } from './asyncapi.ts';
import { DOCS_POLICY, renderDocs } from './docs-page.ts';
import { createDocument, type OpenApiDocument } from './openapi.ts';

/** RFC 9512. */
const YAML_TYPE = 'application/yaml';

type ReferenceRoutes = Readonly<Record<'openapiJson' | 'openapiYaml' | 'asyncapiYaml' | 'docs', Handler>>;

export function createReferenceRoutes(config: Config): ReferenceRoutes {
  const document = createDocument(config);
  const serve = (type: string, text: string, headers: Readonly<Record<string, string>> = {}): Handler => {
    // One copy for all clients that wait for it.
    const body = Buffer.from(text);
    return (context) => answer(context, 200, { 'Content-Type': type, 'Cache-Control': 'no-cache', ...headers }, body);
  };
  return {
    openapiJson: serve(JSON_TYPE, JSON.stringify(document, null, 2)),
    openapiYaml: serve(YAML_TYPE, toYaml(document)),
    asyncapiYaml: serve(YAML_TYPE, toYaml(createAsyncApi(config))),
    docs: serve('text/html; charset=utf-8', renderDocs(document), { 'Content-Security-Policy': DOCS_POLICY }),
  };
}

/** Quotes what a YAML 1.1 parser, as most are, would read as a date or a boolean. */
export function toYaml(document: OpenApiDocument | AsyncApiDocument): string {
  return stringify(document, { compat: 'yaml-1.1', lineWidth: 0, aliasDuplicateObjects: false });
}
