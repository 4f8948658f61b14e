/**
 * Web Locks: what the tabs of one origin use to agree without speaking. A tab that is closed or crashes releases its locks.
 * They exist in secure contexts (https, localhost), and in Node from 24 on, where each thread has its own.
 */

/** The part of the Web Locks API that is used. */
export interface LockManager {
  request(
    name: string,
    options: { readonly signal?: AbortSignal; readonly steal?: true; readonly ifAvailable?: true },
    hold: (lock: object | null) => Promise<void> | void,
  ): Promise<void>;
}

/** Null where there are none. */
export const lockManager = (): LockManager | null =>
  (globalThis as { readonly navigator?: { readonly locks?: LockManager } }).navigator?.locks ?? null;

/** Resolves when the signal aborts. */
export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    signal.addEventListener('abort', () => resolve());
    if (signal.aborted) resolve();
  });
}
