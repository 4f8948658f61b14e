// realtime.js: the only file that emits
import { Server } from 'socket.io';
import { userOf } from './users.js';

const KINDS = ['tenant', 'ticket', 'agreement', 'user', 'queue'];
let io;

export function startRealtime(httpServer) {
  io = new Server(httpServer);
  io.use((socket, next) => userOf(socket.handshake.auth.token).then(() => next(), next));
  io.on('connection', (socket) => {
    for (const kind of KINDS) {
      socket.on(`join-${kind}`, (id, ack) => {
        socket.join(`${kind}:${id}`);
        ack?.({ ok: true });
      });
      socket.on(`leave-${kind}`, (id) => socket.leave(`${kind}:${id}`));
    }
    socket.on('ticket:typing', (payload) => emitToTicket(payload.ticketId, 'ticket:typing', payload));
  });
}

export const emitToRoom = (room, event, payload) => io.to(room).emit(event, payload);
export const emitToTenant = (tenantId, event, payload) => emitToRoom(`tenant:${tenantId}`, event, payload);
export const emitToTicket = (ticketId, event, payload) => emitToRoom(`ticket:${ticketId}`, event, payload);
export const emitToAgreement = (agreementId, event, payload) => emitToRoom(`agreement:${agreementId}`, event, payload);
export const emitToUser = (userId, event, payload) => emitToRoom(`user:${userId}`, event, payload);

export const stopRealtime = () => io.close();
