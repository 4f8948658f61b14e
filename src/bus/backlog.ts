/**
 * What waits for one slow client, so that operators see how far it is behind (protocol §15). A client without unread bytes
 * has none.
 */

/** Bytes up to here hold records, of which the first was accepted at this instant. */
interface Mark {
  endBytes: number;
  readonly acceptedAtMs: number;
}

/** The first distance between two marks. Records in between share the earlier one, so `oldestAtMs` is too early by less. */
const STEP_MS = 100;
/** Past this many marks, two and two become one, and the step doubles, so that memory stays bounded. */
const MAX_MARKS = 64;

export class Backlog {
  /** Bytes written since the backlog began, counted from the first that waited. */
  #writtenBytes: number;
  #marks: Mark[];
  #stepMs = STEP_MS;

  /** @param acceptedAtMs of the oldest record among the `pendingBytes` */
  constructor(pendingBytes: number, acceptedAtMs: number) {
    this.#writtenBytes = pendingBytes;
    this.#marks = [{ endBytes: pendingBytes, acceptedAtMs }];
  }

  /** Records were written; pending bytes before and after that. */
  add(beforeBytes: number, afterBytes: number, acceptedAtMs: number): void {
    this.#drop(beforeBytes);
    this.#writtenBytes += afterBytes - beforeBytes;
    const last = this.#marks.at(-1) as Mark;
    if (acceptedAtMs - last.acceptedAtMs < this.#stepMs) {
      last.endBytes = this.#writtenBytes;
      return;
    }
    this.#marks.push({ endBytes: this.#writtenBytes, acceptedAtMs });
    if (this.#marks.length <= MAX_MARKS) return;
    this.#stepMs *= 2;
    this.#marks = this.#marks.flatMap((mark, index, marks) =>
      index % 2 === 0 ? [{ ...mark, endBytes: (marks[index + 1] ?? mark).endBytes }] : [],
    );
  }

  /** When the oldest record that waits was accepted, at the latest. */
  oldestAtMs(pendingBytes: number): number {
    this.#drop(pendingBytes);
    return (this.#marks[0] as Mark).acceptedAtMs;
  }

  #drop(pendingBytes: number): void {
    const sentBytes = this.#writtenBytes - pendingBytes;
    while (this.#marks.length > 1 && (this.#marks[0] as Mark).endBytes <= sentBytes) this.#marks.shift();
  }
}
