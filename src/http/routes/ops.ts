/** For operators and integrators (protocol §12): metrics, health, and the API's own description. Open to everyone. */
import { stringify } from 'yaml';
import { answer, type BridgeContext, type Handler, JSON_TYPE } from '../../answers/answer.ts';
import { BridgeError } from '../../contract/errors.ts';
import type { Prometheus } from '../../metrics/prometheus.ts';
import type { AsyncApiDocument } from '../reference/asyncapi.ts';
import { DOCS_POLICY } from '../reference/docs-page.ts';
import type { OpenApiDocument } from '../reference/openapi.ts';

export interface OpsDeps {
  readonly prometheus: Prometheus;
  /** Whether the log takes events; false while draining. */
  readonly ready: () => boolean;
  readonly document: OpenApiDocument;
  readonly asyncApi: AsyncApiDocument;
  /** The page rendered from the document. */
  readonly docs: string;
}

export interface OpsRoutes {
  readonly metrics: Handler;
  readonly healthz: Handler;
  readonly readyz: Handler;
  readonly openapiJson: Handler;
  readonly openapiYaml: Handler;
  readonly asyncapiYaml: Handler;
  readonly docs: Handler;
}

export function createOpsRoutes({ prometheus, ready, document, asyncApi, docs }: OpsDeps): OpsRoutes {
  const json = JSON.stringify(document, null, 2);
  const yaml = toYaml(document);
  const text = (type: string, body: string) => (context: BridgeContext) =>
    answer(context, 200, { 'Content-Type': type, 'Cache-Control': 'no-cache' }, body);
  const docsPage = text('text/html; charset=utf-8', docs);
  const status = (context: BridgeContext, value: string) =>
    answer(context, 200, { 'Content-Type': JSON_TYPE, 'Cache-Control': 'no-store' }, `{"status":"${value}"}`);

  return {
    async metrics(context) {
      const { contentType, body } = await prometheus.scrape(context.req.header('accept'));
      context.env.outgoing.appendHeader('Vary', 'Accept');
      return answer(context, 200, { 'Content-Type': contentType, 'Cache-Control': 'no-store' }, body);
    },
    healthz: (context) => status(context, 'alive'),
    readyz(context) {
      if (!ready())
        throw new BridgeError('unavailable', 'The log takes no events now, or the server is shutting down.');
      return status(context, 'ready');
    },
    openapiJson: text(JSON_TYPE, json),
    // RFC 9512.
    openapiYaml: text('application/yaml', yaml),
    asyncapiYaml: text('application/yaml', toYaml(asyncApi)),
    docs(context) {
      context.env.outgoing.setHeader('Content-Security-Policy', DOCS_POLICY);
      return docsPage(context);
    },
  };
}

/** Quoted where a YAML 1.1 reader, as most are, would see a date or a boolean. */
export function toYaml(document: OpenApiDocument | AsyncApiDocument): string {
  return stringify(document, { compat: 'yaml-1.1', lineWidth: 0, aliasDuplicateObjects: false });
}
