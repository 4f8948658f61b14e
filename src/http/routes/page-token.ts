/**
 * The token of the next page of a list: the cursor of the first page, and the store's position, sealed.
 *
 * A page may end at an item that the caller may not read (store/page.ts), so the position must tell nothing
 * (protocol §7). A key of the log seals it, so every node opens it, also after a restart. A token opens only for the
 * list that it continues.
 */
import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto';
import { type Cursor, parseCursor } from '../../contract/cursor.ts';
import { invalidPage, type Secrets } from '../../store/store.ts';

export interface PageTokens {
  /** @throws {BridgeError} `unavailable` */
  seal(list: string, cursor: Cursor, position: string): Promise<string>;
  /** @throws {BridgeError} `invalid_request` for a token that this list did not issue, `unavailable` */
  open(list: string, token: string): Promise<readonly [cursor: Cursor, position: string]>;
}

const CIPHER = 'aes-256-gcm';
const IV_BYTES = 12;
const TAG_BYTES = 16;
/** A token that another key sealed makes this node read the log's key again, at most once per gap. */
const KEY_GAP_MS = 1_000;

interface Key {
  readonly bytes: Buffer;
  readonly readAtMs: number;
}

export function createPageTokens(store: Secrets): PageTokens {
  let key: Key | null = null;
  /** Of the log that the key belongs to. A log that was flushed and created anew has another key. */
  let epoch: string | null = null;

  async function readKey(): Promise<Key> {
    const secret = await store.secret('page');
    key = { bytes: Buffer.from(hkdfSync('sha256', secret, '', 'page', 32)), readAtMs: performance.now() };
    return key;
  }

  return {
    async seal(list, cursor, position) {
      const current = parseCursor(cursor)?.epoch ?? null;
      const { bytes } = key === null || current !== epoch ? await readKey() : key;
      epoch = current;
      const iv = randomBytes(IV_BYTES);
      const cipher = createCipheriv(CIPHER, bytes, iv).setAAD(Buffer.from(`${list} ${cursor}`));
      const sealed = Buffer.concat([iv, cipher.update(position), cipher.final(), cipher.getAuthTag()]);
      return `${cursor}.${sealed.toString('base64url')}`;
    },
    async open(list, token) {
      const dot = token.indexOf('.');
      const cursor = token.slice(0, dot);
      const sealed = Buffer.from(token.slice(dot + 1), 'base64url');
      if (dot === -1 || parseCursor(cursor) === null || sealed.length <= IV_BYTES + TAG_BYTES) throw invalidPage();
      const used = key ?? (await readKey());
      let position = unseal(used.bytes, `${list} ${cursor}`, sealed);
      if (position === null && performance.now() - used.readAtMs >= KEY_GAP_MS) {
        position = unseal((await readKey()).bytes, `${list} ${cursor}`, sealed);
      }
      if (position === null) throw invalidPage();
      return [cursor as Cursor, position];
    },
  };
}

/** Null if the key or the list is another one, or the text was changed. */
function unseal(key: Buffer, bound: string, sealed: Buffer): string | null {
  const iv = sealed.subarray(0, IV_BYTES);
  const decipher = createDecipheriv(CIPHER, key, iv, { authTagLength: TAG_BYTES })
    .setAAD(Buffer.from(bound))
    .setAuthTag(sealed.subarray(-TAG_BYTES));
  try {
    return decipher.update(sealed.subarray(IV_BYTES, -TAG_BYTES), undefined, 'utf8') + decipher.final('utf8');
  } catch {
    return null;
  }
}
