/** One of the soak's client processes: a crowd that comes and goes, told what to do by the runner. */
import { type Crowd, startCrowd } from './crowd.ts';

export interface SoakTask {
  readonly kind: 'start';
  readonly url: string;
  readonly listeners: number;
  readonly rooms: number;
}

export interface SoakReport {
  readonly connected: number;
  readonly seen: number;
  readonly complete: boolean;
  readonly wrongs: readonly string[];
  readonly lags: readonly number[];
}

type Message =
  | SoakTask
  | { readonly kind: 'report'; readonly total?: number }
  | { readonly kind: 'churn'; readonly share: number };

const MOST_LAGS = 2_000;
let crowd: Crowd | null = null;
let size = 0;

process.on('message', async (message: Message) => {
  if (message.kind === 'start') {
    const { url, listeners, rooms } = message;
    size = listeners;
    crowd = await startCrowd({
      url: () => url,
      listeners,
      rooms: (index) => [`ticket:r${index % rooms}`],
      mix: { sse: 0.55, websocket: 0.3, longpoll: 0.1, polling: 0.05 },
      perSecond: 400,
    });
    return;
  }
  if (message.kind === 'churn') {
    for (let count = 0; count < Math.ceil(size * message.share); count++)
      crowd?.churn(Math.floor(Math.random() * size));
  }
  const total = message.kind === 'report' ? message.total : undefined;
  const report: SoakReport = {
    connected: crowd?.connected() ?? 0,
    seen: crowd?.seen() ?? 0,
    complete: total !== undefined && (crowd?.complete(total) ?? false),
    wrongs: crowd?.wrongs(total) ?? [],
    lags: message.kind === 'churn' ? (crowd?.takeLags().slice(0, MOST_LAGS) ?? []) : [],
  };
  process.send?.(report);
});
process.on('disconnect', () => process.exit(0));
