// server.js: a help desk's API. Tickets and messages are its own; it tells the front end of each change.
import { createServer } from 'node:http';
import express from 'express';
import { announceMessage, announceStatus, announceTicket } from './announce.js';
import { emitToRoom, emitToTenant, emitToUser, startRealtime, stopRealtime } from './realtime.js';
import { userOf } from './users.js';

const tickets = new Map();
const messages = new Map();
const now = () => new Date().toISOString();

const app = express();
app.use(express.json());
app.use(async (request, response, next) => {
  try {
    request.user = await userOf(request.headers.authorization?.replace('Bearer ', ''));
    next();
  } catch {
    response.sendStatus(401);
  }
});

function ticketOf(request) {
  const ticket = tickets.get(request.params.ticketId);
  if (ticket?.tenantId !== request.user.tenantId) throw Object.assign(new Error('No such ticket'), { status: 404 });
  return ticket;
}

function change(ticket, changes) {
  return Object.assign(ticket, changes, { revision: (ticket.revision ?? 0) + 1, updatedAt: now() });
}

app.get('/tickets', ({ user }, response) => {
  response.json([...tickets.values()].filter(({ tenantId }) => tenantId === user.tenantId));
});

app.put('/tickets/:ticketId', ({ user, params, body }, response) => {
  const known = tickets.get(params.ticketId) ?? { id: params.ticketId, tenantId: user.tenantId, status: 'OPEN' };
  const ticket = change(known, body);
  tickets.set(ticket.id, ticket);
  announceTicket(ticket);
  response.status(201).json(ticket);
});

app.get('/tickets/:ticketId/messages', (request, response) => {
  const { id } = ticketOf(request);
  response.json([...messages.values()].filter(({ ticketId }) => ticketId === id));
});

app.post('/tickets/:ticketId/messages', (request, response) => {
  const ticket = ticketOf(request);
  const message = { ...request.body, ticketId: ticket.id, status: 'QUEUED', createdAt: now(), updatedAt: now() };
  messages.set(message.id, message);
  announceMessage(change(ticket), message, request.user.id);
  response.status(201).json(message);
});

// From the provider: a tick.
app.put('/tickets/:ticketId/messages/:messageId/status', (request, response) => {
  const ticket = ticketOf(request);
  const message = messages.get(request.params.messageId);
  Object.assign(message, request.body, { updatedAt: now() });
  announceStatus(ticket, message);
  response.json(message);
});

// For agents: the customer, who is in the ticket's room, does not hear of it.
app.post('/tickets/:ticketId/notes', (request, response) => {
  const { id, tenantId } = ticketOf(request);
  emitToTenant(tenantId, 'tickets.noted', { ticketId: id, note: request.body });
  response.sendStatus(201);
});

// For one agent, and for the boards of both queues.
app.put('/tickets/:ticketId/assignment', (request, response) => {
  const ticket = ticketOf(request);
  const before = ticket.queueId;
  change(ticket, request.body);
  emitToUser(ticket.userId, 'tickets.assigned', { tenantId: ticket.tenantId, ticketId: ticket.id, ticket });
  for (const queueId of [before, ticket.queueId]) emitToRoom(`queue:${queueId}`, 'queues.changed', { ticket });
  response.json(ticket);
});

const server = createServer(app);
startRealtime(server);
server.listen(Number(process.env.PORT), '127.0.0.1', () => {
  console.log(`http://127.0.0.1:${server.address().port}`);
});
process.once('SIGTERM', async () => {
  await stopRealtime();
  server.close();
  server.closeAllConnections();
});
