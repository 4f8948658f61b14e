/**
 * An endless synthetic day in an inbox: customers write, agents answer, tickets open and close. Each message is followed by
 * the update of its ticket, as an API server publishes them. The reports of a provider about an answer (queued, sent, …) come
 * in any order, as they do in life; their instants say in which order they happened. Some messages are deleted.
 */
export interface DayEvent {
  readonly event: 'messages.new' | 'messages.updated' | 'messages.deleted' | 'tickets.updated';
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

const REPORTS = ['queued', 'sent', 'delivered', 'read'];

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
    const change = (index: number) => ({
      ...ids,
      messageUpdatedAt: new Date(Date.parse(ids.ticketUpdatedAt) + index).toISOString(),
      message,
    });
    const reports = direction === 'outbound' ? REPORTS.map((status, index) => ({ status, index })) : [];
    for (const { status, index } of reports.sort(() => Math.random() - 0.5)) {
      const payload = { ...change(index), messageStatus: status };
      yield { event: 'messages.updated', payload, afterMs: Math.random() * 300 };
    }
    if (Math.random() < 0.1) yield { event: 'messages.deleted', payload: change(REPORTS.length), afterMs: 500 };
  }
}
