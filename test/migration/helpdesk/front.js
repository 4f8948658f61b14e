// front.js: the front end, with the stock Socket.IO client. Only `url` differs between the two servers.
import { io } from 'socket.io-client';

const EVENTS = [
  ...['tickets.updated', 'messages.new', 'messages.updated'],
  ...['ticket.updated', 'ticket.message', 'ticket.message.created', 'message:created', 'message:updated'],
  ...['message.status.changed', 'tickets.noted', 'tickets.assigned', 'queues.changed'],
  'ticket:typing',
];

/** @param rooms for example `{ tenant: 't1', ticket: '7' }` */
export function openInbox({ url, token, rooms, onEvent, onJoined }) {
  const socket = io(url, {
    path: '/socket.io',
    transports: ['websocket', 'polling'],
    withCredentials: true,
    auth: { token },
    reconnectionDelay: 50,
    reconnectionDelayMax: 200,
  });
  socket.on('connect', () => {
    for (const [kind, id] of Object.entries(rooms)) socket.emit(`join-${kind}`, id, (ack) => onJoined(kind, ack));
  });
  for (const event of EVENTS) socket.on(event, (payload) => onEvent(event, payload));
  return socket;
}
