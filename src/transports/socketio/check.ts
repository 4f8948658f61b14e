/**
 * Who may run the connection check (docs/check.md), and its Socket.IO side: the namespace `/check` on the same Engine.IO
 * endpoint as everything else, so that what lies between treats it as it treats the real one.
 *
 * Open to anyone, in every AUTH_MODE. A socket in there is in no room, hears no event and has no session; what it is
 * sent ends in an object, so that a stock client never takes it for a place to recover from. It is sent ticks, its small
 * messages come back, and its connection ends, whatever else it does, after a bounded time and number of messages.
 */
import type { IncomingMessage } from 'node:http';
import type { Server, Socket } from 'socket.io';
import { z } from 'zod';
import { clientAddress, createConnectionLimits } from '../../auth/limits.ts';
import type { Config } from '../../config.ts';
import type { BridgeError } from '../../contract/errors.ts';
import type { Gate } from '../gate.ts';

/**
 * One check holds up to six connections for half a minute. These are all that probes get of MAX_CONNECTIONS: at most a
 * quarter of it, so that nobody without a token keeps those with one out.
 */
const MOST_PROBES = 200;
const LEAST_PROBES = 8;
const MOST_PROBES_PER_ADDRESS = 40;

/** Longest that a connection with a probe on it lives: the longest hold of `/check/stream`, and its ticks. */
const LIFE_MS = 150_000;
/** A check needs three. */
const MOST_MESSAGES = 50;
const MOST_ECHO_CHARACTERS = 1024;

export interface ProbeDoor {
  /**
   * Counts a probe in, as a connection and as a probe; the returned function counts it out.
   * @throws {BridgeError} `too_many_connections`, `unavailable`
   */
  admit(request: IncomingMessage): Promise<() => void>;
  /** The same for one that has passed the gate already. @throws {BridgeError} `too_many_connections` */
  share(request: IncomingMessage): () => void;
}

export function createProbeDoor(config: Pick<Config, 'maxConnections' | 'trustProxy'>, gate: Gate): ProbeDoor {
  const quarter = Math.ceil((config.maxConnections ?? Number.POSITIVE_INFINITY) / 4);
  const limits = createConnectionLimits({
    maxConnections: Math.min(MOST_PROBES, Math.max(LEAST_PROBES, quarter)),
    maxConnectionsPerAddress: MOST_PROBES_PER_ADDRESS,
  });
  const share = (request: IncomingMessage) => limits.acquire(clientAddress(request, config.trustProxy));
  return {
    share,
    async admit(request) {
      const leave = share(request);
      try {
        const release = await gate.admit(request);
        return () => {
          leave();
          release();
        };
      } catch (error) {
        leave();
        throw error;
      }
    },
  };
}

const START = z
  .object({ ticks: z.int().min(1).max(20).default(5), every: z.int().min(50).max(1000).default(300) })
  .prefault({});

type Ack = (answer: object) => void;

export function openProbeNamespace(io: Server, door: ProbeDoor, lifeMs = LIFE_MS): void {
  const namespace = io.of('/check');
  /** What each connection may still send, also when it leaves the namespace and comes back. */
  const budgets = new Map<Socket['conn'], { messages: number }>();

  function hold(conn: Socket['conn']): void {
    const leave = door.share(conn.request);
    budgets.set(conn, { messages: MOST_MESSAGES });
    const end = setTimeout(() => conn.close(), lifeMs);
    conn.once('close', () => {
      clearTimeout(end);
      budgets.delete(conn);
      leave();
    });
  }

  /** Ends the connection of a client that goes on and on. */
  function spend(conn: Socket['conn']): boolean {
    const budget = budgets.get(conn);
    if (budget !== undefined && budget.messages-- > 0) return true;
    conn.close();
    return false;
  }

  namespace.use(({ conn }, next) => {
    try {
      if (conn.readyState === 'open' && !budgets.has(conn)) hold(conn);
      // Socket.IO keeps a socket until it hears what became of it.
      next(spend(conn) ? undefined : new Error('The connection was closed.'));
    } catch (error) {
      const { message, code } = error as BridgeError;
      next(Object.assign(new Error(message), { data: { code } }));
      // The refusal goes out first. Without a probe on it, nothing else ends this connection.
      setImmediate(() => conn.close());
    }
  });

  namespace.on('connection', (socket) => {
    let ticking: NodeJS.Timeout | undefined;
    socket.use((_packet, next) => {
      if (spend(socket.conn)) next();
    });
    socket.on('check.start', (...args: unknown[]) => {
      const ack = typeof args.at(-1) === 'function' ? (args.pop() as Ack) : () => {};
      const start = START.safeParse(args[0]);
      if (!start.success) return ack(refusal('invalid_request', 'ticks must be from 1 to 20, every from 50 to 1000.'));
      if (ticking !== undefined) return ack(refusal('rate_limited', 'The ticks before have not ended yet.'));
      const { ticks, every } = start.data;
      ack({ ok: true });
      const begunMs = performance.now();
      let n = 0;
      const tick = (): void => {
        socket.emit('check.tick', { n: n++, atMs: Math.round(performance.now() - begunMs) });
        if (n < ticks) return;
        clearInterval(ticking);
        ticking = undefined;
      };
      ticking = setInterval(tick, every);
      tick();
    });
    socket.on('check.echo', (...args: unknown[]) => {
      const ack = typeof args.at(-1) === 'function' ? (args.pop() as Ack) : () => {};
      const [text = ''] = args;
      if (typeof text !== 'string' || text.length > MOST_ECHO_CHARACTERS) {
        return ack(refusal('body_too_large', `A text of at most ${MOST_ECHO_CHARACTERS} characters comes back.`));
      }
      ack({ ok: true, text });
    });
    socket.on('disconnect', () => clearInterval(ticking));
  });
}

function refusal(code: BridgeError['code'], error: string): object {
  return { ok: false, code, error };
}
