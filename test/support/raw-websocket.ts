/** A websocket as it stands on the wire: any frame can be sent, nothing is answered, and reading can stop. */
import { once } from 'node:events';
import { connect } from 'node:net';

export interface RawWebSocket {
  /** The status of the answer to the upgrade; 101 if the websocket is open. */
  readonly status: number;
  /** The answer's head and all that came after it. */
  text(): string;
  readonly receivedBytes: number;
  readonly closed: boolean;
  /** What was written and not taken by the server, nor by the buffers of the kernel. */
  readonly unsentBytes: number;
  send(text: string): void;
  write(bytes: Buffer): Promise<void>;
  pause(): void;
  resume(): void;
  destroy(): void;
}

/** A client's frame (RFC 6455 §5.2), with a mask of zeros. */
export function frame(opcode: number, payload: Buffer | string): Buffer {
  const bytes = Buffer.from(payload);
  if (bytes.length > 125) throw new Error('too long for a short frame');
  return Buffer.concat([Buffer.from([0x80 | opcode, 0x80 | bytes.length, 0, 0, 0, 0]), bytes]);
}
export const TEXT = 1;
export const PING = 9;

/** @param query of the Engine.IO handshake; the server's answer is awaited, whatever it is */
export async function openRawWebSocket(url: string, query = 'EIO=4&transport=websocket', ...headers: string[]) {
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  let text = '';
  let receivedBytes = 0;
  let closed = false;
  socket.on('error', () => {});
  socket.on('close', () => {
    closed = true;
  });
  socket.on('data', (chunk: Buffer) => {
    receivedBytes += chunk.length;
    text = (text + chunk.toString('latin1')).slice(-100_000);
  });
  const upgrade = ['Host: localhost', 'Upgrade: websocket', 'Connection: Upgrade', 'Sec-WebSocket-Version: 13'];
  const key = headers.some((header) => header.startsWith('Sec-WebSocket-Key'))
    ? []
    : ['Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=='];
  socket.write([`GET /socket.io/?${query} HTTP/1.1`, ...upgrade, ...key, ...headers, '', ''].join('\r\n'));
  while (!text.includes('\r\n\r\n') && !closed) await Promise.race([once(socket, 'data'), once(socket, 'close')]);
  const raw: RawWebSocket = {
    status: Number(/^HTTP\/1\.1 (\d+)/.exec(text)?.[1] ?? 0),
    text: () => text,
    get receivedBytes() {
      return receivedBytes;
    },
    get closed() {
      return closed;
    },
    get unsentBytes() {
      return socket.writableLength;
    },
    send: (message) => void socket.write(frame(TEXT, message)),
    write: (bytes) => new Promise((resolve) => void socket.write(bytes, () => resolve())),
    pause: () => void socket.pause(),
    resume: () => void socket.resume(),
    destroy: () => void socket.destroy(),
  };
  return raw;
}
