/**
 * One clock for all processes of a bench: the machine's monotonic clock in microseconds, moved up so that it always has
 * 16 digits and a payload keeps its length. Steps of the wall clock cannot reach it.
 */
const SHIFT_US = 1e15;

export function nowUs(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return SHIFT_US + seconds * 1e6 + Math.round(nanoseconds / 1e3);
}
