/**
 * The emits that wait for the end of the tick. Their emitter adds them; the publisher sends them at once before it flushes
 * or closes.
 */

/** Of each publisher, functions that send what its emitters hold. */
const pending = /* @__PURE__ */ new WeakMap<object, Set<() => void>>();

export function pendingEmitsOf(target: object): Set<() => void> {
  const sends = pending.get(target) ?? new Set();
  pending.set(target, sends);
  return sends;
}

export function sendPendingEmits(target: object): void {
  for (const send of pending.get(target) ?? []) send();
}
