/**
 * Realistic payloads of the events of a help desk, to see a bridge at work: for `roomcast trigger` and for the console's
 * form. The people, the words and the numbers are made up; the shapes are those of the real publishers. Each call brings the
 * dialogue one line further, and a change is one of the message before it.
 */

export interface SampleIds {
  readonly tenantId: string;
  readonly ticketId: string;
  readonly agreementId?: string;
}

export interface Samples {
  /** A valid payload of this event. Of an event that the operator declares, one with the ids and a text. */
  next(event: string): Record<string, unknown>;
}

type Line = readonly [direction: 'INBOUND' | 'OUTBOUND', content: string];

interface Dialogue {
  readonly contact: string;
  readonly phone: string;
  readonly subject: string;
  readonly lines: readonly Line[];
}

const DIALOGUES: readonly Dialogue[] = [
  {
    contact: 'Ana Souza',
    phone: '+5511987650142',
    subject: 'Segunda via do boleto',
    lines: [
      ['INBOUND', 'Oi, bom dia! Perdi o boleto deste mês, vocês conseguem mandar de novo?'],
      ['OUTBOUND', 'Bom dia, Ana! Consigo sim. Pode me confirmar os três últimos dígitos do seu CPF?'],
      ['INBOUND', '482'],
      ['OUTBOUND', 'Obrigado! Segue a segunda via, com vencimento na sexta-feira 📎'],
      ['INBOUND', 'Recebi aqui. Se eu pagar hoje, até quando dá baixa?'],
      ['OUTBOUND', 'Em até dois dias úteis. Assim que compensar, aviso você por aqui.'],
      ['INBOUND', 'Perfeito, muito obrigada! 🙏'],
    ],
  },
  {
    contact: 'Bruno Lima',
    phone: '+5521976540318',
    subject: 'Entrega atrasada',
    lines: [
      ['INBOUND', 'Boa tarde, meu pedido era pra ter chegado ontem e o rastreio não anda'],
      ['OUTBOUND', 'Boa tarde, Bruno. Sinto muito pelo atraso! Me passa o número do pedido, por favor?'],
      ['INBOUND', 'É o 77120'],
      ['OUTBOUND', 'Achei: saiu do centro de distribuição hoje às 9h40. A previsão é amanhã, até as 18h.'],
      ['INBOUND', 'Amanhã só tem gente em casa depois das 14h, tem problema?'],
      ['OUTBOUND', 'Sem problema, já deixei anotado para entregarem à tarde.'],
      ['INBOUND', 'Show, valeu!'],
    ],
  },
  {
    contact: 'Márcia Nunes',
    phone: '+5571994820755',
    subject: 'Matrícula no curso noturno',
    lines: [
      ['INBOUND', 'Olá! Ainda tem vaga para o curso da noite?'],
      ['OUTBOUND', 'Oi, Márcia! Temos, sim: a turma de terça e quinta, das 19h às 21h30.'],
      ['INBOUND', 'Consigo parcelar a matrícula?'],
      ['OUTBOUND', 'Em até 3x sem juros no cartão. Quer que eu reserve a sua vaga até amanhã?'],
      ['INBOUND', 'Quero! Quais documentos precisa?'],
      ['OUTBOUND', 'RG, CPF e comprovante de residência. Pode mandar foto por aqui mesmo.'],
      ['INBOUND', 'Enviei os três 📷'],
      ['OUTBOUND', 'Tudo certo ✅ Matrícula confirmada, bem-vinda!'],
    ],
  },
  {
    contact: 'Davi Rocha',
    phone: '+5531988870221',
    subject: 'Remarcar consulta',
    lines: [
      ['INBOUND', 'Bom dia, preciso remarcar minha consulta de quinta'],
      ['OUTBOUND', 'Bom dia, Davi! Tenho sexta às 10h ou segunda às 16h30. Qual fica melhor?'],
      ['INBOUND', 'Segunda 16h30'],
      ['OUTBOUND', 'Remarcado para segunda, 16h30, com a Dra. Helena. Lembre-se do jejum de 4 horas.'],
      ['INBOUND', 'Combinado, obrigado'],
    ],
  },
];

/** As providers report them, one after the other. */
const REPORTS = ['sent', 'delivered', 'read'] as const;

const LETTERS = 'abcdefghijklmnopqrstuvwxyz0123456789';

export function createSamples({ tenantId, ticketId, agreementId }: SampleIds): Samples {
  let dialogue = Math.floor(Math.random() * DIALOGUES.length);
  let line = 0;
  let reports = 0;
  let message: Readonly<Record<string, unknown>> | null = null;

  const now = (): string => new Date().toISOString();
  const current = (): Dialogue => DIALOGUES[dialogue] as Dialogue;
  const ids = () => ({ tenantId, ticketId, ...(agreementId === undefined ? {} : { agreementId }) });
  const idsOf = ({ id, externalId }: Readonly<Record<string, unknown>>) => ({
    ...ids(),
    messageId: id,
    providerMessageId: externalId,
  });

  function newMessage(): Readonly<Record<string, unknown>> {
    if (line === current().lines.length) {
      dialogue = (dialogue + 1) % DIALOGUES.length;
      line = 0;
    }
    const [direction, content] = current().lines[line++] as Line;
    reports = 0;
    const { contact } = current();
    message = {
      id: `c${randomText(24)}`,
      direction,
      type: 'TEXT',
      content,
      author: direction === 'INBOUND' ? contact : 'Atendimento',
      status: direction === 'INBOUND' ? 'DELIVERED' : 'SENT',
      externalId: `wamid.${randomText(40)}==`,
      createdAt: now(),
    };
    return message;
  }

  const samples: Readonly<Record<string, () => Record<string, unknown>>> = {
    'messages.new'() {
      const message = newMessage();
      return { ...idsOf(message), ticketStatus: 'OPEN', ticketUpdatedAt: now(), message };
    },
    'messages.updated'() {
      const messageStatus = REPORTS[Math.min(reports, REPORTS.length - 1)] as string;
      const changed = { ...(message ?? newMessage()), status: messageStatus.toUpperCase() };
      reports++;
      return { ...idsOf(changed), messageUpdatedAt: now(), messageStatus, message: changed };
    },
    'messages.deleted'() {
      const deleted = message ?? newMessage();
      message = null;
      return { ...idsOf(deleted), messageUpdatedAt: now() };
    },
    'tickets.updated'() {
      const { contact, phone, subject, lines } = current();
      const [, lastMessagePreview] = lines[Math.max(0, line - 1)] as Line;
      const ticket = {
        id: ticketId,
        subject,
        channel: 'WHATSAPP',
        priority: 'NORMAL',
        contact: { name: contact, phone },
        lastMessagePreview,
      };
      return { ...ids(), ticketStatus: 'OPEN', ticketUpdatedAt: now(), ticket };
    },
  };

  return {
    next: (event) =>
      Object.hasOwn(samples, event)
        ? (samples[event] as () => Record<string, unknown>)()
        : { ...ids(), text: `${current().contact}: ${current().subject}`, at: now() },
  };
}

function randomText(length: number): string {
  return Array.from({ length }, () => LETTERS[Math.floor(Math.random() * LETTERS.length)]).join('');
}
