/** A TCP relay in front of a bridge whose connections a test can cut, as a network would, or let hang. */
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

export interface CutProxy {
  readonly url: string;
  /** Points new connections elsewhere (a server that came back on another port). */
  retarget(url: string): void;
  /** Destroys every connection that is open now. */
  cut(): void;
  /** The next connection is cut after this many bytes of its answer. */
  cutNext(afterBytes: number): void;
  /** Whether a connection was cut for each `cutNext`. */
  readonly hasCut: boolean;
  /** Takes no new connections, and cuts those there are, until `restore`. */
  refuse(): void;
  /** Until `flow`, nothing passes either way: for the server, its open connections take nothing. New ones wait. */
  stall(): void;
  flow(): void;
  /** From now on, what the server sends on the open connections is lost. */
  loseDownstream(): void;
  /** The client's side is cut, while the server is left to believe that its connection lives. */
  cutClientSide(): void;
  restore(): void;
  close(): Promise<void>;
}

export async function startCutProxy(targetUrl: string): Promise<CutProxy> {
  let target = new URL(targetUrl);
  let refusing = false;
  /** The bytes after which the next connection is cut; null: it is not. */
  let nextCut: number | null = null;
  /** Connections that came while nothing passes; null while everything passes. */
  let waiting: Socket[] | null = null;
  const pairs = new Set<{ readonly client: Socket; readonly upstream: Socket }>();
  const orphans = new Set<Socket>();
  const server = createServer((client) => {
    client.on('error', () => client.destroy());
    if (refusing) client.destroy();
    else if (waiting !== null) waiting.push(client);
    else relay(client);
  });
  function relay(client: Socket): void {
    const upstream = connect(Number(target.port), target.hostname);
    const pair = { client, upstream };
    pairs.add(pair);
    client.pipe(upstream);
    if (nextCut === null) upstream.pipe(client);
    else {
      let left = nextCut;
      nextCut = null;
      upstream.on('data', (bytes: Buffer) => {
        client.write(bytes.subarray(0, left));
        left -= bytes.length;
        if (left <= 0) client.destroySoon();
      });
    }
    const end = (): void => {
      // A client that gives up while nothing passes cannot tell the server.
      if (waiting !== null || !pairs.delete(pair)) return;
      client.destroy();
      upstream.destroy();
    };
    for (const socket of [client, upstream]) socket.on('error', end).on('close', end);
  }
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;

  const cut = (): void => {
    for (const client of waiting?.splice(0) ?? []) client.destroy();
    for (const { client, upstream } of [...pairs]) {
      client.destroy();
      upstream.destroy();
    }
    pairs.clear();
  };
  return {
    url: `http://127.0.0.1:${port}`,
    retarget(url) {
      target = new URL(url);
    },
    cut,
    cutNext(afterBytes) {
      nextCut = afterBytes;
    },
    get hasCut() {
      return nextCut === null;
    },
    refuse() {
      refusing = true;
      cut();
    },
    stall() {
      waiting ??= [];
      for (const { client, upstream } of pairs) {
        client.unpipe(upstream);
        upstream.unpipe(client);
      }
    },
    flow() {
      const waited = waiting ?? [];
      waiting = null;
      for (const pair of pairs) {
        const { client, upstream } = pair;
        if (!client.destroyed && !upstream.destroyed) client.pipe(upstream).pipe(client);
        else {
          pairs.delete(pair);
          client.destroy();
          upstream.destroy();
        }
      }
      for (const client of waited) if (!client.destroyed) relay(client);
    },
    loseDownstream() {
      for (const { client, upstream } of pairs) {
        upstream.unpipe(client);
        upstream.resume();
      }
    },
    cutClientSide() {
      for (const { client, upstream } of pairs) {
        client.unpipe(upstream);
        upstream.unpipe(client);
        client.destroy();
        orphans.add(upstream);
        upstream.resume();
      }
      pairs.clear();
    },
    restore() {
      refusing = false;
    },
    async close() {
      cut();
      for (const orphan of orphans) orphan.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
