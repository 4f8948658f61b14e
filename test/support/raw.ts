/** HTTP as it stands on the wire: a TCP connection, the exact bytes that came, and the responses that they make up. */
import { connect } from 'node:net';

export interface RawConnection {
  /** Everything that came so far. */
  bytes(): Buffer;
  /** The responses so far, whole or not, in order. HEAD answers are to be parsed with `bodiless`. */
  responses(bodiless?: boolean): RawResponse[];
  readonly closed: boolean;
  send(text: string): void;
  pause(): void;
  resume(): void;
  destroy(): void;
}

export interface RawResponse {
  readonly version: string;
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  /** Whether the body has ended by its framing (not by the connection's end). */
  readonly ended: boolean;
}

export function openRaw(url: string): RawConnection {
  const chunks: Buffer[] = [];
  let closed = false;
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  socket.on('error', () => {});
  socket.on('close', () => {
    closed = true;
  });
  const bytes = (): Buffer => {
    const [first = Buffer.alloc(0)] = chunks;
    if (chunks.length <= 1) return first;
    const all = Buffer.concat(chunks);
    chunks.splice(0, chunks.length, all);
    return all;
  };
  return {
    bytes,
    responses: (bodiless = false) => parseResponses(bytes(), bodiless),
    get closed() {
      return closed;
    },
    send: (text) => void socket.write(text),
    pause: () => void socket.pause(),
    resume: () => void socket.resume(),
    destroy: () => void socket.destroy(),
  };
}

/** A GET over HTTP/1.1, with further header lines. */
export function get(path: string, ...headers: string[]): string {
  return `${[`GET ${path} HTTP/1.1`, 'Host: localhost', ...headers].join('\r\n')}\r\n\r\n`;
}

function parseResponses(bytes: Buffer, bodiless: boolean): RawResponse[] {
  const responses: RawResponse[] = [];
  let at = 0;
  while (at < bytes.length) {
    const end = bytes.indexOf('\r\n\r\n', at);
    if (end === -1) break;
    const [statusLine = '', ...lines] = bytes.subarray(at, end).toString('latin1').split('\r\n');
    const match = /^HTTP\/(\d\.\d) (\d{3}) /.exec(statusLine);
    if (match === null) throw new Error(`no status line but: ${JSON.stringify(statusLine.slice(0, 200))}`);
    const headers = Object.fromEntries(
      lines.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 1).trim()]),
    );
    const status = Number(match[2]);
    const body =
      bodiless || status === 304
        ? { bytes: Buffer.alloc(0), next: end + 4, ended: true }
        : headers['transfer-encoding'] === 'chunked'
          ? dechunk(bytes, end + 4)
          : delimited(bytes, end + 4, headers['content-length']);
    responses.push({
      version: match[1] as string,
      status,
      headers,
      body: body.bytes.toString('utf8'),
      ended: body.ended,
    });
    at = body.next;
  }
  return responses;
}

function delimited(bytes: Buffer, at: number, length: string | undefined) {
  const end = length === undefined ? bytes.length : Math.min(bytes.length, at + Number(length));
  return { bytes: bytes.subarray(at, end), next: end, ended: length !== undefined && end === at + Number(length) };
}

function dechunk(bytes: Buffer, start: number) {
  const parts: Buffer[] = [];
  let at = start;
  for (;;) {
    const line = bytes.indexOf('\r\n', at);
    if (line === -1) break;
    const head = bytes.subarray(at, line).toString('latin1');
    if (!/^[0-9a-f]+$/i.test(head)) throw new Error(`no chunk size but: ${JSON.stringify(head.slice(0, 200))}`);
    const size = Number.parseInt(head, 16);
    const next = line + 2 + size + 2;
    if (next > bytes.length) {
      parts.push(bytes.subarray(line + 2, Math.min(bytes.length, line + 2 + size)));
      break;
    }
    if (bytes.subarray(next - 2, next).toString('latin1') !== '\r\n') throw new Error('a chunk has no end');
    if (size === 0) return { bytes: Buffer.concat(parts), next, ended: true };
    parts.push(bytes.subarray(line + 2, line + 2 + size));
    at = next;
  }
  return { bytes: Buffer.concat(parts), next: bytes.length, ended: false };
}
