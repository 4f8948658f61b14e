/**
 * The limit of the socket: SSE on bare node:net, no HTTP library, no log, no parsing of what is published; the frame is
 * one Buffer that all connections share, written once per event and connection as soon as it is published.
 */
import { createServer, type Socket } from 'node:net';
import { announce } from './serve.ts';

const rooms = new Map<string, Set<Socket>>();
const OPENED = 'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-store\r\n\r\n';
const CREATED = 'HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}';
let sequence = 0;

function publish(room: string, payload: string): void {
  sequence++;
  const frame = Buffer.from(`event: tickets.updated\nid: ${sequence}\ndata: ${payload}\n\n`);
  for (const socket of rooms.get(room) ?? []) socket.write(frame);
}

function listen(room: string, socket: Socket): void {
  const sockets = rooms.get(room) ?? new Set();
  rooms.set(room, sockets.add(socket));
  socket.on('close', () => sockets.delete(socket));
  socket.write(OPENED);
}

const server = createServer({ noDelay: true }, (socket) => {
  let pending = Buffer.alloc(0);
  socket.on('error', () => socket.destroy());
  socket.on('data', (chunk) => {
    pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk]);
    for (;;) {
      const headEnd = pending.indexOf('\r\n\r\n');
      if (headEnd === -1) return;
      const head = pending.toString('latin1', 0, headEnd);
      const room = /tenantId=([^& ]+)/.exec(head)?.[1] ?? '';
      const bodyAt = headEnd + 4;
      const end = bodyAt + Number(/content-length: *(\d+)/i.exec(head)?.[1] ?? 0);
      if (pending.length < end) return;
      if (head.startsWith('GET')) listen(room, socket);
      else {
        publish(room, pending.toString('utf8', bodyAt, end));
        socket.write(CREATED);
      }
      pending = end === pending.length ? Buffer.alloc(0) : pending.subarray(end);
    }
  });
});
announce(server);
