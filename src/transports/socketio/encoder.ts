/**
 * Encodes records as Socket.IO packets: once per batch and view, shared by all connections with that view (design
 * law 6).
 *
 * Every packet ends in a cursor or an object, because a stock client takes any trailing string for the offset from which
 * it wants to be recovered (protocol §5).
 */
import { type Batch, encodeRecord } from '../../bus/batch.ts';
import type { Mode } from '../../bus/subscription.ts';
import { framesOf, type View } from '../../contract/frames.ts';
import { type Signal, signalPayload } from '../../contract/signals.ts';
import type { Metrics } from '../../metrics/metrics.ts';
import { createDeliveryCounter } from '../delivery-counter.ts';
import { createSignalEncoder } from '../signals.ts';

/** A Socket.IO EVENT packet, without Engine.IO's packet type: `2["name",{…},"cursor"]`. */
export type PacketText = string;

/** The packets of a batch: as texts for any transport, and as the bytes of their websocket messages. */
export interface PreparedPackets {
  readonly texts: readonly PacketText[];
  readonly websocketBytes: Buffer;
}

export type Encoder = Readonly<ReturnType<typeof createEncoder>>;

/** @param cursors whether the client gets cursors; without them it cannot be recovered */
export function createEncoder(view: View, cursors: boolean, metrics: Metrics) {
  const key = `io:${view.key}:${cursors}`;
  const replayKey = `${key}:replay`;
  return {
    cursors,
    key,
    replayKey,
    encode: (batch: Batch) => prepare(packetsOf(batch, key, view, cursors, 'live')),
    encodeReplay: (batch: Batch) => prepare(packetsOf(batch, replayKey, view, cursors, 'replay')),
    countDelivery: {
      websocket: createDeliveryCounter(metrics, 'websocket', view),
      polling: createDeliveryCounter(metrics, 'polling', view),
    },
  };
}

function packetsOf(batch: Batch, key: string, view: View, cursors: boolean, mode: Mode): PacketText[] {
  const flag = mode === 'replay' ? ',{"replay":true}' : '';
  return batch.records.flatMap((record) =>
    encodeRecord(record, key, () =>
      framesOf(record, view).map(({ event, payload, cursor }): PacketText => {
        const trailing = cursor === null || !cursors ? '' : `,"${cursor}"${flag}`;
        return `2[${JSON.stringify(event)},${payload}${trailing}]`;
      }),
    ),
  );
}

export const encodeSignals = createSignalEncoder(
  (signal: Signal) => prepare([`2[${JSON.stringify(signal.event)},${signalPayload(signal)}]`]),
  (encodings): PreparedPackets => ({
    texts: encodings.flatMap(({ texts }) => texts),
    websocketBytes: Buffer.concat(encodings.map(({ websocketBytes }) => websocketBytes)),
  }),
);

function prepare(texts: readonly PacketText[]): PreparedPackets {
  // Engine.IO's packet type `4` is a message.
  const messages = texts.map((text) => websocketMessage(`4${text}`));
  return { texts, websocketBytes: messages.length === 1 ? (messages[0] as Buffer) : Buffer.concat(messages) };
}

/** A websocket text message from a server: one unmasked frame (RFC 6455 §5.2). */
export function websocketMessage(text: string): Buffer {
  const length = Buffer.byteLength(text);
  const headerBytes = length < 126 ? 2 : length < 65_536 ? 4 : 10;
  const message = Buffer.allocUnsafe(headerBytes + length);
  message[0] = 0x81;
  message[1] = headerBytes === 2 ? length : headerBytes === 4 ? 126 : 127;
  if (headerBytes === 4) message.writeUInt16BE(length, 2);
  else if (headerBytes === 10) message.writeBigUInt64BE(BigInt(length), 2);
  message.write(text, headerBytes);
  return message;
}
