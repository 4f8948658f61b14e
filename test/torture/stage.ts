/**
 * What a scenario plays on: a store, one or more servers, listeners behind a relay each, publishers, and the verdict.
 *
 * Publishers do what docs tell them: they repeat an unanswered publish under the same `Idempotency-Key`, and note every
 * answer. At the end the log is read back through the polling route, and everything goes to the checker.
 */
import { createHmac } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Fact } from '../support/oracle.ts';
import type { Random } from '../support/random.ts';
import {
  check,
  type History,
  type LogEntry,
  type Objection,
  type Publication,
  roomsOf,
  story,
  subjectOf,
} from './checker.ts';
import { type Listener, type ListenOptions, listen, roomQuery, TRANSPORTS, type Transport } from './listeners.ts';
import { type Relay, startRelay } from './relay.ts';
import { type Server, type ServerOptions, startServer } from './server.ts';
import { checkSignals, createSignallers, SIGNALS, type SignalListener } from './signals.ts';
import { createWitness } from './witness.ts';

export interface Kit {
  readonly seed: number;
  readonly random: Random;
  /** A directory of the scenario's own. */
  readonly scratch: string;
  /** How long it may go on, roughly. */
  readonly budgetMs: number;
  /** The long form: everything, not a sample. */
  readonly long: boolean;
  /** Not in continuous integration, where other work on the machine would fail a bound of time by chance. */
  readonly judgesTimes: boolean;
  /** Of the soak, when asked for. */
  readonly listeners: number | null;
  progress(text: string): void;
}

/** What a scenario found: objections fail it, figures stand in the table. */
export interface Verdict {
  readonly objections: readonly Objection[];
  readonly figures: Readonly<Record<string, string | number>>;
  /** The lives of the listeners concerned. */
  readonly stories?: readonly (readonly string[])[];
  /** Rows of a table of its own. */
  readonly rows?: readonly Readonly<Record<string, string | number>>[];
}

export const SECRET = 'torture-secret-of-more-than-32-bytes!';
export const OPERATOR = signToken({ tenantId: '*', scope: 'publish' });

export function signToken(claims: Readonly<Record<string, unknown>>): string {
  const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const body = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ exp: Math.floor(Date.now() / 1000) + 86_400, ...claims })}`;
  return `${body}.${createHmac('sha256', SECRET).update(body).digest('base64url')}`;
}

export interface StageOptions {
  readonly env: Readonly<Record<string, string>>;
  readonly auth?: 'none' | 'jwt';
  readonly tenants?: number;
  readonly nodes?: number;
  readonly server?: Omit<ServerOptions, 'env'>;
  readonly mayReset?: boolean;
  /** Logs that the scenario destroys. */
  readonly lostLogs?: ReadonlySet<string>;
}

interface Attempted {
  readonly key: string;
  readonly event: string;
  readonly payload: string;
  /** As named beside the payload. */
  readonly rooms: readonly string[] | null;
  readonly ids: string[];
  /** The key of the request, where it holds several. */
  batch?: string;
  unknown: boolean;
}

export interface Stage {
  readonly servers: Server[];
  readonly server: Server;
  readonly listeners: Listener[];
  readonly relays: Relay[];
  readonly tenants: readonly string[];
  readonly publications: Attempted[];
  /** Publishes answered with an id, and refused ones. */
  readonly counts: { acknowledged: number; refusals: number; duplicates: number };
  /** Listens through a relay of its own. */
  listen(transport: Transport, options?: Partial<ListenOptions> & { tenant?: string; node?: number }): Promise<Relay>;
  /** One of each transport for each of the rooms that matter. */
  audience(each?: number): Promise<void>;
  untilReady(): Promise<void>;
  /** One publish, tried once; resolves to its id, or null. */
  publish(options?: PublishOptions): Promise<string | null>;
  /** Publishers, and senders of signals, that go on until the returned function is called. */
  publishing(concurrency: number, pauseMs?: number, options?: PublishOptions): () => Promise<void>;
  /** Ends a node and starts it again on the same log; relays follow it. */
  restart(signal: NodeJS.Signals, node?: number): Promise<number | null>;
  start(node?: number, server?: Omit<ServerOptions, 'env'>): Promise<void>;
  retarget(node: number, to: number): void;
  readLog(): Promise<LogEntry[]>;
  /** Waits until every listener has what it is owed, a little longer for what it is not, and judges. */
  verdict(figures?: Readonly<Record<string, string | number>>, options?: VerdictOptions): Promise<Verdict>;
  close(): Promise<void>;
}

export interface VerdictOptions {
  readonly patienceMs?: number;
  readonly objections?: readonly Objection[];
  readonly trimmedBefore?: string | null;
  /** Records of the log, when it can no longer be read back whole. */
  readonly log?: readonly LogEntry[];
}

export interface PublishOptions {
  readonly bytes?: number;
  readonly node?: number;
  readonly tenant?: string;
  readonly event?: 'messages.new' | 'tickets.updated' | 'leads.updated';
  /** Not tried again when the answer is lost or is a refusal. */
  readonly once?: boolean;
}

interface Answer {
  readonly id?: string;
  readonly duplicate?: boolean;
}

const PUBLISH_TIMEOUT_MS = 8_000;
const SETTLE_MS = 250;
/** A listener may see a signal this much later than the server wrote it, on a machine that has other work. */
const SIGNAL_SLACK_MS = { judged: 1_000, unjudged: 5_000 };

const TICKETS = ['ticket-1', 'ticket-2', 'ticket-3'];
const QUEUES = ['queue-1', 'queue-2'];
const MESSAGE_STATUSES = ['failed', 'queued', 'sent', 'delivered', 'read', 'played'];

/** Every room that a publication may go to. */
const roomsOfTenant = (tenant: string): string[] => [
  `tenant:${tenant}`,
  'agreement:agreement-1',
  ...TICKETS.map((id) => `ticket:${id}`),
  ...QUEUES.map((id) => `queue:${id}`),
];

const idsOf = ({ messageId, providerMessageId }: Readonly<Record<string, unknown>>) => ({
  messageId,
  providerMessageId,
});

/** Cursors begin with the identity of their log. */
export const logOf = (cursor: string): string => cursor.slice(0, cursor.indexOf('-'));

export async function createStage(kit: Kit, options: StageOptions): Promise<Stage> {
  const { random } = kit;
  const auth = options.auth ?? 'none';
  const tenants = Array.from({ length: options.tenants ?? 2 }, (_, index) => `t${index}-${kit.seed}`);
  const env = {
    RETRY_MS: '40',
    HEARTBEAT_MS: '1000',
    EXTRA_EVENTS: 'leads.updated',
    ROOM_KINDS: 'queue',
    SIGNALS: SIGNALS.join(),
    RATE_SIGNALS: '1000',
    RATE_JOINS: '1000',
    AUTH_MODE: auth,
    JWT_SECRET: SECRET,
    ...options.env,
  };
  /** The log may be lost or trimmed, and the state with it. */
  const isLossy = options.mayReset === true;
  const startNode = (server = options.server): Promise<Server> => startServer({ env, ...server });
  const servers: Server[] = [];
  for (let node = 0; node < (options.nodes ?? 1); node++) servers.push(await startNode());
  const relays: { readonly relay: Relay; readonly node: number }[] = [];
  const listeners: Listener[] = [];
  const relayOf = new Map<Listener, Relay>();
  const publications: Attempted[] = [];
  const counts = { acknowledged: 0, refusals: 0, duplicates: 0 };
  const serverOf = (node: number): Server => servers[node] as Server;
  const authorization = (token: string): Record<string, string> =>
    auth === 'jwt' ? { authorization: `Bearer ${token}` } : {};

  const messages: { readonly attempted: Attempted; readonly about: Record<string, unknown> }[] = [];

  /** Rooms that a publisher names now and then, in place of those of the payload. */
  function drawRooms(tenant: string, ticketId: string): string[] | null {
    return random.pick([
      ...[null, null, null, [`ticket:${ticketId}`], ['queue:queue-2']],
      ...[
        ['queue:queue-1', `tenant:${tenant}`],
        ['agreement:agreement-1', `ticket:${ticketId}`, 'queue:queue-1'],
      ],
    ]);
  }

  /** A change of a message that was drawn before, acknowledged or not. */
  function drawChange(tenant: string, event: string): Attempted | null {
    const recent = messages.slice(-40).filter(({ about }) => about.tenantId === tenant);
    if (recent.length === 0) return null;
    const { attempted: message, about } = random.pick(recent);
    const key = `${kit.seed}-${publications.length}`;
    // Only of a message that stands in the log it is certain where a change without rooms goes.
    const isCertain = !isLossy && message.ids.length > 0 && random.chance(0.6);
    const heardBy = roomsOf('messages.new', about);
    const rooms = isCertain ? null : (drawRooms(tenant, String(about.ticketId)) ?? heardBy);
    const payload = {
      key,
      tenantId: tenant,
      ticketId: about.ticketId,
      ...random.pick([
        { messageId: about.messageId },
        { providerMessageId: about.providerMessageId },
        { ...idsOf(about) },
      ]),
      messageUpdatedAt: new Date(1_700_000_000_000 + random.whole(0, 3)).toISOString(),
      ...(event === 'messages.updated' ? { messageStatus: random.pick(MESSAGE_STATUSES), message: { id: key } } : {}),
      heardBy: rooms ?? heardBy,
    };
    return { key, event, payload: JSON.stringify(payload), rooms, ids: [], unknown: false };
  }

  function draw({ bytes, tenant = random.pick(tenants), event }: PublishOptions): Attempted {
    const number = publications.length;
    const key = `${kit.seed}-${number}`;
    const isFree = event === undefined && bytes === undefined;
    if (isFree && random.chance(0.3)) {
      const change = drawChange(tenant, random.chance(0.1) ? 'messages.deleted' : 'messages.updated');
      if (change !== null) {
        publications.push(change);
        return change;
      }
    }
    const name = event ?? random.pick(['messages.new', 'messages.new', 'tickets.updated', 'leads.updated'] as const);
    // The same ticket ids in every tenant: whoever keys rooms without the tenant mixes them up.
    const ticketId = random.pick(TICKETS);
    const text = 'é'.repeat(Math.floor((bytes ?? (random.chance(0.05) ? 20_000 : random.whole(0, 300))) / 2));
    const rooms = isFree ? drawRooms(tenant, ticketId) : null;
    const payload = {
      key,
      tenantId: tenant,
      ticketId,
      agreementId: random.chance(0.5) ? 'agreement-1' : null,
      queueId: random.chance(0.3) ? random.pick(QUEUES) : null,
      ...(name === 'messages.new' ? { messageId: `m-${key}`, providerMessageId: `p-${key}` } : {}),
      ticketStatus: 'OPEN',
      ticketUpdatedAt: new Date(1_700_000_000_000 + number).toISOString(),
      [name === 'messages.new' ? 'message' : 'ticket']: { id: key, text },
      ...(rooms === null ? {} : { heardBy: rooms }),
    };
    const attempted = { key, event: name, payload: JSON.stringify(payload), rooms, ids: [], unknown: false };
    publications.push(attempted);
    if (name === 'messages.new') messages.push({ attempted, about: payload });
    return attempted;
  }

  /** One request: an event, or a batch. `refused`: nothing was accepted and nothing will be (protocol §10). */
  async function attempt(group: readonly Attempted[], node: number): Promise<'acknowledged' | 'refused' | 'unknown'> {
    const { key } = group[0] as Attempted;
    const events = group.map(
      ({ event, payload, rooms }) =>
        `{"event":${JSON.stringify(event)},"payload":${payload},"rooms":${JSON.stringify(rooms)}}`,
    );
    const lost = (): 'unknown' => {
      for (const attempted of group) attempted.unknown = true;
      return 'unknown';
    };
    try {
      const response = await fetch(`${serverOf(node).url}/events`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'idempotency-key': key, ...authorization(OPERATOR) },
        body: group.length === 1 ? (events[0] as string) : `{"events":[${events}]}`,
        signal: AbortSignal.timeout(PUBLISH_TIMEOUT_MS),
      });
      const body = (await response.json()) as Answer & { results?: Answer[]; code?: string };
      if (response.status === 201 || response.status === 200) {
        for (const [index, { id, duplicate }] of (body.results ?? [body]).entries()) {
          group[index]?.ids.push(String(id));
          counts.acknowledged++;
          if (duplicate === true) counts.duplicates++;
        }
        return 'acknowledged';
      }
      counts.refusals++;
      if (response.status === 503 && body.code === 'outcome_unknown') return lost();
      if (response.status >= 500 && body.code !== 'unavailable') {
        problems.push({ law: 'lost', who: key, detail: `got ${response.status} ${JSON.stringify(body)}` });
      }
      return group.some(({ unknown }) => unknown) ? 'unknown' : 'refused';
    } catch {
      return lost();
    }
  }

  /** One event, or now and then a batch. */
  function drawSome(given: PublishOptions): Attempted[] {
    const group = Array.from({ length: random.chance(0.1) ? random.whole(2, 20) : 1 }, () => draw(given));
    const { key } = group[0] as Attempted;
    if (group.length > 1) for (const attempted of group) attempted.batch = key;
    return group;
  }
  const problems: Objection[] = [];
  const signallers = createSignallers({
    random: random.fork('signals'),
    tenants,
    roomsOf: roomsOfTenant,
    urls: () => servers.map(({ url }) => url),
    tokenOf: (tenant) =>
      auth === 'jwt' ? signToken({ tenantId: tenant, sub: 'signaller', scope: 'subscribe signal' }) : null,
  });
  const signalListeners = (): SignalListener[] =>
    listeners.map((listener) => {
      const { name, rooms, tenants: own } = listener.history;
      const isDelayed = relayOf.get(listener)?.hasDelayed === true;
      return { name, signals: listener.signals, tenants: own, rooms: rooms.map(({ room }) => room), isDelayed };
    });
  const witness = createWitness({
    url: () => serverOf(random.whole(0, servers.length - 1)).url,
    headersOf: (tenant) => authorization(signToken({ tenantId: tenant, scope: 'subscribe' })),
    tenants,
    tickets: TICKETS,
    object: (who, detail) => void problems.push({ law: 'state', who, detail }),
  });

  const stage: Stage = {
    servers,
    get server() {
      return serverOf(0);
    },
    listeners,
    get relays() {
      return relays.map(({ relay }) => relay);
    },
    tenants,
    publications,
    counts,
    async listen(transport, { tenant = tenants[0] as string, node = 0, ...given } = {}) {
      const relay = await startRelay({ host: '127.0.0.1', port: serverOf(node).port });
      relays.push({ relay, node });
      const token = auth === 'jwt' ? { token: signToken({ tenantId: tenant, sub: 'u', scope: 'subscribe' }) } : {};
      const listener = listen(transport, {
        name: `listener ${listeners.length}`,
        url: relay.url,
        rooms: [`tenant:${tenant}`],
        mayReset: options.mayReset === true,
        ...token,
        ...(auth === 'jwt' ? { tenants: [tenant] } : {}),
        ...given,
      });
      listeners.push(listener);
      relayOf.set(listener, relay);
      return relay;
    },
    async audience(each = 1) {
      for (const transport of TRANSPORTS) {
        for (let count = 0; count < each; count++) {
          const tenant = random.pick(tenants);
          await stage.listen(transport, {
            tenant,
            legacy: random.chance(0.3),
            node: random.whole(0, servers.length - 1),
          });
          await stage.listen(transport, {
            tenant,
            rooms: [`ticket:${random.pick(TICKETS)}`, 'agreement:agreement-1', `queue:${random.pick(QUEUES)}`],
            plainJoin: random.chance(0.5),
            node: random.whole(0, servers.length - 1),
          });
        }
      }
      await stage.untilReady();
    },
    async untilReady() {
      await eventually('every listener hears its rooms', () => listeners.every((listener) => listener.ready()), 30_000);
    },
    async publish(given = {}) {
      const attempted = draw(given);
      await attempt([attempted], given.node ?? random.whole(0, servers.length - 1));
      return attempted.ids[0] ?? null;
    },
    publishing(concurrency, pauseMs = 0, given = {}) {
      let stopping = false;
      const run = async (): Promise<void> => {
        while (!stopping) {
          const group = drawSome(given);
          const [first] = group as [Attempted];
          const node = (): number => given.node ?? random.whole(0, servers.length - 1);
          // Now and then twice at once: one record must come of it.
          if (random.chance(0.1)) await Promise.all([attempt(group, node()), attempt(group, node())]);
          for (let tries = 0; first.ids.length === 0 && !stopping && tries < 200; tries++) {
            if ((await attempt(group, node())) === 'acknowledged') break;
            if (given.once === true) break;
            await sleep(20);
          }
          if (pauseMs > 0) await sleep(pauseMs);
        }
      };
      const all = Array.from({ length: concurrency }, run);
      const stopWatching = isLossy ? async () => {} : witness.watch();
      const stopSignals = signallers.start();
      return async () => {
        stopping = true;
        await Promise.all([...all, stopWatching(), stopSignals()]);
      };
    },
    async restart(signal, node = 0) {
      const code = await serverOf(node).end(signal);
      await stage.start(node);
      return code;
    },
    async start(node = 0, server) {
      servers[node] = await startNode(server);
      stage.retarget(node, node);
    },
    retarget(from, to) {
      for (const { relay, node } of relays)
        if (node === from) relay.target = { host: '127.0.0.1', port: serverOf(to).port };
    },
    async readLog() {
      const entries = new Map<string, LogEntry>();
      for (const tenant of tenants) {
        const headers = authorization(signToken({ tenantId: tenant, scope: 'subscribe' }));
        for (let after = 'start'; ; ) {
          const query = roomQuery(roomsOfTenant(tenant), { after, limit: 1000 });
          const response = await fetch(`${serverOf(servers.length - 1).url}/events?${query}`, { headers });
          if (response.status !== 200)
            throw new Error(`the log could not be read: ${response.status} ${await response.text()}`);
          const page = (await response.json()) as {
            events: { id: string; event: string; payload: object }[];
            cursor: string;
            hasMore: boolean;
          };
          for (const { id, event, payload } of page.events) {
            entries.set(id, { id, event, payload: JSON.stringify(payload) });
          }
          after = page.cursor;
          if (!page.hasMore) break;
        }
      }
      return [...entries.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
    },
    async verdict(figures = {}, { patienceMs = 20_000, objections = [], trimmedBefore = null, log: given } = {}) {
      const log = given ?? (await stage.readLog());
      const history = (): History => ({
        log,
        publications: publications.map(
          ({ key, event, payload, ids, unknown, batch }): Publication => ({
            ...{ key, event, payload, ids, ...(batch === undefined ? {} : { batch }) },
            outcome: ids.length > 0 ? 'acknowledged' : unknown ? 'unknown' : 'refused',
          }),
        ),
        listeners: listeners.map((listener) => listener.history),
        logOf,
        lostLogs: options.lostLogs ?? new Set(),
        trimmedBefore,
      });
      const deadline = Date.now() + patienceMs;
      let found = check(history());
      while (found.some(({ law }) => law === 'gap') && Date.now() < deadline) {
        await sleep(100);
        found = check(history());
      }
      await sleep(SETTLE_MS);
      if (!isLossy && given === undefined && trimmedBefore === null) {
        await witness.judge(log.map(factOf));
      }
      const slackMs = kit.judgesTimes ? SIGNAL_SLACK_MS.judged : SIGNAL_SLACK_MS.unjudged;
      const ofSignals = checkSignals(signalListeners(), signallers.answeredAt, slackMs);
      for (const { event, id } of log.filter((entry) => SIGNALS.includes(entry.event))) {
        ofSignals.push({ law: 'stranger', who: id, detail: `the log holds a signal: ${event}` });
      }
      found = [...objections, ...problems, ...ofSignals, ...check(history())];
      for (const { gaveUp, history: life } of listeners) {
        if (gaveUp !== null) found.push({ law: 'gap', who: life.name, detail: `gave up for good: ${gaveUp}` });
      }
      const concerned = new Set(found.map(({ who }) => who));
      return {
        objections: found,
        stories: listeners
          .map((listener) => listener.history)
          .filter(({ name }) => concerned.has(name))
          .slice(0, 3)
          .map((history) => {
            const objection = found.find(({ who }) => who === history.name);
            return story(history, objection === undefined ? null : subjectOf(objection));
          }),
        figures: {
          published: counts.acknowledged - counts.duplicates,
          listeners: listeners.length,
          seen: listeners.reduce((sum, { cameAt }) => sum + cameAt.size, 0),
          signals: signallers.answeredAt.size,
          'signals seen': listeners.reduce((sum, { signals }) => sum + signals.length, 0),
          reconnects: listeners
            .filter(({ transport }) => transport !== 'longpoll')
            .reduce((sum, { counts: { connects } }) => sum + Math.max(0, connects - 1), 0),
          ...figures,
        },
      };
    },
    async close() {
      for (const listener of listeners) listener.close();
      for (const { relay } of relays) await relay.close();
      for (const server of servers) {
        if (!server.alive()) continue;
        server.process.kill('SIGCONT');
        await server.end('SIGKILL');
      }
    },
  };
  return stage;
}

function factOf({ id, event, payload: text }: LogEntry): Fact {
  const payload = JSON.parse(text) as Record<string, unknown>;
  return { id, event, tenant: String(payload.tenantId), payload, named: roomsOf(event, payload) };
}

/** Runs `play` on a stage and takes it down whatever happens. */
export async function onStage(
  kit: Kit,
  options: StageOptions,
  play: (stage: Stage) => Promise<Verdict>,
): Promise<Verdict> {
  const stage = await createStage(kit, options);
  try {
    return await play(stage);
  } finally {
    await stage.close();
  }
}

export async function eventually(
  what: string,
  condition: () => boolean | Promise<boolean>,
  timeoutMs = 20_000,
): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`never happened: ${what}`);
    await sleep(10);
  }
}

/** The highest of what was measured, and the value that all but a share of them stay under. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}
