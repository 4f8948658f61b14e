/**
 * The probes over Socket.IO (transports/probe.ts on the server): ticks by the namespace `/check`, then the same
 * connection with nothing to say. What goes wrong is noted, never thrown.
 */
import type { Socket } from 'socket.io-client';
import type { FaultFacts, Passage, Quiet, Tick } from './result.ts';
import type { ProbeDeps } from './run.ts';

const TICKS = 5;
const TICK_MS = 300;

export interface SocketProbe {
  ticks(): Promise<Passage>;
  quiet(seconds: number): Promise<Quiet>;
  close(): void;
}

/** What socket.io-client's error of a transport holds besides its message. */
interface ConnectError extends Error {
  readonly data?: { readonly code?: string };
  /** A status, or what the websocket's error event says. */
  readonly description?: number | { readonly message?: string; readonly error?: { readonly code?: string } };
  readonly context?: { readonly responseText?: string };
}

export function openSocketProbe(
  { network, patienceMs, signal }: ProbeDeps,
  transport: 'websocket' | 'polling',
  socketPath: string,
): SocketProbe {
  const begunMs = performance.now();
  const elapsedMs = (): number => Math.round(performance.now() - begunMs);
  const socket: Socket = network.connect(transport, socketPath, patienceMs);
  const abandon = (): void => void socket.disconnect();
  signal.addEventListener('abort', abandon);

  function ticks(): Promise<Passage> {
    return new Promise((resolve) => {
      const seen: Tick[] = [];
      let connectMs: number | null = null;
      const done = (fault: FaultFacts | null): void => {
        clearTimeout(timer);
        socket.off('connect').off('connect_error').off('disconnect').off('check.tick');
        resolve({ connectMs, ticks: seen, expected: TICKS, fault });
      };
      // A timeout that socket.io-client tells of comes before this one.
      const timer = setTimeout(() => done({ kind: 'silent', detail: '' }), 2 * patienceMs + TICKS * TICK_MS);
      // A websocket's handshake: what it does not let through afterwards is another matter.
      socket.io.engine.transport.once('open', () => {
        connectMs = elapsedMs();
      });
      socket.on('connect', () => {
        connectMs ??= elapsedMs();
        socket.emit('check.start', { ticks: TICKS, every: TICK_MS });
      });
      socket.on('check.tick', ({ atMs }: { readonly atMs: number }) => {
        seen.push({ sentMs: atMs, arrivedMs: elapsedMs() });
        if (seen.length === TICKS) done(null);
      });
      socket.on('connect_error', (error) => done(faultOf(error, connectMs !== null)));
      socket.on('disconnect', (reason) => done({ kind: 'ended', detail: reason }));
    });
  }

  function quiet(seconds: number): Promise<Quiet> {
    return new Promise((resolve) => {
      const sinceMs = performance.now();
      const watchedMs = seconds * 1000;
      const done = (outcome: Pick<Quiet, 'cutMs' | 'isDead'>): void => {
        clearTimeout(timer);
        socket.off('disconnect', cut);
        resolve({ watchedMs, ...outcome });
      };
      const cut = (): void => done({ cutMs: Math.round(performance.now() - sinceMs), isDead: false });
      const timer = setTimeout(() => {
        socket.timeout(patienceMs).emit('check.echo', 'still there?', (error: Error | null) => {
          done({ cutMs: null, isDead: error !== null });
        });
      }, watchedMs);
      socket.on('disconnect', cut);
      if (!socket.connected) cut();
    });
  }

  return {
    ticks,
    quiet,
    close() {
      signal.removeEventListener('abort', abandon);
      socket.disconnect();
    },
  };
}

function faultOf({ data, description, context, message }: ConnectError, wasAccepted: boolean): FaultFacts {
  const code = data?.code ?? codeIn(context?.responseText);
  if (code === 'too_many_connections') return { kind: 'busy', detail: '' };
  if (code === 'unavailable') return { kind: 'draining', detail: '' };
  if (message === 'timeout') return { kind: wasAccepted ? 'silent' : 'timeout', detail: '' };
  // npm `ws` tells the status of a refused handshake in its message; a browser tells nobody.
  const event = typeof description === 'object' ? description : {};
  const text = event.message ?? '';
  if (event.error?.code?.startsWith('ERR_PROXY')) return { kind: 'proxy', detail: text };
  const status = typeof description === 'number' ? description : Number(/response: (\d{3})/.exec(text)?.[1] ?? 0);
  if (status > 0) return { kind: status === 200 ? 'notOurs' : 'blocked', detail: String(status) };
  return { kind: wasAccepted ? 'ended' : 'unreachable', detail: text };
}

/** The code of a problem document (RFC 9457). */
function codeIn(body: string | undefined): unknown {
  try {
    return (JSON.parse(body ?? '') as { readonly code?: unknown }).code;
  } catch {
    return undefined;
  }
}
