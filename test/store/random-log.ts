/**
 * The random life of a log: requests of every sort of event, trims and erasures, to be played to several stores. A seed
 * draws the same steps for all of them.
 */
import assert from 'node:assert/strict';
import { audienceOf, type Keying } from '../../src/contract/audiences.ts';
import { createEventCatalog } from '../../src/contract/events.ts';
import { MESSAGE_STATUSES } from '../../src/contract/facts.ts';
import type { AppendEvent, AppendRequest, EraseTarget, Retention, Store } from '../../src/store/store.ts';
import type { Random } from '../support/random.ts';
import { HOUR, KEEP, NOW } from './conformance.ts';

export const TENANTS = ['t1', 't2', 't3'] as const;
export const TICKETS = ['k1', 'k2', 'k3', 'k4', 'k5', '7'] as const;
export const AGREEMENTS = ['a', 'b'] as const;
export const STATUSES = ['OPEN', 'CLOSED'] as const;
/** Rooms that a publisher may name for an event of any tenant. */
export const NAMED = ['queue:a', 'queue:b', 'user:u', 'ticket:k1', 'ticket:k2', 'agreement:a'] as const;

export type Step =
  /** Sent at once, in this order. */
  | { readonly kind: 'append'; readonly requests: readonly AppendRequest[] }
  | { readonly kind: 'trim'; readonly retention: Retention }
  | { readonly kind: 'erase'; readonly target: EraseTarget };

const KINDS = ['queue'];

/** The instant of the n-th second. */
export const SECOND = (n: number): string => new Date(NOW + 1000 * n).toISOString();

export interface PlanOptions {
  readonly random: Random;
  readonly keying: Keying;
  /** Of 1000 steps, how many are a trim, and how many an erasure. */
  readonly trims: number;
  readonly erasures: number;
  /** The most events of a request. */
  readonly most: number;
  /** The most requests of a step. Default 3. */
  readonly atOnce?: number;
}

export interface Plan {
  next(): Step;
  /**
   * From now on, these are events that the operator has declared (`EXTRA_EVENTS`), beside `tickets.new`. A declared change
   * of a message is an event like any other, and changes no state (protocol §3).
   */
  declare(names: readonly string[]): void;
}

export function createPlan({ random, keying, trims, erasures, most, atOnce = 3 }: PlanOptions): Plan {
  const { pick, whole, chance } = random;
  const keys = new Map<string, AppendRequest>();
  /** Some of those that were sent, to be sent again. */
  const sent: AppendEvent[] = [];
  let catalog = createEventCatalog(['tickets.new'], KINDS);
  let declared: readonly string[] = [];
  let drawn = 0;
  let requests = 0;
  let atMs = NOW;

  function check(name: string, payload: object, rooms: readonly string[] | null, beside: string | null = null) {
    const result = catalog.check(name, payload, { rooms, tenantId: beside });
    assert.ok(result.kind === 'ok', `${name} ${JSON.stringify(payload)}: ${JSON.stringify(result)}`);
    const { rooms: to, tenantId } = result.event;
    return { ...result.event, audiences: to.map((room) => audienceOf(keying, tenantId, room)) };
  }

  function roomsFor(tenantId: string): readonly string[] | null {
    if (chance(0.7)) return null;
    const rooms = [...NAMED, `tenant:${tenantId}`].filter(() => chance(0.3));
    return rooms.length === 0 ? [pick(NAMED)] : rooms;
  }

  function draw(): AppendEvent {
    drawn++;
    const tenantId = pick(TENANTS);
    // A number and the text of it are one id.
    const ticketId = pick<string | number>([...TICKETS, 7]);
    const of = { tenantId, ticketId, agreementId: pick([...AGREEMENTS, null, '', undefined]) };
    const queue = chance(0.2) ? { queueId: pick(['a', 'b']) } : {};
    const state = { ticketStatus: pick(STATUSES), ticketUpdatedAt: SECOND(whole(0, 6)) };
    const text = pick(['Olá MUNDO', 'say "hi"', 'x', 'x'.repeat(whole(0, 300))]);
    const rooms = roomsFor(tenantId);
    const beside = chance(0.1) ? tenantId : null;
    const sort = pick([
      ...(['ticket', 'ticket', 'new', 'new', 'new', 'updated', 'updated', 'updated'] as const),
      ...(['updated', 'deleted', 'event', 'event'] as const),
    ]);
    if (sort === 'ticket') {
      return check('tickets.updated', { ...of, ...state, ...queue, ticket: { n: drawn, text } }, rooms, beside);
    }
    if (sort === 'event') {
      // Some without a ticket, and some of a ticket that nobody knows yet or ever.
      const about = pick([{}, of, { ...of, ticketId: 'nobody' }, { ...of, userId: 'u' }]);
      const own = beside === null || chance(0.5) ? { tenantId } : {};
      return check('tickets.new', { ...about, ...own, tenantId, n: drawn, text }, rooms, beside);
    }
    const ids = pick([
      { messageId: pick(['m1', 'm2', 'm3', 'm4', 12]) },
      { providerMessageId: pick(['m1', 'p1', 'p2', 'p3', 12]), messageId: pick([null, '', undefined]) },
      { messageId: pick(['m1', 'm2', 'm3', 'm4', 'm\ud800', 'm\ud801']), providerMessageId: pick(['p1', 'p2', 'p3']) },
    ]);
    const at = { messageUpdatedAt: SECOND(whole(0, 4)) };
    const messageStatus = pick([null, undefined, ...MESSAGE_STATUSES]);
    // Few numbers, so that some are repeats.
    const message = { n: whole(0, 5), text: pick(['a', text]) };
    if (sort === 'new') return check('messages.new', { ...of, ...state, ...ids, ...queue, message }, rooms, beside);
    if (declared.includes(`messages.${sort}`)) {
      return check(`messages.${sort}`, { ...of, ...pick([{ ...ids, ...at }, {}]), n: drawn, text }, rooms, beside);
    }
    if (sort === 'updated') return check('messages.updated', { ...of, ...ids, ...at, messageStatus, message }, rooms);
    // A deletion ends the story of a message, so most are of two ids.
    const gone = chance(0.8) ? { messageId: pick(['m4', 'm5']) } : ids;
    return check('messages.deleted', { ...of, ...gone, ...at }, rooms);
  }

  function drawRequest(): AppendRequest {
    // A clock that steps now and then, and by more than an hour.
    atMs += chance(0.03) ? whole(-2 * HOUR, 2 * HOUR) : whole(0, 60_000);
    const known = pick([...keys.keys(), null]);
    if (known !== null && chance(0.15)) {
      const { events, idempotency } = keys.get(known) as AppendRequest;
      const fingerprint = chance(0.8) ? (idempotency?.fingerprint ?? '') : 'another';
      return { events, idempotency: { key: known, fingerprint }, acceptedAtMs: atMs };
    }
    const events = Array.from({ length: whole(1, most) }, () =>
      sent.length > 0 && chance(0.15) ? pick(sent) : draw(),
    );
    for (const event of events) if (chance(0.3)) sent.push(event);
    if (sent.length > 60) sent.splice(0, 30);
    requests++;
    const key = chance(0.2) ? `key-${requests}` : null;
    const idempotency = key === null ? null : { key, fingerprint: `body-${requests}` };
    const request: AppendRequest = { events, idempotency, acceptedAtMs: atMs };
    if (key !== null) keys.set(key, request);
    if (keys.size > 12) keys.delete([...keys.keys()][0] as string);
    return request;
  }

  function drawRetention(): Retention {
    const some = <T>(make: () => T, otherwise: T): T => (chance(0.5) ? make() : otherwise);
    return {
      ...KEEP,
      maxRecords: some(() => pick([0, whole(1, 20), whole(1, 200)]), KEEP.maxRecords),
      trimBeforeMs: some(() => atMs - whole(0, 3 * HOUR), 0),
      stateBeforeMs: chance(0.3) ? atMs - whole(0, 3 * HOUR) : 0,
      dedupeBeforeMs: chance(0.3) ? atMs - whole(0, 2 * HOUR) : 0,
    };
  }

  function next(): Step {
    const chosen = whole(1, 1000);
    if (chosen <= trims) return { kind: 'trim', retention: drawRetention() };
    if (chosen <= trims + erasures) {
      return { kind: 'erase', target: { tenantId: pick(TENANTS), ticketId: chance(0.2) ? null : pick(TICKETS) } };
    }
    return { kind: 'append', requests: Array.from({ length: whole(1, atOnce) }, drawRequest) };
  }

  return {
    next,
    declare(names) {
      declared = names;
      catalog = createEventCatalog(['tickets.new', ...names], KINDS);
      // What was checked by another catalog has other facts.
      keys.clear();
      sent.length = 0;
    },
  };
}

/** What a step answers; cursors are as the store made them. */
export async function play(store: Store, step: Step): Promise<unknown> {
  if (step.kind === 'trim') return store.trim(step.retention);
  if (step.kind === 'erase') return store.erase(step.target);
  return Promise.all(step.requests.map((request) => store.append(request)));
}
