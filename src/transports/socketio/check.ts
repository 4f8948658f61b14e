/**
 * The connection check over Socket.IO (docs/check.md): the namespace `/check` on the same Engine.IO endpoint as the
 * events, so intermediaries treat both alike. It sends ticks and echoes small messages.
 *
 * The namespace is open to anyone, so a socket in it joins no room and has no session, and its connection is closed
 * after a bounded time and number of messages. All that it receives ends in an object: a stock client takes a trailing
 * string for a recovery offset.
 */
import type { Server, Socket } from 'socket.io';
import { z } from 'zod';
import type { BridgeError } from '../../contract/errors.ts';
import { BRIDGE_ERROR } from '../../contract/names.ts';
import type { CheckGate } from '../check-gate.ts';
import { unknownEvent } from './unknown-event.ts';

export const CHECK_NAMESPACE = '/check';
/** The longest hold of `/check/stream` (120 s) and its ticks fit. */
const MAX_LIFE_MS = 150_000;
/** A check needs three. */
const MAX_MESSAGES = 50;
const MAX_ECHO_CHARACTERS = 1024;

const START = z
  .object({ ticks: z.int().min(1).max(20).default(5), every: z.int().min(50).max(1000).default(300) })
  .prefault({});

const START_EVENT = 'check.start';
const ECHO_EVENT = 'check.echo';
const EVENTS = [START_EVENT, ECHO_EVENT];

type Ack = (answer: object) => void;

export function openCheckNamespace(io: Server, gate: CheckGate, maxLifeMs = MAX_LIFE_MS): void {
  const namespace = io.of(CHECK_NAMESPACE);
  /** Messages that each connection may still send. Leaving and rejoining the namespace does not reset the count. */
  const messagesLeft = new Map<Socket['conn'], number>();

  function admit(conn: Socket['conn']): void {
    const release = gate.admitOpen(conn.request);
    messagesLeft.set(conn, MAX_MESSAGES);
    const lifetime = setTimeout(() => conn.close(), maxLifeMs);
    conn.once('close', () => {
      clearTimeout(lifetime);
      messagesLeft.delete(conn);
      release();
    });
  }

  /** Counts one message; past the limit, closes the connection. */
  function takeMessage(conn: Socket['conn']): boolean {
    const left = messagesLeft.get(conn) ?? 0;
    if (left === 0) conn.close();
    else messagesLeft.set(conn, left - 1);
    return left > 0;
  }

  namespace.use(({ conn }, next) => {
    try {
      if (conn.readyState === 'open' && !messagesLeft.has(conn)) admit(conn);
      // Without a call of `next`, Socket.IO would keep the socket in memory.
      next(takeMessage(conn) ? undefined : new Error('The connection was closed.'));
    } catch (error) {
      const { message, code } = error as BridgeError;
      next(Object.assign(new Error(message), { data: { code } }));
      // After the refusal was sent. A connection without a check on it has no lifetime that would end it.
      setImmediate(() => conn.close());
    }
  });

  namespace.on('connection', (socket) => {
    let ticking: NodeJS.Timeout | undefined;
    socket.use(([event, ...args], next) => {
      if (!takeMessage(socket.conn)) return;
      if (EVENTS.includes(event)) return next();
      const { code, message } = unknownEvent(String(event), EVENTS);
      if (typeof args.at(-1) === 'function') ackOf(args)(refusal(code, message));
      else socket.emit(BRIDGE_ERROR, { code, message });
    });
    socket.on(START_EVENT, (...args: unknown[]) => {
      const ack = ackOf(args);
      const start = START.safeParse(args[0]);
      if (!start.success) {
        return ack(refusal('invalid_request', 'ticks must be from 1 to 20, and every from 50 to 1000 (milliseconds).'));
      }
      if (ticking !== undefined) {
        return ack(refusal('rate_limited', 'The previous ticks are still running. Wait for the last one.'));
      }
      const { ticks, every } = start.data;
      ack({ ok: true });
      const startedMs = performance.now();
      let n = 0;
      const tick = (): void => {
        socket.emit('check.tick', { n: n++, atMs: Math.round(performance.now() - startedMs) });
        if (n < ticks) return;
        clearInterval(ticking);
        ticking = undefined;
      };
      ticking = setInterval(tick, every);
      tick();
    });
    socket.on(ECHO_EVENT, (...args: unknown[]) => {
      const ack = ackOf(args);
      const [text = ''] = args;
      if (typeof text !== 'string' || text.length > MAX_ECHO_CHARACTERS) {
        return ack(refusal('body_too_large', `Send a string of at most ${MAX_ECHO_CHARACTERS} characters.`));
      }
      ack({ ok: true, text });
    });
    socket.on('disconnect', () => clearInterval(ticking));
  });
}

/** Takes the acknowledgement callback off the arguments of an event. */
function ackOf(args: unknown[]): Ack {
  return typeof args.at(-1) === 'function' ? (args.pop() as Ack) : () => {};
}

function refusal(code: BridgeError['code'], error: string): object {
  return { ok: false, code, error };
}
