/**
 * Questions to every node of the log (protocol §15), over the channel between the nodes. A node that hangs, or that Redis
 * does not reach, is named as missing after 2 s; nobody waits longer for it.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { nanoid } from 'nanoid';
import type { Logger } from '../logger.ts';
import type { NodeChannel } from '../store/store.ts';
import type { NodeMonitor } from './node-monitor.ts';

/** How long the others may take to answer. */
const ANSWER_MS = 2_000;
/** A long answer goes in messages of about this many characters, so that signals come in between. */
const MESSAGE_CHARS = 32 * 1024;
/** Between two of them, and before the next attempt where the channel takes no more. */
const PAUSE_MS = 10;

/** What a node answers to a question, as texts. */
export type Answerer = (question: never) => Promise<readonly string[]>;

export interface Answers {
  readonly texts: readonly string[];
  /** The ids of nodes that did not answer. */
  readonly missing: readonly string[];
}

export interface AllNodes {
  /** @param question JSON, for the answerer of this kind on each node */
  ask(kind: string, question: object): Promise<Answers>;
}

interface AllNodesDeps {
  readonly channel: NodeChannel;
  readonly monitor: Pick<NodeMonitor, 'self' | 'current'>;
  readonly answerers: Readonly<Record<string, Answerer>>;
  readonly logger: Logger;
}

interface Question {
  readonly id: string;
  readonly from: string;
  readonly kind: string;
  readonly question: unknown;
}

interface Answer {
  readonly id: string;
  readonly node: string;
  readonly texts: readonly string[];
  readonly isLast: boolean;
}

/** What one of the others has answered so far. */
interface Heard {
  readonly texts: string[];
  isWhole: boolean;
}

export function createAllNodes({ channel, monitor, answerers, logger }: AllNodesDeps): AllNodes {
  const self = monitor.self.id;
  /** By the id of the question. */
  const asked = new Map<string, (answer: Answer) => void>();
  const toSelf = `answer ${self} `;

  channel.onBroadcast((text, ageMs) => {
    if (text.startsWith(toSelf)) {
      const answer = JSON.parse(text.slice(toSelf.length)) as Answer;
      asked.get(answer.id)?.(answer);
    } else if (text.startsWith('ask ')) void answerTo(JSON.parse(text.slice('ask '.length)), ANSWER_MS - ageMs);
  });

  const answersOf = async (kind: string, question: unknown): Promise<readonly string[]> =>
    (await answerers[kind]?.(question as never)) ?? [];

  /** @param leftMs until nobody waits for the answer any more */
  async function answerTo({ id, from, kind, question }: Question, leftMs: number): Promise<void> {
    const untilMs = performance.now() + leftMs;
    try {
      const messages = inMessages(await answersOf(kind, question));
      for (const [index, texts] of messages.entries()) {
        const isLast = index === messages.length - 1;
        const text = `answer ${from} ${JSON.stringify({ id, node: self, texts, isLast } satisfies Answer)}`;
        while (!channel.broadcast(text)) {
          if (performance.now() > untilMs) return;
          await sleep(PAUSE_MS);
        }
        if (!isLast) await sleep(PAUSE_MS);
        if (performance.now() > untilMs) return;
      }
    } catch (error) {
      logger.error({ err: error, kind }, 'a question of another node could not be answered');
    }
  }

  /** Asks the others. Those that answered in time. */
  async function askOthers(others: readonly string[], kind: string, question: object): Promise<Map<string, Heard>> {
    const id = nanoid();
    const heard = new Map<string, Heard>();
    const answered = Promise.withResolvers<void>();
    asked.set(id, ({ node, texts, isLast }) => {
      const answer = heard.get(node) ?? { texts: [], isWhole: false };
      heard.set(node, answer);
      answer.texts.push(...texts);
      answer.isWhole = isLast;
      if (others.every((other) => heard.get(other)?.isWhole)) answered.resolve();
    });
    const late = setTimeout(answered.resolve, ANSWER_MS);
    if (channel.broadcast(`ask ${JSON.stringify({ id, from: self, kind, question } satisfies Question)}`)) {
      await answered.promise;
    }
    clearTimeout(late);
    asked.delete(id);
    return heard;
  }

  return {
    async ask(kind, question) {
      const own = answersOf(kind, question);
      // It may fail before anybody waits for it.
      own.catch(() => {});
      const others = (await monitor.current()).map(({ id }) => id).filter((id) => id !== self);
      const heard = others.length === 0 ? new Map<string, Heard>() : await askOthers(others, kind, question);
      const texts = [...(await own)];
      for (const answer of heard.values()) if (answer.isWhole) texts.push(...answer.texts);
      return { texts, missing: others.filter((other) => !heard.get(other)?.isWhole) };
    },
  };
}

/** At least one. */
function inMessages(texts: readonly string[]): string[][] {
  const messages: string[][] = [[]];
  let chars = 0;
  for (const text of texts) {
    if (chars > MESSAGE_CHARS) {
      messages.push([]);
      chars = 0;
    }
    messages.at(-1)?.push(text);
    chars += text.length;
  }
  return messages;
}
