import { availableParallelism, loadavg } from 'node:os';

/**
 * Waits for a condition; past the time limit, throws an error that names it. A longer limit than the default is passed
 * explicitly, where the product itself takes longer. A condition throws when it can no longer come true.
 */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  timeoutMs = 10_000,
): Promise<void> {
  const startedMs = performance.now();
  while (!(await condition())) {
    const waitedMs = performance.now() - startedMs;
    if (waitedMs > timeoutMs && waitedMs > timeoutMs * crowding())
      throw new Error(`did not happen within ${Math.round(waitedMs)} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** How many processes there are for each core: where ten share one, all takes ten times as long. */
function crowding(): number {
  return Math.max(1, (loadavg()[0] ?? 0) / availableParallelism());
}
