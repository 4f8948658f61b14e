/** One measurement's stage: the server under test and the load on it, all of it gone when the measurement is over. */
import type { ChildProcess } from 'node:child_process';
import { setPriority } from 'node:os';
import { fileURLToPath } from 'node:url';
import type { Contender, Server, ServerOptions } from './contenders.ts';
import type {
  Connected,
  ConnectOptions,
  Counted,
  CountOptions,
  Order,
  PublishOptions,
  PublishResult,
  Reply,
  Request,
  SignalOptions,
} from './load/protocol.ts';
import { end, start } from './processes.ts';

export interface Audience {
  connect(options: Omit<ConnectOptions, 'timeoutMs'>): Promise<Connected>;
  /** Sends signals from now on. @returns ends them */
  signal(options: SignalOptions): () => void;
  /** Counts what is delivered from now on. */
  count(options: CountOptions): Counting;
}

export interface Counting {
  readonly result: Promise<Counted>;
  /** All is published: ends when nothing comes for a while. */
  settle(): void;
  /** Ends now. */
  stop(): void;
}

export interface Stage {
  readonly options: StageOptions;
  start(contender: Contender): Promise<Server>;
  /** A process of listeners; a `lowly` one gives way to the others on its core. */
  audience(lowly?: boolean): Audience;
  publish(options: PublishOptions): Promise<PublishResult>;
  /** Publishes until told to end. */
  keepPublishing(options: PublishOptions): () => Promise<void>;
  say(text: string): void;
}

export interface StageOptions extends ServerOptions {
  readonly say: (text: string) => void;
}

/** Longest that listeners may take to connect, and that the bench waits for any answer of the load beyond its time. */
const CONNECT_MS = 90_000;
const GRACE_MS = 5_000;
/** Once all is published, this long without a delivery means that no more will come. */
const QUIET_MS = 4_000;

export async function withStage<T>(options: StageOptions, act: (stage: Stage) => Promise<T>): Promise<T> {
  const servers: Server[] = [];
  const load: ChildProcess[] = [];
  const spawnLoad = (file: string): ChildProcess => {
    const path = fileURLToPath(new URL(`load/${file}`, import.meta.url));
    const child = start(process.execPath, ['--disable-warning=ExperimentalWarning', path], {
      ...{ on: 'load', stdio: ['ignore', 'inherit', 'inherit', 'ipc'] },
    });
    load.push(child);
    return child;
  };
  try {
    return await act({
      options,
      say: options.say,
      async start(contender) {
        const server = await contender.start(options);
        servers.push(server);
        return server;
      },
      audience(lowly = false) {
        const child = spawnLoad('listeners.ts');
        if (lowly) setPriority(child.pid as number, 10);
        return createAudience(child, options.say);
      },
      async publish(publishing) {
        const child = spawnLoad('publisher.ts');
        const result = await ask<PublishResult>(
          child,
          { kind: 'publish', options: publishing },
          publishing.timeoutMs + GRACE_MS,
        );
        await end(child, 'SIGKILL');
        if (result.refused > 0) throw new Error(`${result.refused} posts were refused: ${result.reason}`);
        if (result.answered < publishing.events) {
          throw new Error(`only ${result.answered} of ${publishing.events} events were taken in time`);
        }
        return result;
      },
      keepPublishing(publishing) {
        const child = spawnLoad('publisher.ts');
        child.send({ id: 0, kind: 'publish', options: publishing } satisfies Request);
        return () => end(child, 'SIGKILL');
      },
    });
  } finally {
    await Promise.all(load.map((child) => end(child, 'SIGKILL')));
    await Promise.all(servers.map((server) => server.stop()));
  }
}

function createAudience(child: ChildProcess, say: (text: string) => void): Audience {
  return {
    async connect(options) {
      say(`${options.connections} connections …`);
      const connecting = { kind: 'connect', options: { ...options, timeoutMs: CONNECT_MS } } as const;
      const connected = await ask<Connected>(child, connecting, CONNECT_MS + GRACE_MS);
      if (connected.ready < options.connections) {
        const reason = connected.reason ?? 'they took too long';
        throw new Error(`only ${connected.ready} of ${options.connections} listeners connected: ${reason}`);
      }
      return connected;
    },
    signal(options) {
      const send = (order: SignalOptions | null): void =>
        void child.send({ id: 0, kind: 'signal', options: order } satisfies Request);
      send(options);
      return () => send(null);
    },
    count(options) {
      let isSettled = false;
      const stop = (): void => void child.send({ id: 0, kind: 'stop' } satisfies Request);
      let seen = -1;
      let seenAt = 0;
      const result = ask<Counted>(child, { kind: 'count', options }, options.timeoutMs + GRACE_MS, (deliveries) => {
        if (Number.isFinite(options.deliveries)) say(`${deliveries} of ${options.deliveries} deliveries`);
        if (deliveries !== seen) seenAt = performance.now();
        else if (isSettled && performance.now() - seenAt > QUIET_MS) stop();
        seen = deliveries;
      });
      return {
        result,
        stop,
        settle() {
          isSettled = true;
          seenAt = performance.now();
        },
      };
    },
  };
}

let nextId = 1;

/** One request and its answer; never waits longer than the time given. */
function ask<T>(
  child: ChildProcess,
  order: Order,
  timeoutMs: number,
  progress?: (deliveries: number) => void,
): Promise<T> {
  const id = nextId++;
  return new Promise((resolve, reject) => {
    const timeout = setTimeout(() => done(() => reject(new Error('the load did not answer in time'))), timeoutMs);
    const done = (settle: () => void): void => {
      clearTimeout(timeout);
      child.off('message', onMessage);
      child.off('exit', onExit);
      settle();
    };
    const onExit = (): void => done(() => reject(new Error('a load process ended')));
    const onMessage = (reply: Reply): void => {
      if (reply.kind === 'progress') progress?.(reply.deliveries);
      else if (reply.id !== id) return;
      else if (reply.kind === 'failed') done(() => reject(new Error(reply.message)));
      else done(() => resolve(reply.value as T));
    };
    child.on('message', onMessage);
    child.on('exit', onExit);
    child.send({ id, ...order } satisfies Request);
  });
}
