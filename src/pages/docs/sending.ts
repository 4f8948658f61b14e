/** One request at a time, and its answer as it arrives. What is shown of it is bounded, however much comes. */
import { createChanges, type Model } from '../console/model.ts';
import type { ApiRequest } from './request.ts';

/** Characters of the body that are kept. Of a stream the newest, of any other answer the first. */
const MAX_CHARACTERS = 200_000;
const RENDER_MS = 100;

export interface Answer {
  readonly status: number;
  readonly statusText: string;
  readonly type: string;
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body: string;
  /** Whether the body was longer than what is kept. */
  readonly isCut: boolean;
  /** Until the head of the answer was there. */
  readonly headMs: number;
  /** Until its end; null while it runs. */
  readonly totalMs: number | null;
}

export interface Sending extends Model {
  readonly isRunning: boolean;
  readonly answer: Answer | null;
  /** Why there is no answer, or no whole one: the browser's words. */
  readonly fault: string | null;
  send(request: ApiRequest, token: string | null): Promise<void>;
  /** Ends a running request. What has arrived stays. */
  stop(): void;
}

export function createSending(): Sending {
  const changes = createChanges(RENDER_MS);
  let running: AbortController | null = null;
  let answer: Answer | null = null;
  let fault: string | null = null;

  async function read(request: ApiRequest, token: string | null, signal: AbortSignal): Promise<void> {
    const startedMs = performance.now();
    const elapsedMs = (): number => Math.round(performance.now() - startedMs);
    const headers = { ...request.headers, ...(token === null ? {} : { authorization: `Bearer ${token}` }) };
    const { method, url, body } = request;
    const response = await fetch(url, { method, headers, body, signal, cache: 'no-store' });
    const type = response.headers.get('content-type') ?? '';
    const isStream = type.startsWith('text/event-stream');
    let text = '';
    let isCut = false;
    const show = (totalMs: number | null): void => {
      const { status, statusText } = response;
      answer = { status, statusText, type, headers: [...response.headers], body: text, isCut, headMs, totalMs };
      changes.notify();
    };
    const headMs = elapsedMs();
    show(null);
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
    try {
      for (;;) {
        const { done = true, value = '' } = (await reader?.read()) ?? {};
        if (done) break;
        text += value;
        if (text.length > MAX_CHARACTERS) {
          isCut = true;
          text = isStream ? text.slice(-MAX_CHARACTERS) : text.slice(0, MAX_CHARACTERS);
          if (!isStream) break;
        }
        show(null);
      }
    } finally {
      reader?.cancel().catch(() => {});
      show(elapsedMs());
    }
  }

  return {
    changes,
    get isRunning() {
      return running !== null;
    },
    get answer() {
      return answer;
    },
    get fault() {
      return fault;
    },
    async send(request, token) {
      running?.abort();
      const own = new AbortController();
      running = own;
      answer = null;
      fault = null;
      changes.notify();
      try {
        await read(request, token, own.signal);
      } catch (error) {
        if (!own.signal.aborted) fault = String(error instanceof Error ? error.message : error);
      } finally {
        if (running === own) running = null;
        own.abort();
        changes.notify();
      }
    },
    stop: () => running?.abort(),
  };
}
