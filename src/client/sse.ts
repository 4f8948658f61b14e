/**
 * The middle rung: Server-Sent Events, read with `fetch` and not with EventSource, which hides what matters here: the
 * first byte (a stream that is held back never has one), silence, the status, and names that nobody listens for.
 *
 * Blocks are as protocol §6 writes them. An intermediary may change line ends or comment, no more.
 */
import { BRIDGE_CURSOR, BRIDGE_ERROR, BRIDGE_RESET } from '../contract/names.ts';
import type { End, Open, Source } from './connection.ts';
import { RoomcastError } from './http.ts';
import { asked } from './retry.ts';
import { type Gap, queryOf } from './stream.ts';

interface Block {
  event: string;
  id: string | null;
  data: string;
  retryMs: number | null;
}

export const openSse: Open = ({ http, session, heartbeatMs }, events): Source => {
  let under = new AbortController();

  async function stream(aborter: AbortController): Promise<void> {
    const link = session.link();
    const { signal } = aborter;
    let end: End = {};
    let isSilent = false;
    let watch: ReturnType<typeof setTimeout> | undefined;
    const alive = (): void => {
      clearTimeout(watch);
      watch = setTimeout(() => {
        isSilent = true;
        aborter.abort();
      }, 2 * heartbeatMs);
    };
    try {
      alive();
      const response = await http.open('sse', {
        query: { ...queryOf(link.rooms), legacy: 'false', after: link.cursor || 'start' },
        headers: { accept: 'text/event-stream' },
        listens: true,
        signal,
      });
      if (!response.headers.get('content-type')?.startsWith('text/event-stream')) {
        throw new RoomcastError('unreachable', 'The answer is no event stream.');
      }
      for await (const block of blocksOf(response, alive)) {
        if (signal.aborted) return;
        if (block.retryMs !== null) end = { ...end, retryAfterMs: block.retryMs };
        end = take(block) ?? end;
      }
    } catch (error) {
      if (error instanceof RoomcastError) end = { ...end, error, retryAfterMs: error.retryAfterMs };
    } finally {
      clearTimeout(watch);
      // Aborted by others: they know.
      if (isSilent) events.ended({ isSilent: true });
      else if (!signal.aborted) events.ended(end);
      aborter.abort();
    }

    function take({ event, id, data }: Block): End | null {
      const payload = JSON.parse(data);
      if (event === BRIDGE_ERROR) {
        const { code, message } = payload as { readonly code: string; readonly message: string };
        return { ...end, error: new RoomcastError(code, message, { status: code === 'token_expired' ? 401 : 0 }) };
      }
      if (event === BRIDGE_RESET) link.reset(payload as Gap);
      else if (event === BRIDGE_CURSOR) link.moved(id ?? '');
      else if (id !== null) link.frame({ event, payload, cursor: id }, 'sse');
      if (event === BRIDGE_CURSOR && link.isCurrent) events.proven();
      return null;
    }
  }

  return {
    attach() {
      under.abort();
      under = new AbortController();
      void stream(under);
    },
    close: () => under.abort(),
  };
};

/** The stream's blocks as they come in. `alive` is called for every piece, comments and halves too. */
async function* blocksOf(response: Response, alive: () => void): AsyncGenerator<Block> {
  const { body } = response;
  if (body === null) return;
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let text = '';
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      alive();
      text += decoder.decode(value, { stream: true });
      const blocks = text.split(/\r?\n\r?\n/);
      text = blocks.pop() ?? '';
      for (const block of blocks) {
        const parsed = parse(block);
        if (parsed !== null) yield parsed;
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // an aborted body has nothing left to cancel
  }
}

function parse(text: string): Block | null {
  const block: Block = { event: '', id: null, data: '', retryMs: null };
  for (const line of text.split(/\r?\n/)) {
    const colon = line.indexOf(':');
    const value = line.slice(colon + 1).replace(/^ /, '');
    if (line.startsWith('event:')) block.event = value;
    else if (line.startsWith('data:')) block.data = value;
    else if (line.startsWith('id:')) block.id = value;
    else if (line.startsWith('retry:')) block.retryMs = asked(Number(value));
  }
  return block.data === '' ? null : block;
}
