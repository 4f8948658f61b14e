/** Ports for programs that cannot choose one by themselves. */
import { once } from 'node:events';
import { createServer } from 'node:net';

/**
 * A port that is free now. The kernel gives port 0 and outgoing connections ports from 32768 on (49152 on macOS), so
 * nothing takes this one before its program does, or while that program restarts.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 22_000);
    const server = createServer().listen(port, '127.0.0.1');
    const isFree = await once(server, 'listening').then(
      () => true,
      () => false,
    );
    if (!isFree) continue;
    server.close();
    await once(server, 'close');
    return port;
  }
}
