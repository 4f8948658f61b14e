/** A TCP relay between one party and a server, whose network can be made as bad as a scenario wants it. */
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

export interface Relay {
  readonly port: number;
  readonly url: string;
  /** Where new connections go. */
  target: { readonly host: string; readonly port: number };
  /** Connections made since the start. */
  readonly connections: number;
  /** Whether it ever held bytes back: what came through it may have come late. */
  readonly hasDelayed: boolean;
  /** Resets every connection that is open now. */
  cut(): void;
  /** The open connections (and, when there are none, the next one) are cut once `bytes` more came from the server. */
  cutAfter(bytes: number): void;
  /** The next connection is cut once it has brought `bytes` from the server. */
  cutNextAfter(bytes: number): void;
  /** The client's side is reset while the server is left to believe that its connection lives. */
  orphan(): void;
  /** Nothing passes in either direction, and nobody is told: a half-open connection. Also for new connections. */
  freeze(): void;
  /** The server's bytes are no longer taken; its buffers fill up. Also for new connections. */
  stopReading(): void;
  /** Only so many bytes a second are taken from the server. */
  throttle(bytesPerSecond: number): void;
  /** Refuses new connections, cuts those there are. */
  refuse(): void;
  /** Ends `freeze`, `stopReading`, `throttle` and `refuse`. */
  restore(): void;
  close(): Promise<void>;
}

interface Pair {
  readonly client: Socket;
  readonly upstream: Socket;
  budget: number;
}

const TICK_MS = 100;

export async function startRelay(target: { readonly host: string; readonly port: number }): Promise<Relay> {
  const pairs = new Set<Pair>();
  const orphans = new Set<Socket>();
  let mode: 'pass' | 'frozen' | 'stopped' | 'refusing' | 'slow' = 'pass';
  let bytesPerSecond = 0;
  let pendingBudget = Number.POSITIVE_INFINITY;
  let connections = 0;
  let hasDelayed = false;

  const end = (pair: Pair): void => {
    if (!pairs.delete(pair)) return;
    pair.client.resetAndDestroy();
    pair.upstream.resetAndDestroy();
  };
  const forward = (pair: Pair, chunk: Buffer): void => {
    if (chunk.length < pair.budget) {
      pair.budget -= chunk.length;
      if (!pair.client.write(chunk)) pair.upstream.pause();
      return;
    }
    // What was allowed still arrives: an orderly end of the write, then the reset.
    const rest = chunk.subarray(0, pair.budget);
    pairs.delete(pair);
    pair.upstream.resetAndDestroy();
    pair.client.end(rest);
    pair.client.resume();
  };
  const settle = ({ client, upstream }: Pair): void => {
    if (mode === 'frozen') client.pause();
    else client.resume();
    if (mode === 'pass') upstream.resume();
    else upstream.pause();
  };
  const slow = setInterval(() => {
    if (mode !== 'slow') return;
    for (const pair of [...pairs]) {
      const most = Math.max(1, Math.floor((bytesPerSecond * TICK_MS) / 1000));
      if (bytesPerSecond * (TICK_MS / 1000) < 1 && Math.random() > (bytesPerSecond * TICK_MS) / 1000) continue;
      // What is read is also emitted as data.
      pair.upstream.read(Math.min(most, pair.upstream.readableLength));
    }
  }, TICK_MS);

  const server = createServer({ noDelay: true }, (client) => {
    if (mode === 'refusing') {
      client.resetAndDestroy();
      return;
    }
    connections++;
    const upstream = connect({ ...relay.target, noDelay: true });
    const pair: Pair = { client, upstream, budget: pendingBudget };
    pendingBudget = Number.POSITIVE_INFINITY;
    pairs.add(pair);
    client.on('data', (chunk) => {
      if (!upstream.write(chunk)) client.pause();
    });
    upstream.on('drain', () => settle(pair));
    client.on('drain', () => settle(pair));
    upstream.on('data', (chunk) => forward(pair, chunk));
    client.on('end', () => upstream.end());
    upstream.on('end', () => {
      if (pairs.has(pair)) client.end();
    });
    for (const socket of [client, upstream]) {
      socket.on('error', () => {}); // the close follows
      socket.on('close', (hadError) => {
        if (hadError || (client.destroyed && upstream.destroyed)) end(pair);
        else if (socket === upstream && mode !== 'frozen') client.end();
        else if (socket === client && pairs.delete(pair)) upstream.destroy();
      });
    }
    settle(pair);
  });
  server.on('error', () => {}); // the clients' connections fail, which they are made for
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', 4096, resolve));
  const { port } = server.address() as AddressInfo;

  const turn = (to: typeof mode): void => {
    mode = to;
    if (to !== 'pass') hasDelayed = true;
    for (const pair of pairs) settle(pair);
  };
  const relay: Relay = {
    port,
    url: `http://127.0.0.1:${port}`,
    target,
    get connections() {
      return connections;
    },
    get hasDelayed() {
      return hasDelayed;
    },
    cut() {
      for (const pair of [...pairs]) end(pair);
    },
    cutAfter(bytes) {
      for (const pair of pairs) pair.budget = bytes;
      if (pairs.size === 0) pendingBudget = bytes;
    },
    cutNextAfter(bytes) {
      pendingBudget = bytes;
    },
    orphan() {
      for (const pair of [...pairs]) {
        pairs.delete(pair);
        pair.client.resetAndDestroy();
        pair.upstream.removeAllListeners('data');
        pair.upstream.removeAllListeners('close');
        pair.upstream.resume();
        orphans.add(pair.upstream);
      }
    },
    freeze: () => turn('frozen'),
    stopReading: () => turn('stopped'),
    throttle(rate) {
      bytesPerSecond = rate;
      turn('slow');
    },
    refuse() {
      mode = 'refusing';
      relay.cut();
    },
    restore: () => turn('pass'),
    async close() {
      clearInterval(slow);
      for (const pair of [...pairs]) end(pair);
      for (const orphan of orphans) orphan.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return relay;
}
