/**
 * The quick check of payloads agrees with the schemas (contract/plain.ts): what it accepts they accept, for all events and
 * declared kinds, whatever the values, and the event is then made of the payload in the one way that there is; and it accepts nearly all that is valid, so that it is worth having.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { payloadSchemas } from '../src/contract/events.ts';
import { MESSAGE_STATUSES } from '../src/contract/facts.ts';
import { instantKey, quickInstantKey } from '../src/contract/instants.ts';
import { plainPayloads } from '../src/contract/plain.ts';
import { createRandom } from './support/random.ts';

const SEED = 19;
const ROUNDS = 40_000;
const KINDS = ['team', 'constructor', 'instance'];
const DAY = new URL('../../shared/feed/inbox-day.ndjson', import.meta.url);

const schemas = payloadSchemas(KINDS);
const plain = plainPayloads(KINDS);
type Name = keyof typeof plain;
const NAMES = Object.keys(plain) as Name[];

const json = (text: string): unknown => JSON.parse(text);
const AT = '2024-06-01T12:00:00.000Z';
const IDS: readonly unknown[] = ['t1', 'a:b', 7, 'é', '𝒳', 'x'.repeat(128), '𝒳'.repeat(128), -0, 2 ** 53 - 1];
const INSTANTS: readonly unknown[] = [
  AT,
  '2024-02-29T00:00:00Z',
  '2000-02-29T23:59:59.9+14:00',
  '0000-01-01T00:00:00-23:59',
];
const RECORDS: readonly unknown[] = [{}, { id: 1 }, json('{"__proto__":null}'), json('{"toString":1,"a":{"b":[]}}')];
const NASTY: readonly unknown[] = [
  ...[undefined, null, '', ' ', '*', 'a b', 'a,b', 'a\u0000', '\ud800', 'x'.repeat(129), '𝒳'.repeat(129), '\u00a0'],
  ...[0, -1, 1.5, 2 ** 53, Number.POSITIVE_INFINITY, Number.NaN, true, false, [], ['t1'], {}, [{}], [null]],
  ...['2023-02-29T00:00:00Z', '1900-02-29T00:00:00Z', '2024-04-31T00:00:00Z', '2024-13-01T00:00:00Z'],
  ...['2024-06-01T24:00:00Z', '2024-06-01T12:60:00Z', '2024-06-01T12:00:60Z', '2024-06-01T12:00Z', '2024-06-01'],
  ...['2024-06-01T12:00:00', '2024-06-01T12:00:00.Z', '2024-06-01t12:00:00z', '2024-06-01T12:00:00+0100', `${AT}\n`],
  ...['2024-06-01T12:00:00+24:00', '2024-06-01T12:00:00,5Z', ' 2024-06-01T12:00:00Z', '+002024-06-01T12:00:00Z'],
  ...MESSAGE_STATUSES,
  ...['{"constructor":1}', '{"constructor":null}', '{"constructor":{"prototype":1}}'].map(json),
  ...[json('{"__proto__":{"ticketId":"t"}}'), Object.create(null), Object.create({ id: 1 }), new Date(0), new Map()],
];
const FIELDS: Readonly<Record<string, readonly unknown[]>> = {
  ...{
    tenantId: IDS,
    ticketId: IDS,
    ticketStatus: ['OPEN', 'x'],
    ticketUpdatedAt: INSTANTS,
    messageUpdatedAt: INSTANTS,
  },
  ...{
    agreementId: [...IDS, '', null],
    instanceId: ['', 'i', null],
    messageId: ['m', 5],
    providerMessageId: ['', 'p'],
  },
  ...{ ticket: RECORDS, message: RECORDS, messageStatus: [null, undefined, ...MESSAGE_STATUSES], userId: IDS },
  ...Object.fromEntries(KINDS.map((kind) => [`${kind}Id`, [...IDS, '', null]])),
};

const random = createRandom(SEED);

/** A payload with good values, but for a few fields; JSON text makes most of them, as a request does. */
function payloadOf(event: Name, faults: number): unknown {
  const fields = Object.keys(FIELDS).filter((name) => name !== 'instanceId' || random.chance(0.3));
  const payload: Record<string, unknown> = {};
  for (const name of fields) payload[name] = random.pick(FIELDS[name] as readonly unknown[]);
  if (event === 'messagesDeleted') payload.messageStatus = null;
  for (let fault = 0; fault < faults; fault++) {
    const name = random.pick(fields);
    if (random.chance(0.2)) delete payload[name];
    else payload[name] = random.pick(NASTY);
  }
  if (random.chance(0.05)) Object.defineProperty(payload, '__proto__', { value: { ticketId: 'x' }, enumerable: true });
  if (random.chance(0.05)) Object.assign(payload, { constructor: random.pick(NASTY) });
  return payload;
}

function assertAgree(name: Name, payload: unknown): 'quick' | 'slow' | 'invalid' {
  const isValid = schemas[name].safeParse(payload).success;
  const isPlain = plain[name](payload);
  assert.ok(isValid || !isPlain, `seed ${SEED}: the schema of ${name} refuses ${JSON.stringify(payload)}`);
  return isPlain ? 'quick' : isValid ? 'slow' : 'invalid';
}

test(`the quick check accepts only what the schemas accept (seed ${SEED})`, () => {
  for (const name of NAMES) {
    const counts = { quick: 0, slow: 0, invalid: 0 };
    for (let round = 0; round < ROUNDS / NAMES.length; round++) {
      const payload = random.chance(0.01) ? random.pick(NASTY) : payloadOf(name, round % 3);
      counts[assertAgree(name, payload)]++;
    }
    // Both kinds of payloads were tried, and of the valid ones only those that are not JSON take the long way.
    assert.ok(counts.invalid > 1_000 && counts.quick > 1_000, JSON.stringify(counts));
    assert.ok(counts.quick > 0.99 * (counts.quick + counts.slow), `${name}: ${JSON.stringify(counts)}`);
  }
});

test('every nasty value in every field, alone', () => {
  for (const name of NAMES) {
    const good = Object.fromEntries(Object.entries(FIELDS).map(([field, values]) => [field, values[0]]));
    for (const field of Object.keys(FIELDS)) {
      for (const value of [...NASTY, ...(FIELDS[field] ?? [])]) assertAgree(name, { ...good, [field]: value });
    }
    for (const payload of NASTY) assertAgree(name, payload);
  }
});

if (existsSync(DAY)) test('the day of the shared feed takes the quick way', theDayTakesTheQuickWay);

function theDayTakesTheQuickWay(): void {
  const names: Readonly<Record<string, Name>> = {
    'tickets.updated': 'ticketsUpdated',
    'messages.new': 'messagesNew',
    'messages.updated': 'messagesUpdated',
    'messages.deleted': 'messagesDeleted',
  };
  const counts = { quick: 0, slow: 0, invalid: 0 };
  for (const line of readFileSync(DAY, 'utf8').trim().split('\n')) {
    const { event, payload } = JSON.parse(line) as { event: string; payload: unknown };
    counts[assertAgree(names[event] ?? 'declared', payload)]++;
  }
  assert.ok(counts.quick > 0 && counts.slow === 0, JSON.stringify(counts));
}

test('the quick key of an instant is its key', () => {
  const random = createRandom(SEED);
  const digits = (count: number, below: number): string => String(random.whole(0, below - 1)).padStart(count, '0');
  const isValid = (text: string): boolean => schemas.messagesDeleted.shape.messageUpdatedAt.safeParse(text).success;
  let quick = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const day = `${digits(4, 10_000)}-${digits(2, 14)}-${digits(2, 33)}`;
    const fraction = random.pick(['', '.5', '.000', '.120', '.1000000', `.${digits(3, 1000)}`, `.${digits(3, 1000)}`]);
    const zone = random.pick(['Z', 'Z', 'Z', '+02:00', '-11:30']);
    const text = `${day}T${digits(2, 25)}:${digits(2, 61)}:${digits(2, 61)}${fraction}${zone}`;
    if (!isValid(text)) continue;
    if (text.length === AT.length) quick++;
    assert.equal(quickInstantKey(text), instantKey(text), text);
  }
  assert.ok(quick > ROUNDS / 10);
  for (const text of ['yesterday', '9999-99-99T99:99:99.999Z', '']) {
    assert.throws(() => quickInstantKey(text), RangeError);
  }
});
