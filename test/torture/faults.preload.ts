/**
 * Loaded into the server's process (`node --import`) by scenarios about time. The file that `TORTURE_CONTROL` names
 * says how far the wall clock is off, and for how long the event loop is to be blocked; it is looked at often.
 */
import { readFileSync } from 'node:fs';
import { isMainThread } from 'node:worker_threads';

const LOOK_MS = 20;
const control = process.env.TORTURE_CONTROL;

if (control !== undefined && isMainThread) {
  const RealDate = Date;
  const realNow = Date.now;
  let offsetMs = 0;
  let blocked = 0;
  Date.now = () => realNow() + offsetMs;
  globalThis.Date = new Proxy(RealDate, {
    construct: (target, args: unknown[]) =>
      Reflect.construct(target, args.length === 0 ? [realNow() + offsetMs] : args) as Date,
    apply: () => new RealDate(realNow() + offsetMs).toString(),
  });
  setInterval(() => {
    let wanted: { offsetMs?: number; blockMs?: number; block?: number };
    try {
      wanted = JSON.parse(readFileSync(control, 'utf8')) as typeof wanted;
    } catch {
      return; // being written
    }
    offsetMs = wanted.offsetMs ?? 0;
    if (wanted.block !== undefined && wanted.block !== blocked) {
      blocked = wanted.block;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, wanted.blockMs ?? 0);
    }
  }, LOOK_MS).unref();
}
