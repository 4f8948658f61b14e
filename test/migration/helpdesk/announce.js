// announce.js: who hears of a change. Each event goes to one room after another, and to old front ends under its old names.
import { emitToAgreement, emitToTenant, emitToTicket, emitToUser } from './realtime.js';

function emitForTicket(ticket, event, payload, userId) {
  emitToTenant(ticket.tenantId, event, payload);
  emitToTicket(ticket.id, event, payload);
  if (ticket.agreementId) emitToAgreement(ticket.agreementId, event, payload);
  if (userId) emitToUser(userId, event, payload);
}

const envelopeOf = (ticket) => ({
  tenantId: ticket.tenantId,
  ticketId: ticket.id,
  agreementId: ticket.agreementId ?? null,
  ticketStatus: ticket.status,
  ticketUpdatedAt: ticket.updatedAt,
});

export function announceTicket(ticket) {
  const envelope = { ...envelopeOf(ticket), ticket };
  emitForTicket(ticket, 'tickets.updated', envelope);
  emitForTicket(ticket, 'ticket.updated', { ...ticket, ...envelope });
}

export function announceMessage(ticket, message, userId) {
  const envelope = { ...envelopeOf(ticket), messageId: message.id, message };
  emitForTicket(ticket, 'messages.new', envelope, userId);
  emitForTicket(ticket, 'message:created', message, userId);
  emitForTicket(ticket, 'ticket.message', envelope, userId);
  emitForTicket(ticket, 'ticket.message.created', envelope, userId);
  announceTicket(ticket);
}

export function announceStatus(ticket, message) {
  emitForTicket(ticket, 'message.status.changed', { messageId: message.id, status: message.status });
  emitForTicket(ticket, 'message:updated', message);
  emitForTicket(ticket, 'messages.updated', { ...envelopeOf(ticket), messageId: message.id, message });
}
