/** The contract's names, written down once more: the suite does not ask the product what they are. */
export const JOIN_OF: Readonly<Record<string, string>> = {
  tenant: 'join-tenant',
  ticket: 'join-ticket',
  agreement: 'join-agreement',
  user: 'join-user',
  queue: 'join-queue',
};

export function legacyNames(): readonly string[] {
  return ['ticket.updated', 'ticket.message', 'ticket.message.created', 'message:created', 'message:updated'];
}
