// socket.io-client 3.0 to 4.5. They have no recovery, so join with `after` at every connect.
import io from 'socket.io-client-3'; // npm install socket.io-client-3@npm:socket.io-client@3.0.0

const socket = io('http://localhost:4003', { auth: { legacy: false } });
let last; // the newest cursor that was handled

socket.on('connect', () => {
  socket.emit('join-tenant', 'tenant-1', last ? { after: last } : {}, (answer) => {
    if (!answer.ok) console.error(answer.code, answer.error);
  });
});
socket.on('messages.new', (payload, cursor) => {
  console.log('messages.new', cursor, payload.messageId);
  last = cursor;
});
socket.on('bridge.reset', ({ reason, cursor }) => {
  console.warn('events are lost, read the state:', reason);
  last = cursor;
});
