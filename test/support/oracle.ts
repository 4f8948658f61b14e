/**
 * Protocol §2, §3, §7, §9 and §11 as a model: who may hear a record, and which state a log adds up to. It is written from
 * the protocol's words and imports nothing of the product, so that a test which compares the two trusts neither.
 *
 * The model is slow and small: it goes through the whole log for each question.
 */

export type Payload = Readonly<Record<string, unknown>>;

/** A record of the log, as its publisher knows it. */
export interface Fact {
  /** The cursor. */
  readonly id: string;
  readonly event: string;
  readonly tenant: string;
  readonly payload: Payload;
  /** As the publisher named them, or null. */
  readonly named: readonly string[] | null;
}

/** A fact and the rooms that it goes to. */
export interface Told extends Fact {
  readonly rooms: readonly string[];
}

/** The claims of a token that say what it hears. Null: `AUTH_MODE=none`. */
export type Claims = Readonly<Record<string, unknown>> | null;

export interface Kinds {
  /** ROOM_KINDS and CLAIMED_ROOM_KINDS. */
  readonly declared: readonly string[];
  /** CLAIMED_ROOM_KINDS. */
  readonly claimed: readonly string[];
}

const BUILT_IN = ['tenant', 'ticket', 'agreement', 'user'];
const CANONICAL = ['tickets.updated', 'messages.new', 'messages.updated', 'messages.deleted'];
const STATUSES = ['failed', 'queued', 'sent', 'delivered', 'read', 'played'];

export const allKinds = ({ declared }: Kinds): readonly string[] => [...BUILT_IN, ...declared];

export function splitRoom(room: string): { kind: string; id: string } {
  const end = room.indexOf(':');
  return { kind: room.slice(0, end), id: room.slice(end + 1) };
}

/** The text of an id in JSON (protocol §2); null where there is none. */
function idIn(value: unknown): string | null {
  if (typeof value === 'number') return Number.isSafeInteger(value) ? String(value) : null;
  return typeof value === 'string' && value !== '' ? value : null;
}

/** The table of protocol §2. */
export function roomsOfPayload(event: string, tenant: string, payload: Payload, kinds: Kinds): string[] {
  const heard = CANONICAL.includes(event) ? allKinds(kinds).filter((kind) => kind !== 'user') : allKinds(kinds);
  return heard.flatMap((kind) => {
    const id = kind === 'tenant' ? tenant : idIn(payload[`${kind}Id`]);
    return id === null ? [] : [`${kind}:${id}`];
  });
}

/** The ids that a claim names (protocol §11): one id or an array of ids; anything else names none. */
function idsOf(claim: unknown): readonly string[] {
  const ids = (Array.isArray(claim) ? claim : [claim]).map(idIn);
  return ids.includes(null) ? [] : (ids as string[]);
}

/** Protocol §11: whether a token hears a room of a tenant. */
export function mayHear(claims: Claims, tenant: string, room: string, kinds: Kinds): boolean {
  if (claims === null) return true;
  const { kind, id } = splitRoom(room);
  const tenants = Array.isArray(claims.tenantId) ? claims.tenantId : [claims.tenantId];
  if (
    !String(claims.scope ?? '')
      .split(' ')
      .includes('subscribe')
  )
    return false;
  if (claims.tenantId === '*' || !tenants.includes(tenant)) return false;
  if (kind === 'tenant' && id !== tenant) return false;
  if (kind === 'user') return id === claims.sub;
  if (kinds.claimed.includes(kind)) return idsOf(claims[`${kind}Ids`]).includes(id);
  const narrowing = ['ticket', 'agreement', ...kinds.declared.filter((name) => !kinds.claimed.includes(name))].filter(
    (name) => claims[`${name}Ids`] !== undefined,
  );
  if (narrowing.length === 0) return true;
  return narrowing.includes(kind) && idsOf(claims[`${kind}Ids`]).includes(id);
}

/** What a listener of these rooms gets of a log, in order. Of a token for several tenants: the rooms in each of them. */
export function heardBy(claims: Claims, rooms: readonly string[], log: readonly Told[], kinds: Kinds): Told[] {
  return log.filter((told) =>
    told.rooms.some((room) => rooms.includes(room) && mayHear(claims, told.tenant, room, kinds)),
  );
}

const readable = (claims: Claims, told: Told, kinds: Kinds): boolean =>
  told.rooms.some((room) => mayHear(claims, told.tenant, room, kinds));

interface Message {
  readonly names: Set<string>;
  born: Told | null;
  /** The first record about it. */
  first: Told;
  /** The payload that stands. */
  stands: Told;
  deleted: boolean;
}

const newestFirst = (a: string, b: string): number => (a < b ? 1 : a > b ? -1 : 0);

const namesIn = ({ messageId, providerMessageId }: Payload): string[] => {
  const [own, provider] = [idIn(messageId), idIn(providerMessageId)];
  return [...(own === null ? [] : [`own ${own}`]), ...(provider === null ? [] : [`provider ${provider}`])];
};

/** Whether `next` stands rather than `now`, which is earlier in the log (protocol §7). */
function overrides(next: Told, now: Told): boolean {
  const instantOf = ({ event, payload }: Told) =>
    event === 'messages.new' ? Number.NEGATIVE_INFINITY : Date.parse(String(payload.messageUpdatedAt));
  const rankOf = ({ payload }: Told) => STATUSES.indexOf(String(payload.messageStatus));
  if (instantOf(next) !== instantOf(now)) return instantOf(next) > instantOf(now);
  return rankOf(next) >= rankOf(now);
}

export interface World {
  /** In the order of the log, with the rooms that each went to. */
  readonly log: readonly Told[];
  /** `GET /tickets`: payloads, newest first. */
  tickets(claims: Claims, tenant: string): Payload[];
  /** `GET /tickets/{ticketId}`: null is a 404. */
  ticket(claims: Claims, tenant: string, ticketId: string): Payload | null;
  /** `GET /tickets/{ticketId}/messages`. */
  messages(claims: Claims, tenant: string, ticketId: string): Payload[];
}

/** What a log adds up to. The facts may come in any order: their ids order them. */
export function worldOf(facts: readonly Fact[], kinds: Kinds): World {
  const log: Told[] = [];
  const tickets = new Map<string, Told>();
  const messages = new Map<string, Message[]>();
  const keyOf = (tenant: string, ticketId: unknown) => `${tenant}\n${idIn(ticketId)}`;

  /** Makes one of two that turn out to be the same message. */
  function merge(into: Message, from: Message, all: Message[]): void {
    for (const name of from.names) into.names.add(name);
    if (from.first.id < into.first.id) into.first = from.first;
    const [earlier, later] = from.stands.id < into.stands.id ? [from.stands, into.stands] : [into.stands, from.stands];
    into.stands = overrides(later, earlier) ? later : earlier;
    into.deleted ||= from.deleted;
    all.splice(all.indexOf(from), 1);
  }

  function aboutMessage(fact: Fact, own: Told): Told {
    const key = keyOf(fact.tenant, fact.payload.ticketId);
    const all = messages.get(key) ?? [];
    messages.set(key, all);
    const names = namesIn(fact.payload);
    const holders = [...new Set(names.flatMap((name) => all.filter((message) => message.names.has(name))))];
    // The message of its messageId, else that of its providerMessageId; one that is only announced is the one that is known.
    const isNew = fact.event === 'messages.new';
    if (isNew && holders.some(({ born }) => born !== null)) throw new Error(`a message stands twice: ${fact.id}`);
    const target = isNew ? null : (holders.find(({ born }) => born !== null) ?? holders[0] ?? null);
    const follows = fact.named === null && !isNew;
    const [earliest] = holders.map(({ first }) => first).sort((a, b) => (a.id < b.id ? -1 : 1));
    const { rooms } = (follows ? (target?.born ?? earliest) : null) ?? own;
    const told: Told = { ...fact, rooms };
    const fresh: Message = { names: new Set(names), born: null, first: told, stands: told, deleted: false };
    if (isNew) fresh.born = told;
    if (fact.event === 'messages.deleted') fresh.deleted = true;
    if (target === null) {
      all.push(fresh);
      for (const pending of holders.filter(({ born }) => born === null)) merge(fresh, pending, all);
      return told;
    }
    for (const other of holders) if (other !== target && other.born === null) merge(target, other, all);
    for (const name of names) {
      if (!all.some((message) => message !== target && message.names.has(name))) target.names.add(name);
    }
    if (fact.event === 'messages.deleted') target.deleted = true;
    else if (overrides(told, target.stands)) target.stands = told;
    return told;
  }

  for (const fact of [...facts].sort((a, b) => (a.id < b.id ? -1 : 1))) {
    const rooms = fact.named ?? roomsOfPayload(fact.event, fact.tenant, fact.payload, kinds);
    const own: Told = { ...fact, rooms: [...new Set(rooms)] };
    if (fact.event.startsWith('messages.')) {
      log.push(aboutMessage(fact, own));
      continue;
    }
    log.push(own);
    if (fact.event !== 'tickets.updated') continue;
    const key = keyOf(fact.tenant, fact.payload.ticketId);
    const known = tickets.get(key);
    const at = ({ payload }: Told) => Date.parse(String(payload.ticketUpdatedAt));
    if (known === undefined || at(own) >= at(known)) tickets.set(key, own);
  }

  return {
    log,
    tickets(claims, tenant) {
      const instant = ({ payload }: Told) => new Date(String(payload.ticketUpdatedAt)).toISOString();
      return [...tickets.values()]
        .filter((told) => told.tenant === tenant && readable(claims, told, kinds))
        .sort((a, b) => newestFirst(instant(a), instant(b)) || newestFirst(a.id, b.id))
        .map(({ payload }) => payload);
    },
    ticket(claims, tenant, ticketId) {
      const told = tickets.get(keyOf(tenant, ticketId));
      return told === undefined || !readable(claims, told, kinds) ? null : told.payload;
    },
    messages(claims, tenant, ticketId) {
      return (messages.get(keyOf(tenant, ticketId)) ?? [])
        .filter(({ born, deleted, stands }) => born !== null && !deleted && readable(claims, stands, kinds))
        .sort((a, b) => newestFirst((b.born as Told).id, (a.born as Told).id))
        .map(({ stands }) => stands.payload);
    },
  };
}
