/**
 * An endless synthetic day in an inbox: customers type and write, answers go out, tickets open and close. Each message is
 * followed by the update of its ticket, as an API server publishes them. The reports of a provider about an answer (queued,
 * sent, …) come in any order, as they do in life; their instants say in which order they happened. Some messages are deleted.
 */
export type Step = EventStep | SignalStep;

export interface EventStep {
  readonly event: 'messages.new' | 'messages.updated' | 'messages.deleted' | 'tickets.updated';
  readonly payload: Record<string, unknown>;
  /** The pause after this step. */
  readonly thenMs: number;
}

export interface SignalStep {
  /** The body of `POST /signals`. */
  readonly signal: Record<string, unknown>;
  readonly thenMs: number;
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

export function* createDay(): Generator<Step, never> {
  for (let count = 1; ; count++) {
    const isFirst = count <= PEOPLE.length; // each of them once
    const person = isFirst ? count - 1 : Math.floor(Math.random() * PEOPLE.length);
    const status = isFirst ? 'OPEN' : pick(STATUSES);
    const isQuestion = Math.random() < 0.5;
    if (isQuestion) yield typing(person);
    const last = isQuestion
      ? yield* message(person, 'inbound', pick(QUESTIONS), PEOPLE[person] as string, status)
      : yield* message(person, 'outbound', pick(ANSWERS), 'Assistente virtual', status);
    if (Math.random() < 0.1) yield { event: 'messages.deleted', payload: last, thenMs: 500 };
  }
}

/** What an agent sends from the page. No step if the ticket is unknown. */
export function* answer(ticketId: string, content: string, author: string): Generator<EventStep> {
  const person = PEOPLE.findIndex((_, index) => ticketOf(index) === ticketId);
  if (person !== -1) yield* message(person, 'outbound', content, author, 'OPEN');
}

const ticketOf = (person: number): string => `ticket-${person + 1}`;

/** The signal ends when the message comes. */
function typing(person: number): SignalStep {
  const room = `ticket:${ticketOf(person)}`;
  const payload = { name: PEOPLE[person], by: 'customer' };
  const ttlSeconds = 2;
  const signal = { event: 'tickets.typing', room, payload, ttlSeconds, client: `customer-${person + 1}` };
  return { signal, thenMs: ttlSeconds * 1000 };
}

const run = Date.now().toString(36);
let messages = 0;

/** Returns the payload of a later change. */
function* message(
  person: number,
  direction: 'inbound' | 'outbound',
  content: string,
  author: string,
  ticketStatus: string,
): Generator<EventStep, Record<string, unknown>> {
  messages += 1;
  const ids = {
    tenantId: 'demo',
    ticketId: ticketOf(person),
    agreementId: person % 3 === 0 ? `agreement-${person + 1}` : null,
    messageId: `${run}-${messages}`,
    providerMessageId: `wamid.${run}.${messages}`,
    ticketStatus,
    ticketUpdatedAt: new Date().toISOString(),
  };
  const message = { id: ids.messageId, direction, content, author, createdAt: ids.ticketUpdatedAt };
  yield { event: 'messages.new', payload: { ...ids, message }, thenMs: 0 };
  const ticket = { id: ids.ticketId, contact: PEOPLE[person], lastMessage: content };
  yield { event: 'tickets.updated', payload: { ...ids, ticket }, thenMs: Math.random() * 1500 };
  const change = (index: number) => ({
    ...ids,
    messageUpdatedAt: new Date(Date.parse(ids.ticketUpdatedAt) + index).toISOString(),
    message,
  });
  const reports = direction === 'outbound' ? REPORTS.map((status, index) => ({ status, index })) : [];
  for (const { status, index } of reports.sort(() => Math.random() - 0.5)) {
    const payload = { ...change(index), messageStatus: status };
    yield { event: 'messages.updated', payload, thenMs: Math.random() * 300 };
  }
  return change(REPORTS.length);
}
