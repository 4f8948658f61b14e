/** Loaded into a server under test: says over IPC how long the longest turn of its event loop was since it was last asked. */
import { monitorEventLoopDelay } from 'node:perf_hooks';

/** The delay between two ticks of a timer is recorded, so a turn reads up to this much longer than it was. */
const RESOLUTION_MS = 1;

const turns = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
turns.enable();
process.on('message', (message) => {
  if (message !== 'longest turn') return;
  process.send?.({ longestTurnMs: turns.max / 1e6 });
  turns.reset();
});
process.channel?.unref();
