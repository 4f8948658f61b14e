/**
 * The bridge, in a process of its own, so that the demo can kill it. It tells its address to the demo, and ends with it.
 * The log is in a file (`STORE_URL`): what it held before it was killed is there when it starts again.
 */
import { createBridge } from '../../../../src/bridge.ts';

const { PORT, STORE_URL = 'sqlite::memory:' } = process.env;

const bridge = await createBridge({
  port: Number(PORT),
  storeUrl: STORE_URL,
  signals: ['tickets.viewing', 'tickets.typing', 'agents.online'],
  // Pages of this machine may listen without `corsOrigins`. Your front end's origin goes there.
  logLevel: 'warn',
});
const { port } = await bridge.listen();
process.send?.(port);

async function stop(): Promise<void> {
  await bridge.close();
  process.exit();
}
process.once('disconnect', stop); // the demo has ended, however that was
process.once('SIGTERM', stop);
process.on('SIGINT', () => {}); // Ctrl+C goes to both processes: the demo ends this one
