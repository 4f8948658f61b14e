/**
 * The metrics of the bridge (protocol §12), as the bus and the transports see them. prometheus.ts exposes them.
 */
import type { TransportName } from '../contract/names.ts';
import type { Room, RoomKind } from '../contract/rooms.ts';

export type PublishResult = 'accepted' | 'duplicate' | 'rejected' | 'failed';

export interface Metrics {
  /** An accepted publish: one increment per emitted name and room. */
  emitted(names: readonly string[], rooms: readonly Room[], tenantId: string): void;
  /** An accepted signal: one increment of the room `{kind}:*` (protocol §14). */
  signalled(event: string, kind: RoomKind): void;
  /** Signals that were not sent: to slow clients of a transport, to other `nodes`, or to anybody (`all`). */
  signalsDropped(to: TransportName | 'nodes' | 'all', count: number): void;
  /** The `erasureKey` of what was erased, null for anything: its rooms count under `{kind}:*` from now on. */
  erased(key: string | null): void;
  /** `event` is null for a name that may not be published, so that labels stay bounded. */
  published(event: string | null, result: PublishResult, count: number): void;
  publishDuration(seconds: number): void;
  connected(transport: TransportName, change: 1 | -1): void;
  delivered(transport: TransportName, event: string, count: number): void;
  /** Seconds from publish to write, once per record, commit and transport. */
  deliveryLag(transport: TransportName, seconds: number): void;
  /** Seconds from the acceptance of a record, by any node, to this node's tail. Once per commit. */
  tailLag(seconds: number): void;
  replayed(transport: TransportName, records: number): void;
  reset(transport: TransportName, reason: 'expired' | 'unknown'): void;
  /** `http`: an answer that is neither a stream nor a poll of Socket.IO. */
  slowConsumer(transport: TransportName | 'http'): void;
  refused(code: string): void;
}
