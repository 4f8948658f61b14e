/** The laws of messages (src/store/store.ts, protocol §7 and §9) as a small model in memory, to compare engines with. */
import { createHears, type Hearing } from '../../src/contract/audiences.ts';
import type { Room } from '../../src/contract/rooms.ts';
import type { AppendEvent } from '../../src/store/store.ts';

interface Shown {
  readonly n: number;
  readonly instant: number;
  readonly rank: number;
  readonly rooms: readonly Room[];
  readonly payload: string;
}

interface Message {
  readonly names: Set<string>;
  /** Its `messages.new` has come. */
  isKnown: boolean;
  /** The number of its `messages.new`, else of its first change. */
  first: number;
  rooms: readonly Room[];
  shown: Shown | null;
  isDeleted: boolean;
}

export interface ModelAnswer {
  /** Equal for a record and its repeats. */
  readonly id: string;
  readonly duplicate: boolean;
  readonly rooms: readonly Room[];
}

export function createMessageModel() {
  const tickets = new Map<string, Message[]>();
  const changes = new Map<string, ModelAnswer>();
  let records = 0;

  const messagesOf = (tenantId: string, ticketId: string): Message[] => {
    const key = `${tenantId}\n${ticketId}`;
    const messages = tickets.get(key) ?? [];
    tickets.set(key, messages);
    return messages;
  };

  const isNewer = (a: Shown, b: Shown): boolean =>
    a.instant !== b.instant ? a.instant > b.instant : a.rank !== b.rank ? a.rank > b.rank : a.n > b.n;

  function merge(into: Message, other: Message): void {
    for (const name of other.names) into.names.add(name);
    into.isDeleted ||= other.isDeleted;
    if (other.shown !== null && (into.shown === null || isNewer(other.shown, into.shown))) into.shown = other.shown;
    if (!into.isKnown && other.first < into.first) Object.assign(into, { first: other.first, rooms: other.rooms });
  }

  return {
    append(event: AppendEvent): ModelAnswer {
      const facts = event.message;
      if (facts === null || event.ticketId === null) throw new Error('the model takes events of messages only');
      const messages = messagesOf(event.tenantId, event.ticketId);
      const names = [
        ...(facts.messageId === null ? [] : [`m${facts.messageId}`]),
        ...(facts.providerMessageId === null ? [] : [`p${facts.providerMessageId}`]),
      ];
      const found = [...new Set(names.map((name) => messages.find((message) => message.names.has(name))))].filter(
        (message) => message !== undefined,
      );
      const known = found.find(({ isKnown }) => isKnown);
      const pending = found.filter(({ isKnown }) => !isKnown).sort((a, b) => a.first - b.first);
      const n = records + 1;
      if (facts.change === 'new' && known !== undefined)
        return { id: String(known.first), duplicate: true, rooms: known.rooms };
      const rooms =
        facts.change === 'new' || event.roomsAreNamed ? event.rooms : ((known ?? pending[0])?.rooms ?? event.rooms);
      if (facts.change !== 'new') {
        const key = JSON.stringify([event.tenantId, event.event, event.payload, [...rooms].sort()]);
        const repeated = changes.get(key);
        if (repeated !== undefined) return { ...repeated, duplicate: true };
        changes.set(key, { id: String(n), duplicate: true, rooms });
      }
      records = n;
      const instant = facts.change === 'new' ? Number.NEGATIVE_INFINITY : facts.updatedAtMs;
      const fresh: Message = {
        ...{
          names: new Set(),
          isKnown: facts.change === 'new',
          first: n,
          rooms,
          isDeleted: facts.change === 'deleted',
        },
        shown:
          facts.change === 'deleted' ? null : { n, instant, rank: facts.statusRank, rooms, payload: event.payload },
      };
      const target = facts.change === 'new' ? fresh : (known ?? pending[0] ?? fresh);
      if (!messages.includes(target)) messages.push(target);
      for (const other of [...pending, fresh]) {
        if (other === target) continue;
        merge(target, other);
        if (messages.includes(other)) messages.splice(messages.indexOf(other), 1);
      }
      for (const name of names) {
        if (!messages.some((message) => message.names.has(name))) target.names.add(name);
      }
      return { id: String(n), duplicate: false, rooms };
    },

    /** The payloads that a caller may read, oldest message first. */
    list(tenantId: string, ticketId: string, hearing: Hearing): string[] {
      const hears = createHears(hearing);
      return messagesOf(tenantId, ticketId)
        .filter(({ isKnown, isDeleted }) => isKnown && !isDeleted)
        .sort((a, b) => a.first - b.first)
        .flatMap(({ shown }) => (shown?.rooms.some(hears) ? [shown.payload] : []));
    },
  };
}
