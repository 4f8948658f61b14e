/** Plain Socket.IO as its guide has it: `io.to(room).emit`, the default adapter, the default options. */
import { Server } from 'socket.io';
import { announce, createHttpServer, readEnvelope } from './serve.ts';

const server = createHttpServer((request, response) => {
  if (request.method !== 'POST') return void response.writeHead(404).end();
  readEnvelope(request).then(
    ({ event, payload }) => {
      io.to(`tenant:${payload.tenantId}`).emit(event, payload);
      response.writeHead(201, { 'Content-Type': 'application/json' }).end('{"ok":true}');
    },
    () => response.writeHead(400).end(),
  );
});
const io = new Server(server);
io.on('connection', (socket) => {
  socket.on('join-tenant', (tenantId: string, ack?: (answer: object) => void) => {
    void socket.join(`tenant:${tenantId}`);
    ack?.({ ok: true });
  });
});
announce(server);
