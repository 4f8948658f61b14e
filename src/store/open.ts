/** Opens the log with the engine that `STORE_URL` names (protocol §13). */
import type { Keying } from '../contract/audiences.ts';
import type { RoomKind } from '../contract/rooms.ts';
import type { Logger } from '../logger.ts';
import { openRedisStore } from './redis/store.ts';
import { openSqliteStore } from './sqlite/store.ts';
import type { Store } from './store.ts';

const SQLITE = 'sqlite:';

/** What the operator declares. Default: nothing. */
export interface Declared {
  readonly claimedRoomKinds: readonly RoomKind[];
  readonly extraEvents: readonly string[];
}

/** @throws {Error} of one line if the log cannot be opened */
export function openStore(
  url: string,
  keying: Keying,
  logger: Logger,
  { claimedRoomKinds, extraEvents }: Declared = { claimedRoomKinds: [], extraEvents: [] },
): Promise<Store> {
  return url.startsWith(SQLITE)
    ? openSqliteStore({ file: url.slice(SQLITE.length), keying, extraEvents, logger })
    : openRedisStore({ url, keying, claimedRoomKinds, logger });
}

/** For log lines: removes credentials, which precede the last `@` or, with Sentinels, are in the query. */
export function withoutCredentials(url: string): string {
  return url.startsWith(SQLITE) ? url : url.replace(/\?.*$/, '').replace(/\/\/.*@/, '//***@');
}
