/**
 * Server-Sent Events, read with `fetch`. EventSource hides what the client needs: the first byte (a stream that a proxy
 * buffers never has one), silence, the status, and events without a listener.
 *
 * Blocks have the form of protocol §6. A proxy may split them anywhere, change line ends or add comments. A block that is
 * longer than any payload ends the connection.
 */
import { createParser } from 'eventsource-parser';
import { BRIDGE_AUDIENCE, BRIDGE_CURSOR, BRIDGE_ERROR, BRIDGE_RESET } from '../../contract/names.ts';
import type { Reset } from '../../contract/reset.ts';
import { idsByField } from '../../contract/rooms.ts';
import { openAgain, WAKE_MS } from '../ask-again.ts';
import { RoomcastError, refusalOf } from '../http.ts';
import { boundedRetryAfter } from '../retry.ts';
import type { ReceivedSignal } from '../signals/active.ts';
import type { Payload } from '../stream.ts';
import type { ConnectionEnd, ConnectionEvents, OpenConnection } from './connection.ts';

/** A block that has data. The bridge sends no event of the name `''`. */
interface Block {
  readonly event: string;
  readonly id: string | undefined;
  readonly data: string;
  /** In milliseconds, if the block or a comment before it has the field. */
  readonly retry: number | undefined;
}

/** A payload has a megabyte (`MAX_BODY_BYTES`) or, where the operator says so, some more. */
const MAX_BLOCK_LENGTH = 4 * 1024 * 1024;
/** A byte is a sign of life for this long. */
const RECENT_MS = 5_000;
/** A timer that is later by this much did not run on time: the page was frozen, or the machine slept. */
const LATE_MS = 1_000;

export const openSse: OpenConnection = ({ http, stream, signals, heartbeatMs, marks }, events) => {
  let current = new AbortController();
  /** A second stream that shows whether the bridge can be reached, and then takes over; null while nobody asks. */
  let probing: AbortController | null = null;
  let heardAtMs = Number.NEGATIVE_INFINITY;

  async function read(aborter: AbortController, isProbe: boolean, { proven, ended }: ConnectionEvents): Promise<void> {
    const writer = stream.writer();
    const { signal } = aborter;
    let end: ConnectionEnd = {};
    /** Whether the next event went to other rooms than its payload's ids say. */
    let isMarked = false;
    let silence: ReturnType<typeof setTimeout> | undefined;
    const fallSilent = (): void => {
      aborter.abort();
      ended({ isSilent: true });
    };
    const restartSilence = (): void => {
      const lateAtMs = Date.now() + 2 * heartbeatMs + LATE_MS;
      clearTimeout(silence);
      silence = setTimeout(() => {
        // A page that was frozen, or slept, first receives what was buffered for it.
        if (Date.now() < lateAtMs) fallSilent();
        else silence = setTimeout(fallSilent, WAKE_MS);
      }, 2 * heartbeatMs);
    };
    const heard = (): void => {
      heardAtMs = Date.now();
      restartSilence();
    };
    try {
      restartSilence();
      const open = (until: AbortSignal) =>
        http.open('sse', {
          query: {
            ...idsByField(writer.rooms),
            legacy: 'false',
            after: writer.cursor || 'start',
            ...(marks && { audience: 'true' }),
          },
          headers: { accept: 'text/event-stream' },
          listens: true,
          signal: until,
        });
      await readBlocks(await (isProbe ? openAgain(open, signal) : open(signal)), heard, take);
    } catch (error) {
      if (error instanceof RoomcastError) end = { error };
    } finally {
      clearTimeout(silence);
      if (!signal.aborted) ended(end);
      aborter.abort();
    }

    function take({ event, id, data, retry }: Block): void {
      if (signal.aborted) return;
      const payload: unknown = JSON.parse(data);
      if (retry !== undefined) end = { ...end, retryAfterMs: boundedRetryAfter(retry) };
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
      if (event === BRIDGE_CURSOR && writer.isCurrent) proven();
    }
  }

  function close(): void {
    current.abort();
    probing?.abort();
    probing = null;
  }

  return {
    attach() {
      close();
      current = new AbortController();
      void read(current, false, events);
    },
    probe(patienceMs, isDoubted = false) {
      const isAlive = Date.now() - heardAtMs < RECENT_MS && !isDoubted;
      if (isAlive || probing !== null) return;
      const next = new AbortController();
      probing = next;
      const timer = setTimeout(() => ended({}), patienceMs);
      next.signal.addEventListener('abort', () => clearTimeout(timer));
      const ended = (end: ConnectionEnd): void => {
        clearTimeout(timer);
        if (probing === next && isRefusal(end)) {
          probing = null;
          next.abort();
          return;
        }
        close();
        events.ended(end);
      };
      void read(next, true, {
        ended,
        proven() {
          clearTimeout(timer);
          if (probing === next) {
            current.abort();
            current = next;
            probing = null;
          }
          events.proven();
        },
      });
    },
    close,
  };
};

/** The bridge answers, and takes no second stream: that says nothing of the first. */
function isRefusal({ error }: ConnectionEnd): boolean {
  return error?.passing === true && !/^(unreachable|timeout|token|unauthorized|http_)/.test(error.code);
}

/**
 * Gives each block to `take`, in the order of arrival, and calls `onBytes` for each piece, comments and halves included.
 * The work is linear in what arrives, however small the pieces are.
 */
async function readBlocks(response: Response, onBytes: () => void, take: (block: Block) => void): Promise<void> {
  const reader = response.body?.getReader();
  const decoder = new TextDecoder();
  let retry: number | undefined;
  const parser = createParser({
    maxBufferSize: MAX_BLOCK_LENGTH,
    onRetry(milliseconds) {
      retry = milliseconds;
    },
    onEvent({ event = '', id, data }) {
      if (data) take({ event, id, data, retry });
      retry = undefined;
    },
    onError({ type }) {
      if (type !== 'max-buffer-size-exceeded') return;
      throw new RoomcastError('unreachable', `A block of the stream has more than ${MAX_BLOCK_LENGTH} characters.`);
    },
  });
  try {
    for (;;) {
      const { done, value } = (await reader?.read()) ?? { done: true };
      if (done) return;
      onBytes();
      parser.feed(decoder.decode(value, { stream: true }));
    }
  } finally {
    reader?.cancel().catch(() => {}); // an aborted body has nothing left to cancel
  }
}
