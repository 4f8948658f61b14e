/**
 * A day at the help desk. Customers and agents say the turns of their conversations, the ones on your screen first. Each
 * message is followed by the update of its ticket, as an API server publishes them; the provider reports what became of an
 * answer (queued, sent, delivered, read), sometimes in the wrong order, as providers do.
 */
import { setTimeout } from 'node:timers/promises';
import { type Agents, createAgents } from './agents.ts';
import { CONVERSATIONS, type Conversation, THANKS } from './conversations.ts';

export const TENANT = 'demo';

export interface DayOptions {
  /** Where the agents connect. */
  readonly url: string;
  publish(event: string, payload: object): void;
  /** A customer types, for so many seconds; 0: not any more. */
  customerTypes(ticketId: string, name: string, ttlSeconds: number): void;
  /** 1: as people write. 0.5: in half the time. */
  readonly pace: number;
  /** Whether the publisher holds so many events that the people should wait: the server is away. */
  isJammed(): boolean;
}

export interface Day {
  /** What was said before anybody looked. */
  tellPast(): void;
  /** Lets people write until `signal` aborts. */
  run(signal: AbortSignal): Promise<void>;
  /** An answer from a page. Returns whether there is such a ticket. */
  answer(ticketId: string, messageId: string, text: string, author: string): boolean;
}

interface Talk extends Conversation {
  readonly ticketId: string;
  /** The index of the next turn. */
  next: number;
  isBusy: boolean;
  /** The time of its newest change: it never goes back. */
  updatedMs: number;
}

const MINUTE_MS = 60_000;
const REPORTS = ['queued', 'sent', 'delivered', 'read'] as const;
const between = (min: number, max: number): number => min + Math.random() * (max - min);
const pick = <T>(list: readonly T[]): T => list[Math.floor(Math.random() * list.length)] as T;

export function createDay({ url, publish, customerTypes, pace, isJammed }: DayOptions): Day {
  const run = Date.now().toString(36);
  let messages = 0;
  const talks: Talk[] = CONVERSATIONS.map((conversation, index) => ({
    ...conversation,
    ticketId: `ticket-${index + 1}`,
    next: 0,
    isBusy: false,
    updatedMs: 0,
  }));
  const pause = (ms: number, signal: AbortSignal) => setTimeout(ms * pace, undefined, { signal });
  /** Null while nobody watches. */
  let today: { readonly agents: Agents; readonly signal: AbortSignal } | null = null;

  /** Publishes a message and the ticket after it. Returns what its later changes have in common. */
  function say(talk: Talk, direction: 'INBOUND' | 'OUTBOUND', content: string, author: string, more: Said = {}) {
    const { atMs = Date.now(), messageId = `${run}-${++messages}` } = more;
    talk.updatedMs = Math.max(atMs, talk.updatedMs + 1);
    const at = new Date(talk.updatedMs).toISOString();
    const ids = {
      tenantId: TENANT,
      ticketId: talk.ticketId,
      agreementId: null,
      messageId,
      providerMessageId: `wamid.${messageId}`,
      ticketStatus: talk.next < talk.turns.length ? 'OPEN' : 'CLOSED',
      ticketUpdatedAt: at,
    };
    const message = { id: messageId, ticketId: talk.ticketId, direction, type: 'TEXT', content, author, createdAt: at };
    publish('messages.new', { ...ids, message });
    const { ticketId: id, subject, contact } = talk;
    const ticket = {
      id,
      subject,
      channel: 'WHATSAPP',
      contact: { name: contact },
      lastMessageAt: at,
      lastMessagePreview: content,
    };
    publish('tickets.updated', { ...ids, ticket });
    return (afterMs: number) => ({
      ...ids,
      messageUpdatedAt: new Date(talk.updatedMs + afterMs).toISOString(),
      message,
    });
  }

  /** The provider's reports of an answer. One in four comes late, after the one that follows it. */
  async function report(change: ReturnType<typeof say>, signal: AbortSignal): Promise<void> {
    const reports = REPORTS.map((messageStatus, index) => ({ ...change(index + 1), messageStatus }));
    if (Math.random() < 0.25) reports.splice(1, 2, ...reports.slice(1, 3).reverse());
    for (const payload of reports) {
      await pause(between(250, 900), signal);
      publish('messages.updated', payload);
    }
  }

  async function typeText(talk: Talk, text: string, signal: AbortSignal): Promise<void> {
    const typingMs = Math.min(4_000, 1_200 + text.length * 30);
    customerTypes(talk.ticketId, talk.contact, Math.ceil((typingMs * pace) / 1_000) + 1);
    await pause(typingMs, signal);
    customerTypes(talk.ticketId, talk.contact, 0);
  }

  async function takeTurn(talk: Talk, agents: Agents, signal: AbortSignal): Promise<void> {
    const [who, text, fate] = talk.turns[talk.next] ?? [];
    if (who === undefined || text === undefined) return;
    if (who === 'agent')
      await agents.compose(talk.agent, talk.ticketId, pace * Math.min(5_000, 2_000 + text.length * 25));
    else await typeText(talk, text, signal);
    talk.next += 1;
    if (who === 'agent') return report(say(talk, 'OUTBOUND', text, talk.agent), signal);
    const change = say(talk, 'INBOUND', text, talk.contact);
    if (fate === undefined) return;
    await pause(2_500, signal);
    publish('messages.deleted', change(1));
  }

  /** Runs something of a talk, one at a time. When the day ends it ends, too. */
  function busy(talk: Talk, doing: Promise<unknown>, signal: AbortSignal): void {
    talk.isBusy = true;
    doing
      .catch((error) => {
        if (!signal.aborted) throw error;
      })
      .finally(() => {
        talk.isBusy = false;
      });
  }

  /** Often one that somebody has on screen; else any. When all have ended, a new day begins. */
  function nextTalk(agents: Agents): Talk | undefined {
    if (talks.every(({ next, turns }) => next >= turns.length)) for (const talk of talks) talk.next = 0;
    const ready = talks.filter(
      ({ isBusy, next, turns, agent }) =>
        !isBusy && next < turns.length && (turns[next]?.[0] === 'customer' || agents.isFree(agent)),
    );
    const watched = ready.filter(({ ticketId }) => agents.isWatched(ticketId));
    return pick(watched.length > 0 && Math.random() < 0.7 ? watched : ready);
  }

  return {
    tellPast() {
      const nowMs = Date.now();
      const past = talks.flatMap((talk, index) =>
        talk.turns.slice(0, talk.past).map(([who, text], turn) => {
          const untilMs = nowMs - (talks.length - 1 - index) * 11 * MINUTE_MS;
          return { talk, who, text, atMs: untilMs - (talk.past - turn) * 1.6 * MINUTE_MS };
        }),
      );
      for (const { talk, who, text, atMs } of past.sort((a, b) => a.atMs - b.atMs)) {
        talk.next += 1;
        if (who === 'customer') say(talk, 'INBOUND', text, talk.contact, { atMs });
        else {
          const change = say(talk, 'OUTBOUND', text, talk.agent, { atMs });
          publish('messages.updated', { ...change(2), messageStatus: 'read' });
        }
      }
    },
    async run(signal) {
      const agents = createAgents(url, TENANT, talks.map(({ ticketId }) => ticketId), signal); // biome-ignore format: one line
      today = { agents, signal };
      while (!signal.aborted) {
        const talk = isJammed() ? undefined : nextTalk(agents);
        if (talk !== undefined) busy(talk, takeTurn(talk, agents, signal), signal);
        await pause(between(1_200, 2_600), signal).catch(() => {});
      }
      if (today.signal === signal) today = null;
    },
    answer(ticketId, messageId, content, author) {
      const talk = talks.find((one) => one.ticketId === ticketId);
      if (talk === undefined) return false;
      const change = say(talk, 'OUTBOUND', content, author, { messageId });
      if (today === null) return true;
      const { signal } = today;
      // The customer has read it, and says thanks, unless they are writing already.
      const react = async (): Promise<void> => {
        const thanks = pick(THANKS);
        await typeText(talk, thanks, signal);
        say(talk, 'INBOUND', thanks, talk.contact);
      };
      report(change, signal).then(
        () => talk.isBusy || busy(talk, react(), signal),
        () => {}, // the day has ended
      );
      return true;
    },
  };
}

interface Said {
  readonly atMs?: number;
  readonly messageId?: string;
}
