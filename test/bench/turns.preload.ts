/**
 * Loaded into a server under test: says over IPC how long the longest turn of its event loop was since it was last asked, in
 * CPU time of its thread, so that other programs on the core do not count.
 */
const TICK_MS = 1;

let longestMs = 0;
let before = process.threadCpuUsage();
// A timer that is due runs once a turn. So between two ticks lies one turn, and less than TICK_MS of others.
const timer = setInterval(() => {
  const { user, system } = process.threadCpuUsage(before);
  before = process.threadCpuUsage();
  longestMs = Math.max(longestMs, (user + system) / 1000);
}, TICK_MS);
timer.unref();

process.on('message', (message) => {
  if (message !== 'longest turn') return;
  process.send?.({ longestTurnMs: longestMs });
  longestMs = 0;
});
process.channel?.unref();
