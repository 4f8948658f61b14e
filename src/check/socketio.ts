/**
 * The Socket.IO side of the check (transports/socketio/check.ts on the server): ticks in the namespace `/check`, then
 * the same connection kept quiet. Faults are part of the results; nothing is thrown.
 */
import { type CheckContext, TICK_MS, TICKS } from './network.ts';
import type { Fault, QuietPeriod, Tick, TickDelivery } from './result.ts';

export interface CheckSocket {
  ticks(): Promise<TickDelivery>;
  quiet(seconds: number): Promise<QuietPeriod>;
  close(): void;
}

/** The `connect_error` of socket.io-client, as its transports fill it. */
interface ConnectError extends Error {
  readonly data?: { readonly code?: string };
  /** A status, or the WebSocket's error event. */
  readonly description?: number | { readonly message?: string; readonly error?: { readonly code?: string } };
  readonly context?: { readonly responseText?: string };
}

export function openCheckSocket(
  { network, id, timeoutMs, signal }: CheckContext,
  transport: 'websocket' | 'polling',
  socketPath: string,
): CheckSocket {
  const startedMs = performance.now();
  const elapsedMs = (): number => Math.round(performance.now() - startedMs);
  const socket = network.connect(transport, { socketPath, timeoutMs, query: { check: id } });
  const abort = (): void => void socket.disconnect();
  signal.addEventListener('abort', abort);

  function ticks(): Promise<TickDelivery> {
    return new Promise((resolve) => {
      const arrived: Tick[] = [];
      let connectMs: number | null = null;
      const finish = (fault: Fault | null): void => {
        clearTimeout(timer);
        socket.off('connect').off('connect_error').off('disconnect').off('check.tick');
        resolve({ connectMs, ticks: arrived, expected: TICKS, fault });
      };
      // socket.io-client's own timeout fires first, so this one means that the ticks stopped.
      const timer = setTimeout(() => finish({ kind: 'silent', detail: '' }), 2 * timeoutMs + TICKS * TICK_MS);
      // The WebSocket handshake. Whether anything passes after it is a separate question.
      socket.io.engine.transport.once('open', () => {
        connectMs = elapsedMs();
      });
      socket.on('connect', () => {
        connectMs ??= elapsedMs();
        socket.emit('check.start', { ticks: TICKS, every: TICK_MS });
      });
      socket.on('check.tick', ({ atMs }: { readonly atMs: number }) => {
        arrived.push({ sentMs: atMs, arrivedMs: elapsedMs() });
        if (arrived.length === TICKS) finish(null);
      });
      socket.on('connect_error', (error) => finish(connectFault(error, connectMs !== null)));
      socket.on('disconnect', (reason, details) => {
        finish(isOtherNode(details as ConnectError | undefined) ? OTHER_NODE : { kind: 'ended', detail: reason });
      });
    });
  }

  function quiet(seconds: number): Promise<QuietPeriod> {
    return new Promise((resolve) => {
      const sinceMs = performance.now();
      const watchedMs = seconds * 1000;
      const finish = (outcome: Pick<QuietPeriod, 'cutMs' | 'isDead'>): void => {
        clearTimeout(timer);
        socket.off('disconnect', onCut);
        resolve({ watchedMs, ...outcome });
      };
      const onCut = (): void => finish({ cutMs: Math.round(performance.now() - sinceMs), isDead: false });
      const timer = setTimeout(() => {
        socket.timeout(timeoutMs).emit('check.echo', 'still there?', (error: Error | null) => {
          finish({ cutMs: null, isDead: error !== null });
        });
      }, watchedMs);
      socket.on('disconnect', onCut);
      if (!socket.connected) onCut();
    });
  }

  return {
    ticks,
    quiet,
    close() {
      signal.removeEventListener('abort', abort);
      socket.disconnect();
    },
  };
}

const OTHER_NODE: Fault = { kind: 'otherNode', detail: '' };
/** Engine.IO's code of a session that this node does not have. */
const UNKNOWN_SESSION = 1;

function isOtherNode(error: ConnectError | undefined): boolean {
  return problemCode(error?.context?.responseText) === UNKNOWN_SESSION;
}

function connectFault(error: ConnectError, wasAccepted: boolean): Fault {
  const { data, description, context, message } = error;
  if (isOtherNode(error)) return OTHER_NODE;
  const code = data?.code ?? problemCode(context?.responseText);
  if (code === 'too_many_connections') return { kind: 'busy', detail: '' };
  if (code === 'unavailable') return { kind: 'draining', detail: '' };
  if (message === 'timeout') return { kind: wasAccepted ? 'silent' : 'timeout', detail: '' };
  // The npm package `ws` puts the status of a refused handshake into its message; a browser hides it.
  const event = typeof description === 'object' ? description : {};
  const text = event.message ?? '';
  if (event.error?.code?.startsWith('ERR_PROXY')) return { kind: 'proxy', detail: text };
  const status = typeof description === 'number' ? description : Number(/response: (\d{3})/.exec(text)?.[1] ?? 0);
  if (status > 0) return { kind: status === 200 ? 'notOurs' : 'blocked', detail: String(status) };
  return { kind: wasAccepted ? 'ended' : 'unreachable', detail: text };
}

/** The code of a problem document (RFC 9457), or of an error of Engine.IO. */
function problemCode(body: string | undefined): unknown {
  try {
    return (JSON.parse(body ?? '') as { readonly code?: unknown }).code;
  } catch {
    return undefined;
  }
}
