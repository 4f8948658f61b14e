/**
 * The bytes of the file, beside SQLite and in its documented format (https://sqlite.org/fileformat2.html), for two things
 * that SQLite does not do: tell that the file is incomplete without its write-ahead log, and clear what rows leave behind
 * inside of pages.
 *
 * Both change only bytes that SQLite does not use, so a torn write or a concurrent reader sees a valid page either way.
 * Only the writer thread may have the file open, and until all its connections are closed: closing any handle of a file
 * drops the locks that the process holds on it (fcntl).
 */
import { closeSync, fdatasync, fdatasyncSync, fstatSync, openSync, read, readSync, writeSync } from 'node:fs';
import { promisify } from 'node:util';

const readAsync = promisify(read);
const syncAsync = promisify(fdatasync);

/** "RCST": marks the file as a log of Roomcast. */
export const APPLICATION_ID = 0x52435354;
/** "RCSW": the same, of a file whose newest records are in its write-ahead log. SQLite itself never reads this id. */
export const INCOMPLETE_ID = 0x52435357;
const APPLICATION_ID_AT = 68;

/** The types of b-tree pages. Any other page begins with 0, as long as the file has no page 2^25. */
const BTREE_TYPES = [2, 5, 10, 13];
export const MAX_PAGES = 2 ** 25 - 1;
/** Pages of one read: 1 MiB. */
const CHUNK = 256;

export type RawFile = ReturnType<typeof openRawFile>;

export function openRawFile(path: string, pageSize: number) {
  const fd = openSync(path, 'r+');
  const id = Buffer.alloc(4);
  const page = Buffer.alloc(pageSize);
  const chunk = Buffer.alloc(pageSize * CHUNK);
  const zeros = Buffer.alloc(pageSize);
  let isOpen = true;

  function writeId(value: number): void {
    id.writeUInt32BE(value);
    writeSync(fd, id, 0, 4, APPLICATION_ID_AT);
    // Before any record that depends on it is acknowledged. This happens once in a checkpoint's time.
    fdatasyncSync(fd);
  }

  /** The unallocated bytes between the cell pointers and the cells of a b-tree page; null if they are clear. */
  function staleBytesOf(bytes: Buffer, number: number): readonly [from: number, to: number] | null {
    const header = number === 1 ? 100 : 0;
    const type = bytes[header] as number;
    if (!BTREE_TYPES.includes(type)) return null;
    const pointers = header + (type === 2 || type === 5 ? 12 : 8);
    const from = pointers + 2 * bytes.readUInt16BE(header + 3);
    const to = bytes.readUInt16BE(header + 5);
    if (from >= to || to > bytes.length) return null;
    return bytes.compare(zeros, 0, to - from, from, to) === 0 ? null : [from, to];
  }

  /** Clears what moved rows left behind in a page: SQLite's secure_delete does not know of these copies. */
  function scrub(number: number): void {
    const at = (number - 1) * pageSize;
    if (readSync(fd, page, 0, pageSize, at) < pageSize) return;
    const stale = staleBytesOf(page, number);
    if (stale !== null) writeSync(fd, zeros, 0, stale[1] - stale[0], at + stale[0]);
  }

  return {
    /** Whether the file holds every record: since the last checkpoint, `markIncomplete` was not called. */
    isComplete(): boolean {
      readSync(fd, id, 0, 4, APPLICATION_ID_AT);
      return id.readUInt32BE() === APPLICATION_ID;
    },
    /**
     * The write-ahead log MUST hold page 1, with APPLICATION_ID. Then everybody who reads both files sees that id, and
     * only a file without its write-ahead log has the other one. Each checkpoint takes the mark away.
     */
    markIncomplete: () => writeId(INCOMPLETE_ID),
    markComplete: () => writeId(APPLICATION_ID),
    pages: () => Math.ceil(fstatSync(fd).size / pageSize),
    scrub,
    /** Scrubs the pages from `first`. Resolves to the first page after them. The disk is waited for outside of the thread. */
    async scrubFrom(first: number): Promise<number> {
      const { bytesRead } = await readAsync(fd, chunk, 0, chunk.length, (first - 1) * pageSize);
      for (let at = 0; isOpen && at + pageSize <= bytesRead; at += pageSize) {
        const number = first + at / pageSize;
        // Reads it again, because a checkpoint may have written the page meanwhile.
        if (staleBytesOf(chunk.subarray(at, at + pageSize), number) !== null) scrub(number);
      }
      return first + CHUNK;
    },
    sync: () => syncAsync(fd),
    close(): void {
      isOpen = false;
      closeSync(fd);
    },
  };
}
