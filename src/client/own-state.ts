/**
 * The state of an application whose own API has it: whether the application must read it, and why. The stream's position
 * is taken first; then the application reads; only then events after that position are delivered. So nothing lies in
 * between, and what the state already has may arrive once more.
 */
import type { Reset } from '../contract/reset.ts';
import type { Room } from '../contract/rooms.ts';
import type { ReadOwnState, StateReason } from './events.ts';
import { RoomcastError } from './http.ts';
import { childOf, pause } from './retry.ts';

/** A function that takes longer has failed. */
const MAX_READ_MS = 60_000;

export interface OwnState {
  /** Why it must be read before events are delivered: there is none yet, or a reset. Null if the application has it. */
  readonly due: 'start' | Reset<string> | null;
  /** The application has it, as of the stream's position. */
  settle(): void;
  /** Events are lost. The stream waits at the reset's cursor until the state was read. */
  lose(reset: Reset<string>): void;
  /** Every room was left. The next one is a new start. */
  forget(): void;
  /** Calls the application once. @throws {RoomcastError} `state`: it failed, took too long, or every room was left */
  read(reason: StateReason, rooms: readonly Room[]): Promise<void>;
}

export function createOwnState(
  call: ReadOwnState,
  signal: AbortSignal,
  lost: () => void,
  maxReadMs = MAX_READ_MS,
): OwnState {
  let due: OwnState['due'] = 'start';
  let wanted = childOf(signal);

  return {
    get due() {
      return due;
    },
    settle() {
      due = null;
    },
    lose(reset) {
      due = reset;
      lost();
    },
    forget() {
      due = 'start';
      wanted.abort();
      wanted = childOf(signal);
    },
    async read(reason, rooms) {
      const reading = childOf(wanted.signal);
      const overdue = pause(maxReadMs, reading.signal).then(() => {
        throw new Error(`It did not resolve within ${maxReadMs} ms.`);
      });
      try {
        await Promise.race([overdue, (async () => call({ reason, rooms, signal: reading.signal }))()]);
      } catch (cause) {
        throw new RoomcastError('state', 'The state function failed, or took too long.', { cause });
      } finally {
        reading.abort();
      }
    },
  };
}
