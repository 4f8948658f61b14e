/**
 * protocol §3, §7, §9: messages that change. Publishers send new messages, updates and deletions in any order, at once, to
 * any node, with repeats, under any of the message's ids; the state, the rooms and the duplicates are those that the model
 * in test/support/oracle.ts makes of the log.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startBridge, type TestBridge } from '../support/bridge.ts';
import { type Fact, type Payload, worldOf } from '../support/oracle.ts';
import { createRandom, type Random } from '../support/random.ts';
import { missing, startRedis } from '../support/redis.ts';

const KINDS = { declared: ['queue'], claimed: [] };
const TENANT = 'acme';
/** Some are the same instant in milliseconds. */
const INSTANTS = [
  '2024-06-01T12:00:00Z',
  '2024-06-01T12:00:00.0009Z',
  '2024-06-01T14:00:00.000+02:00',
  '2024-06-01T12:00:00.001Z',
  '2024-06-01T11:59:59.999Z',
];
const STATUSES = ['failed', 'queued', 'sent', 'delivered', 'read', 'played'];

interface Drawn {
  readonly event: string;
  readonly payload: Payload;
  readonly rooms: readonly string[] | null;
}

interface Answer {
  readonly id: string;
  readonly rooms: readonly string[];
  readonly duplicate: boolean;
}

/** Events about a few messages of one ticket, which share ids as publishers' mistakes and late knowledge make them. */
function drawTicket(random: Random, ticketId: string, length: number): Drawn[] {
  const drawn: Drawn[] = [];
  const changes = Array<string>(6).fill('messages.updated');
  const events = ['messages.new', ...changes, ...(random.chance(0.5) ? ['messages.deleted'] : [])];
  // One message whose changes know it by one id or the other, or several that are mixed up.
  const isOne = random.chance(0.5);
  const own = isOne ? [null, 'm'] : [null, '', 1, '1', 'm'];
  const provider = isOne ? [null, 'p'] : [null, 'p', 'm', 2];
  for (let number = 0; number < length; number++) {
    const again = drawn.at(-1);
    if (again !== undefined && random.chance(0.1)) {
      drawn.push(again);
      continue;
    }
    const event = random.pick(events);
    const ids = { messageId: random.pick(own), providerMessageId: random.pick(provider) };
    const payload = {
      tenantId: TENANT,
      ticketId,
      queueId: random.pick([null, 'a', 'b']),
      ...(ids.messageId || ids.providerMessageId ? ids : { messageId: 'm' }),
      ...(event === 'messages.new' ? { ticketStatus: 'OPEN', ticketUpdatedAt: random.pick(INSTANTS) } : {}),
      ...(event === 'messages.new' ? {} : { messageUpdatedAt: random.pick(INSTANTS) }),
      ...(event === 'messages.updated' && random.chance(0.7) ? { messageStatus: random.pick(STATUSES) } : {}),
      ...(event === 'messages.deleted' ? {} : { message: { number } }),
    };
    const rooms = random.pick([null, null, ['queue:a'], ['user:u', `ticket:${ticketId}`]]);
    drawn.push({ event, payload, rooms });
  }
  return drawn;
}

function changes(start: () => Promise<{ nodes: TestBridge[]; stop: () => Promise<void> }>): void {
  const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
  const random = createRandom(seed);
  let nodes: TestBridge[] = [];
  let stop = async (): Promise<void> => {};
  before(async () => {
    ({ nodes, stop } = await start());
  });
  after(() => stop());
  const node = (): TestBridge => random.pick(nodes);

  async function publish({ event, payload, rooms }: Drawn, key?: string): Promise<Answer> {
    const headers: Record<string, string> = key === undefined ? {} : { 'idempotency-key': key };
    const { status, body } = await node().post({ event, payload, rooms }, headers);
    assert.equal(status, body.duplicate ? 200 : 201, JSON.stringify(body));
    return body;
  }

  async function messagesOf(ticketId: string): Promise<Payload[]> {
    const items: Payload[] = [];
    for (let page = ''; ; ) {
      const response = await fetch(`${node().url}/tickets/${ticketId}/messages?tenantId=${TENANT}&limit=2${page}`);
      const body = (await response.json()) as { items: Payload[]; nextPage: string | null };
      items.push(...body.items);
      if (body.nextPage === null) return items;
      page = `&page=${encodeURIComponent(body.nextPage)}`;
    }
  }

  /** Compares what the server did of a ticket with the model. */
  async function judge(ticketId: string, answers: readonly { drawn: Drawn; answer: Answer }[]): Promise<void> {
    const facts = answers
      .filter(({ answer }) => !answer.duplicate)
      .map(({ drawn: { event, payload, rooms }, answer: { id } }): Fact => {
        return { id, event, tenant: TENANT, payload, named: rooms };
      });
    const told = answers
      .map(({ drawn: { event, payload, rooms }, answer }) => ({ answer, event, payload, named: rooms }))
      .sort((a, b) => (a.answer.id < b.answer.id ? -1 : 1));
    const story = `seed ${seed}, ${ticketId}\n${told.map((line) => JSON.stringify(line)).join('\n')}`;
    const world = worldOf(facts, KINDS);
    const first = new Map(world.log.map((record) => [record.id, record]));
    assert.equal(first.size, facts.length, story);
    const texts = new Set<string>();
    for (const { id, event, payload, rooms } of world.log) {
      const text = JSON.stringify([event, payload, [...rooms].sort()]);
      assert.ok(!texts.has(text), `a repeat was accepted: ${id}\n${story}`);
      texts.add(text);
    }
    for (const { drawn, answer } of answers) {
      const record = first.get(answer.id);
      assert.ok(record, `a duplicate of nothing: ${answer.id}\n${story}`);
      assert.equal(record.event, drawn.event, story);
      assert.deepEqual([...answer.rooms].sort(), [...record.rooms].sort(), `the rooms of ${answer.id}\n${story}`);
      if (drawn.event !== 'messages.new') assert.deepEqual(record.payload, drawn.payload, story);
    }
    assert.deepEqual(await messagesOf(ticketId), world.messages(null, TENANT, ticketId), story);
  }

  for (const publishers of [1, 4]) {
    test(`any order, ${publishers} at once (seed ${seed})`, { timeout: 60_000 }, async () => {
      for (let round = 0; round < 4; round++) {
        const tickets = Array.from({ length: 12 }, (_, index) => `t-${publishers}-${round}-${index}`);
        await Promise.all(
          tickets.map(async (ticketId) => {
            const left = drawTicket(random, ticketId, random.whole(2, 12));
            const answers: { drawn: Drawn; answer: Answer }[] = [];
            const publisher = async (): Promise<void> => {
              for (let drawn = left.shift(); drawn !== undefined; drawn = left.shift()) {
                const key = random.chance(0.2) ? `${ticketId}-${left.length}` : undefined;
                const sent = [publish(drawn, key)];
                // A retry whose first answer is still under way.
                if (key !== undefined) sent.push(publish(drawn, key));
                for (const answer of await Promise.all(sent)) answers.push({ drawn, answer });
              }
            };
            await Promise.all(Array.from({ length: publishers }, publisher));
            await judge(ticketId, answers);
          }),
        );
      }
    });
  }

  test('ticks never go back, in all 24 orders, with repeats and from several publishers', {
    timeout: 60_000,
  }, async () => {
    const orders = permutations(['queued', 'sent', 'delivered', 'read']);
    assert.equal(orders.length, 24);
    const payloadOf = (ticketId: string, messageStatus?: string) => ({
      tenantId: TENANT,
      ticketId,
      providerMessageId: 'wamid.1',
      ...(messageStatus === undefined
        ? { ticketStatus: 'OPEN', ticketUpdatedAt: INSTANTS[0] }
        : { messageUpdatedAt: INSTANTS[0], messageStatus }),
      message: { status: messageStatus ?? 'none' },
    });
    const final = async (ticketId: string): Promise<string> => {
      const messages = await messagesOf(ticketId);
      assert.equal(messages.length, 1, ticketId);
      return String(messages[0]?.messageStatus);
    };
    await Promise.all(
      orders.map(async (order, index) => {
        const ticketId = `ticks-${index}`;
        const newAt = random.whole(0, 4);
        let highest = -1;
        for (let step = 0; step <= 4; step++) {
          if (step === newAt) await publish({ event: 'messages.new', payload: payloadOf(ticketId), rooms: null });
          const status = order[step];
          if (status === undefined) continue;
          for (let repeat = 0; repeat < random.whole(1, 2); repeat++) {
            await publish({ event: 'messages.updated', payload: payloadOf(ticketId, status), rooms: null });
          }
          highest = Math.max(highest, STATUSES.indexOf(status));
          if (step >= newAt) assert.equal(await final(ticketId), STATUSES[highest], `${order}, step ${step}`);
        }
        assert.equal(await final(ticketId), 'read', `${order}`);
      }),
    );
    await Promise.all(
      orders.map(async (order, index) => {
        const ticketId = `ticks-at-once-${index}`;
        await Promise.all([
          ...[...order, ...order].map((status) =>
            publish({ event: 'messages.updated', payload: payloadOf(ticketId, status), rooms: null }),
          ),
          publish({ event: 'messages.new', payload: payloadOf(ticketId), rooms: null }),
        ]);
        assert.equal(await final(ticketId), 'read', ticketId);
      }),
    );
  });
}

function permutations<T>(items: readonly T[]): T[][] {
  if (items.length === 0) return [[]];
  return items.flatMap((item, index) =>
    permutations(items.filter((_, other) => other !== index)).map((rest) => [item, ...rest]),
  );
}

describe('changes of messages on SQLite', () =>
  changes(async () => {
    const bridge = await startBridge({ roomKinds: KINDS.declared });
    return { nodes: [bridge], stop: () => bridge.close() };
  }));

describe('changes of messages on Redis, two nodes', { skip: missing('redis-server') }, () =>
  changes(async () => {
    const redis = await startRedis();
    const options = { roomKinds: KINDS.declared, storeUrl: redis.url };
    const nodes = [await startBridge(options), await startBridge(options)];
    return {
      nodes,
      async stop() {
        for (const one of nodes) await one.close();
        await redis.stop();
      },
    };
  }),
);
