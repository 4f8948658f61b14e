/** Metrics and health (protocol §12). */
import { prefers } from '../../answers/accept.ts';
import { answer, answerJson, type Handler } from '../../answers/answer.ts';
import { BridgeError } from '../../contract/errors.ts';
import type { Prometheus } from '../../metrics/prometheus.ts';

export interface OpsDeps {
  readonly prometheus: Prometheus;
  /** Whether the log accepts events; false while draining. */
  readonly ready: () => boolean;
}

const formatOf = (accept: string | undefined) =>
  prefers(accept, 'application/openmetrics-text', 'text/plain') ? 'openmetrics' : 'text';

type OpsRoutes = Readonly<Record<'metrics' | 'healthz' | 'readyz', Handler>>;

export function createOpsRoutes({ prometheus, ready }: OpsDeps): OpsRoutes {
  return {
    async metrics(context) {
      const { contentType, body } = await prometheus.scrape(formatOf(context.req.header('accept')));
      context.env.outgoing.appendHeader('Vary', 'Accept');
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
