/**
 * The way in: `publish` checks events against the catalog, derives their audiences, and appends them to the log as one
 * commit. It resolves once they are durable; they reach subscriptions through the tail only (design law 1).
 */
import { createHash } from 'node:crypto';
import { audiencesOf, type Keying } from '../contract/audiences.ts';
import type { Cursor } from '../contract/cursor.ts';
import { BridgeError, type FieldError, fieldsError, MAX_BODY_FAULTS } from '../contract/errors.ts';
import { type Aliases, type Audience, type CheckedEvent, type EventCatalog, LEGACY_NAMES } from '../contract/events.ts';
import { emittedNames } from '../contract/frames.ts';
import { nearest } from '../contract/nearest.ts';
import { MAX_BATCH_ROOMS } from '../contract/publishing.ts';
import type { Room } from '../contract/rooms.ts';
import type { Metrics } from '../metrics/metrics.ts';
import type { AppendEvent, AppendedEvent, AppendResult, Log } from '../store/store.ts';

export interface PublishInput extends Audience {
  readonly event: unknown;
  readonly payload: unknown;
}

export interface Published {
  readonly id: Cursor;
  readonly event: string;
  /** Of a duplicate: those of the first. */
  readonly rooms: readonly Room[];
  readonly duplicate: boolean;
}

export interface PublishOptions {
  /** A repeat under the same key of the same publisher returns the first result, for DEDUPE_HOURS. */
  readonly idempotencyKey?: string | null;
  readonly publisher?: string;
  /** Whether this publisher may publish for a tenant. Default: yes. */
  readonly mayPublish?: (tenantId: string) => boolean;
  /** JSON Pointer of the n-th input in the publisher's body, for field errors. Default: the body is the input. */
  readonly pathOf?: (index: number) => string;
}

/**
 * Appends all inputs or none; resolves once they are durable.
 * @throws {BridgeError} `unknown_event`, `invalid_payload`, `invalid_body`, `batch_too_large`, `forbidden`, `idempotency_conflict`, `unavailable`,
 * `outcome_unknown`
 */
export type Publish = (inputs: readonly PublishInput[], options?: PublishOptions) => Promise<Published[]>;

export interface PublishDeps {
  readonly store: Pick<Log, 'append'>;
  readonly catalog: EventCatalog;
  readonly keying: Keying;
  readonly aliases: Aliases;
  readonly metrics: Metrics;
}

/** @param onAccepted gets the cursor of each new record once it is durable */
export function createPublish(deps: PublishDeps, onAccepted: (id: Cursor) => void): Publish {
  const { store, catalog, keying, aliases, metrics } = deps;
  const namesOf = new Map(catalog.names.map((name) => [name, emittedNames(name, aliases)]));

  /** What is wrong with a name that the catalog does not have. */
  function faultOfName(event: unknown): string {
    const rule = `must be one of ${catalog.names.join(', ')}, or an event that the operator declares with EXTRA_EVENTS`;
    if (event === undefined) return `is required and ${rule}`;
    const canonical = Object.keys(LEGACY_NAMES).find((name) => LEGACY_NAMES[name]?.includes(String(event)));
    const near = canonical ?? nearest(String(event), catalog.names);
    return near === null ? rule : `${rule}; did you mean ${near}?`;
  }

  function check(inputs: readonly PublishInput[], pathOf: (index: number) => string): AppendEvent[] {
    const checked: AppendEvent[] = [];
    const errors: FieldError[] = [];
    let code: 'invalid_body' | 'invalid_payload' | 'unknown_event' | null = null;
    for (let index = 0; index < inputs.length; index++) {
      const input = inputs[index] as PublishInput;
      const { event } = input;
      const result = typeof event === 'string' ? catalog.check(event, input.payload, input) : UNKNOWN_EVENT;
      if (result.kind === 'ok') {
        const { tenantId, rooms } = result.event;
        checked.push({ ...result.event, audiences: audiencesOf(keying, tenantId, rooms) });
        continue;
      }
      const path = pathOf(index);
      if (result.kind === 'unknown_event') {
        code = 'unknown_event';
        errors.push({ in: 'body', path: `${path}/event`, message: faultOfName(event) });
      } else {
        code ??= result.kind;
        for (const error of result.errors) errors.push({ ...error, path: `${path}${error.path}` });
      }
      if (errors.length >= MAX_BODY_FAULTS) break;
    }
    const [first, ...rest] = errors;
    if (first === undefined || code === null) return checked;
    for (const { event } of inputs) {
      metrics.published(catalog.names.find((name) => name === event) ?? null, 'rejected', 1);
    }
    throw fieldsError(code, [first, ...rest.slice(0, MAX_BODY_FAULTS - 1)]);
  }

  function roomsNamedIn(events: readonly CheckedEvent[]): number {
    let sum = 0;
    for (const { roomsAreNamed, rooms } of events) if (roomsAreNamed) sum += rooms.length;
    return sum;
  }

  function count(events: readonly CheckedEvent[], result: 'rejected' | 'failed'): void {
    for (const { event } of events) metrics.published(event, result, 1);
  }

  return async function publish(inputs, options = {}) {
    const { mayPublish = everyTenant, idempotencyKey = null, publisher = 'in-process', pathOf = wholeBody } = options;
    const checked = check(inputs, pathOf);
    const named = roomsNamedIn(checked);
    if (named > MAX_BATCH_ROOMS) {
      count(checked, 'rejected');
      throw new BridgeError(
        'batch_too_large',
        `The batch names ${named} rooms; the maximum is ${MAX_BATCH_ROOMS}. Split it.`,
      );
    }
    if (!checked.every(({ tenantId }) => mayPublish(tenantId))) {
      count(checked, 'rejected');
      throw new BridgeError('forbidden', 'The token may not publish for this tenant.');
    }
    const idempotency =
      idempotencyKey === null ? null : { key: `${publisher}\n${idempotencyKey}`, fingerprint: fingerprint(checked) };
    const startedAtMs = performance.now();
    let result: AppendResult;
    try {
      result = await store.append({ events: checked, idempotency, acceptedAtMs: Date.now() });
    } catch (error) {
      metrics.publishDuration((performance.now() - startedAtMs) / 1000);
      count(checked, 'failed');
      throw error;
    }
    if (result.kind === 'conflict') {
      count(checked, 'rejected');
      throw new BridgeError('idempotency_conflict', 'This Idempotency-Key was used before with a different body.');
    }
    metrics.publishDuration((result.durableAtMs - startedAtMs) / 1000);
    return checked.map(({ event, tenantId }, index) => {
      const { id, duplicate, rooms } = result.events[index] as AppendedEvent;
      metrics.published(event, duplicate ? 'duplicate' : 'accepted', 1);
      if (!duplicate) {
        metrics.emitted(namesOf.get(event) ?? [], rooms, tenantId);
        onAccepted(id);
      }
      return { id, event, rooms, duplicate };
    });
  };
}

const everyTenant = (): boolean => true;
const wholeBody = (): string => '';
const UNKNOWN_EVENT = { kind: 'unknown_event' } as const;

/** Hashes the parsed events, so that the same events are the same body, regardless of white space. */
function fingerprint(events: readonly CheckedEvent[]): string {
  const hash = createHash('sha256');
  for (const { event, payload, tenantId, rooms, roomsAreNamed } of events) {
    hash.update(`${event}\n${payload}\n${roomsAreNamed ? `${tenantId}\n${[...rooms].sort()}\n` : ''}`);
  }
  return hash.digest('base64url');
}

/**
 * The JSON value of a payload that a program passes as an object: what consumers receive is what is checked. An ORM's
 * entity becomes its fields, a Date its ISO string. An object without JSON (a cycle, a BigInt) is returned as it is, and
 * the catalog's check refuses it.
 */
export function toJsonValue(payload: object): unknown {
  try {
    return JSON.parse(JSON.stringify(payload));
  } catch {
    return payload;
  }
}
