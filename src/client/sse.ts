/**
 * Server-Sent Events, read with `fetch`. EventSource hides what the client needs: the first byte (a stream that a proxy
 * buffers never has one), silence, the status, and events without a listener.
 *
 * Blocks have the form of protocol §6. A proxy may change line ends or add comments, and nothing else.
 */
import { BRIDGE_AUDIENCE, BRIDGE_CURSOR, BRIDGE_ERROR, BRIDGE_RESET } from '../contract/names.ts';
import type { Reset } from '../contract/reset.ts';
import { idsByField } from '../contract/rooms.ts';
import type { ReceivedSignal } from './active-signals.ts';
import type { ConnectionEnd, OpenConnection } from './connection.ts';
import { RoomcastError, refusalOf } from './http.ts';
import { boundedRetryAfter } from './retry.ts';
import type { Payload } from './stream.ts';

/** The value of each field. */
type Block = Readonly<Partial<Record<'event' | 'id' | 'data' | 'retry', string>>>;

export const openSse: OpenConnection = ({ http, stream, signals, heartbeatMs, marks }, events) => {
  let current = new AbortController();

  async function read(aborter: AbortController): Promise<void> {
    const writer = stream.writer();
    const { signal } = aborter;
    let end: ConnectionEnd = {};
    /** Whether the next event went to other rooms than its payload's ids say. */
    let isMarked = false;
    let silence: ReturnType<typeof setTimeout> | undefined;
    const restartSilence = (): void => {
      clearTimeout(silence);
      silence = setTimeout(() => {
        aborter.abort();
        events.ended({ isSilent: true });
      }, 2 * heartbeatMs);
    };
    try {
      restartSilence();
      const response = await http.open('sse', {
        query: {
          ...idsByField(writer.rooms),
          legacy: 'false',
          after: writer.cursor || 'start',
          ...(marks && { audience: 'true' }),
        },
        headers: { accept: 'text/event-stream' },
        listens: true,
        signal,
      });
      for await (const block of blocksOf(response, restartSilence)) {
        if (signal.aborted) return;
        take(block);
      }
    } catch (error) {
      if (error instanceof RoomcastError) end = { error };
    } finally {
      clearTimeout(silence);
      if (!signal.aborted) events.ended(end);
      aborter.abort();
    }

    function take({ event = '', id, data = '', retry }: Block): void {
      const payload: unknown = JSON.parse(data);
      if (retry !== undefined) end = { ...end, retryAfterMs: boundedRetryAfter(Number(retry)) };
      if (event === BRIDGE_ERROR) {
        const { code, message } = payload as { readonly code: string; readonly message: string };
        end = { ...end, error: refusalOf(code, message) };
      } else if (event === BRIDGE_RESET) writer.reset(payload as Reset<string>);
      else if (event === BRIDGE_CURSOR) writer.advance(id ?? '');
      else if (event === BRIDGE_AUDIENCE) isMarked = true;
      else if (id !== undefined) {
        const rooms = isMarked ? null : undefined;
        isMarked = false;
        writer.write({ event, payload: payload as Payload, cursor: id, rooms }, 'sse');
      } else signals.take(event, payload as ReceivedSignal, 'sse');
      if (event === BRIDGE_CURSOR && writer.isCurrent) events.proven();
    }
  }

  return {
    attach() {
      current.abort();
      current = new AbortController();
      void read(current);
    },
    close: () => current.abort(),
  };
};

/** The blocks in the order of their arrival. Calls `onBytes` for each piece, comments and halves included. */
async function* blocksOf(response: Response, onBytes: () => void): AsyncGenerator<Block> {
  const { body } = response;
  if (body === null) return;
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let text = '';
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      onBytes();
      text += decoder.decode(value, { stream: true });
      const blocks = text.split(/\r?\n\r?\n/);
      text = blocks.pop() ?? '';
      yield* blocks.map(parse).filter(({ data }) => data);
    }
  } finally {
    reader.cancel().catch(() => {}); // an aborted body has nothing left to cancel
  }
}

/** A comment is a field without a name. */
const parse = (text: string): Block => Object.fromEntries(text.split(/\r?\n/).map((line) => line.split(/: ?(.*)/, 2)));
