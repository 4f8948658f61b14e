/**
 * `POST /events` (protocol §9): publishes one event or a batch, all or nothing, and answers once it is durable.
 *
 * This route checks the outer shape of the body. The bus checks names and payloads, because it also serves publishers in
 * the same process. The payload goes on as it was parsed, never as a schema's output.
 */
import type { IncomingMessage } from 'node:http';
import { type Authenticate, answerJson, type Handler } from '../../answers/answer.ts';
import { faultsOfMembers, hasOnlyMembers, isObject, readJson, wrongShape } from '../../answers/body.ts';
import { requireNoQuery } from '../../answers/query.ts';
import { createRateLimit } from '../../auth/limits.ts';
import { mayPublish, publisherKey } from '../../auth/principal.ts';
import type { Revoked } from '../../auth/revocations.ts';
import type { Bus } from '../../bus/bus.ts';
import type { Published, PublishInput } from '../../bus/publish.ts';
import type { Config } from '../../config.ts';
import { BridgeError, fieldsError, MAX_BODY_FAULTS } from '../../contract/errors.ts';
import { IDEMPOTENCY_KEY, IDEMPOTENCY_KEY_RULE, MAX_BATCH } from '../../contract/publishing.ts';

export interface PublishDeps {
  readonly config: Config;
  readonly bus: Bus;
  readonly revoked: Pick<Revoked, 'current'>;
  readonly authenticate: Authenticate;
}

export function createPublishRoute({ config, bus, revoked, authenticate }: PublishDeps): Handler {
  const limit = config.ratePublish === null ? null : createRateLimit(config.ratePublish);

  return async (context) => {
    const principal = await authenticate(context);
    requireNoQuery(context);
    if (principal.kind === 'token' && !principal.scopes.has('publish')) {
      throw new BridgeError('forbidden', 'The token may not publish. Use one with the scope publish.');
    }
    const publisher = publisherKey(principal);
    limit?.requireToken(publisher, 'events');
    // Counted before the body is read: otherwise many requests that hold back their bodies would pass the check together.
    limit?.take(publisher);
    const { incoming } = context.env;
    const idempotencyKey = idempotencyKeyOf(incoming);
    const { inputs, isBatch } = inputsOf(await readJson(incoming, config.maxBodyBytes));
    limit?.take(publisher, inputs.length - 1);
    // The body may have taken long.
    const current = revoked.current(principal);
    const results = await bus.publish(inputs, {
      idempotencyKey,
      publisher,
      mayPublish: (tenantId) => mayPublish(current, tenantId),
      ...(isBatch && { pathOf: pathInBatch }),
    });
    const status = results.every(isDuplicate) ? 200 : 201;
    return answerJson(context, status, JSON.stringify(isBatch ? { results } : results[0]));
  };
}

function idempotencyKeyOf({ headers }: IncomingMessage): string | null {
  const key = headers['idempotency-key'];
  if (key === undefined) return null;
  // Node joins repeated headers with a comma and a space; the space fails the check.
  if (typeof key === 'string' && IDEMPOTENCY_KEY.test(key)) return key;
  const path = 'Idempotency-Key';
  throw fieldsError('invalid_request', [{ in: 'header', path, message: IDEMPOTENCY_KEY_RULE }]);
}

function inputsOf(body: unknown): { readonly inputs: readonly PublishInput[]; readonly isBatch: boolean } {
  if (!isObject(body)) throw wrongShape('', 'must be a JSON object');
  const isBatch = Object.hasOwn(body, 'events');
  if (isBatch && Object.hasOwn(body, 'event'))
    throw wrongShape('', 'must have either the members event and payload, or the member events');
  if (!isBatch && !Object.hasOwn(body, 'event'))
    throw wrongShape('/event', 'is required and must be the name of an event (or send a batch, which has events)');
  const errors = faultsOfMembers(body, isBatch ? BATCH_MEMBERS : EVENT_MEMBERS, '');
  const events = isBatch ? body.events : [body];
  if (!Array.isArray(events)) throw wrongShape('/events', 'must be an array');
  if (events.length === 0) throw wrongShape('/events', 'must have at least one event');
  if (events.length > MAX_BATCH) {
    throw new BridgeError(
      'batch_too_large',
      `The batch has ${events.length} events; the maximum is ${MAX_BATCH}. Split it.`,
    );
  }
  const inputs = events.map((event: unknown, index): PublishInput => {
    if (!isObject(event))
      throw wrongShape(`/events/${index}`, 'must be a JSON object with the members event and payload');
    if (isBatch && !hasOnlyMembers(event, EVENT_MEMBERS)) {
      errors.push(...faultsOfMembers(event, EVENT_MEMBERS, pathInBatch(index)));
    }
    const { event: name, payload, tenantId, rooms } = event;
    return { event: name, payload, tenantId: tenantId ?? null, rooms: rooms ?? null };
  });
  const [first, ...rest] = errors;
  if (first !== undefined) throw fieldsError('invalid_body', [first, ...rest.slice(0, MAX_BODY_FAULTS)]);
  return { inputs, isBatch };
}

const isDuplicate = ({ duplicate }: Published): boolean => duplicate;
const pathInBatch = (index: number): string => `/events/${index}`;

const BATCH_MEMBERS = ['events'];
const EVENT_MEMBERS = ['event', 'payload', 'tenantId', 'rooms'];
