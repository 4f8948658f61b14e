/**
 * Cuts clients that take nothing of an answer (protocol §16). One timer serves all answers that wait, and runs only while
 * there is one.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { onExchangeEnd, STALLED_MS, StallWatch } from '../answers/exchange.ts';
import type { Logger } from '../logger.ts';
import type { Metrics } from '../metrics/metrics.ts';

const TICK_MS = 1_000;

interface Waiting {
  readonly request: IncomingMessage;
  readonly stall: StallWatch;
}

export interface Readers {
  /** Watches the client of this answer until the exchange ends. */
  watch(request: IncomingMessage, response: ServerResponse): void;
}

export function createReaders({ metrics, logger }: { readonly metrics: Metrics; readonly logger: Logger }): Readers {
  const answers = new Map<ServerResponse, Waiting>();
  let ticking: NodeJS.Timeout | undefined;

  function tick(): void {
    const nowMs = performance.now();
    for (const { request, stall } of answers.values()) {
      if (!stall.isStalled(nowMs)) continue;
      const { socket, method, url = '' } = request;
      metrics.slowConsumer('http');
      logger.info(
        { method, path: url.split('?')[0] },
        `an answer was cut: its client took nothing for ${STALLED_MS / 1000} s`,
      );
      socket.destroy();
    }
  }

  return {
    watch(request, response) {
      if (answers.has(response)) return;
      answers.set(response, { request, stall: new StallWatch(request.socket) });
      ticking ??= setInterval(tick, TICK_MS);
      onExchangeEnd(response, () => {
        answers.delete(response);
        if (answers.size > 0) return;
        clearInterval(ticking);
        ticking = undefined;
      });
    },
  };
}
