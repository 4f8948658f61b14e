/** Metrics and health (protocol §12). */
import { prefers } from '../../answers/accept.ts';
import { answer, answerJson, type BridgeContext, type Handler } from '../../answers/answer.ts';
import { onExchangeEnd } from '../../answers/exchange.ts';
import { BridgeError } from '../../contract/errors.ts';
import type { Prometheus } from '../../metrics/prometheus.ts';

export interface OpsDeps {
  readonly prometheus: Prometheus;
  /** @throws {BridgeError} `unauthorized`, `token_expired`, `forbidden`, `unavailable` */
  readonly authorizeMetrics: (context: BridgeContext) => Promise<void>;
  /** Whether the log accepts events; false while draining. */
  readonly ready: () => boolean;
}

const formatOf = (accept: string | undefined) =>
  prefers(accept, 'application/openmetrics-text', 'text/plain') ? 'openmetrics' : 'text';

type OpsRoutes = Readonly<Record<'metrics' | 'healthz' | 'readyz', Handler>>;

export function createOpsRoutes({ prometheus, authorizeMetrics, ready }: OpsDeps): OpsRoutes {
  return {
    async metrics(context) {
      await authorizeMetrics(context);
      const { outgoing } = context.env;
      const { contentType, body, release } = await prometheus.scrape(formatOf(context.env.incoming.headers.accept));
      if (outgoing.closed) release();
      else onExchangeEnd(outgoing, release);
      outgoing.appendHeader('Vary', 'Accept');
      return answer(context, 200, { 'Content-Type': contentType, 'Cache-Control': 'no-store' }, body);
    },
    healthz: (context) => answerJson(context, 200, '{"status":"alive"}'),
    readyz(context) {
      if (ready()) return answerJson(context, 200, '{"status":"ready"}');
      throw new BridgeError(
        'unavailable',
        'The log does not accept events, or the server is shutting down. Send requests to another node, or retry.',
      );
    },
  };
}
