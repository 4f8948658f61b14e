/**
 * An endless synthetic day in an inbox: customers write, agents answer, tickets open and close. Each message is followed by
 * the update of its ticket, as an API server publishes them.
 */
export interface DayEvent {
  readonly event: 'messages.new' | 'tickets.updated';
  readonly payload: Record<string, unknown>;
  /** The pause before this event. */
  readonly afterMs: number;
}

const PEOPLE = [
  'Ana Souza',
  'Bruno Lima',
  'Carla Dias',
  'Davi Rocha',
  'Elisa Prado',
  'Fábio Nunes',
  'Gabi Melo',
  'نور',
];
const QUESTIONS = [
  'Olá! Ainda tem vaga?',
  'Qual o prazo?',
  'Consegue um desconto?',
  'Enviei os documentos 📎',
  'Obrigada! 🙏',
];
const ANSWERS = ['Oi! Tudo bem?', 'Sai hoje ainda.', 'Vou verificar e já volto.', 'Recebido ✅', 'Por nada!'];
const STATUSES = ['OPEN', 'PENDING', 'CLOSED'];

const pick = <T>(list: readonly T[]): T => list[Math.floor(Math.random() * list.length)] as T;

export function* createDay(): Generator<DayEvent, never> {
  const run = Date.now().toString(36);
  for (let count = 1; ; count++) {
    const person = Math.floor(Math.random() * PEOPLE.length);
    const direction = Math.random() < 0.5 ? 'inbound' : 'outbound';
    const content = pick(direction === 'inbound' ? QUESTIONS : ANSWERS);
    const ids = {
      tenantId: 'demo',
      ticketId: `ticket-${person + 1}`,
      agreementId: person % 3 === 0 ? `agreement-${person + 1}` : null,
      messageId: `${run}-${count}`,
      providerMessageId: `wamid.${run}.${count}`,
      ticketStatus: count <= PEOPLE.length ? 'OPEN' : pick(STATUSES),
      ticketUpdatedAt: new Date().toISOString(),
    };
    const message = { id: ids.messageId, direction, content, createdAt: ids.ticketUpdatedAt };
    yield { event: 'messages.new', payload: { ...ids, message }, afterMs: Math.random() * 1500 };
    const ticket = { id: ids.ticketId, contact: PEOPLE[person], lastMessage: content };
    yield { event: 'tickets.updated', payload: { ...ids, ticket }, afterMs: 0 };
  }
}
