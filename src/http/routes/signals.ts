/**
 * `POST /signals` and `GET /signals` (protocol §14): signals for clients without a Socket.IO connection, and the active
 * signals of some rooms.
 */
import { hash } from 'node:crypto';
import {
  type Authenticate,
  answerJson,
  answerStream,
  type Handler,
  isSentWhole,
  queryOf,
  UNCACHED_JSON,
} from '../../answers/answer.ts';
import { readJson } from '../../answers/body.ts';
import { parseQuery, requireNoQuery } from '../../answers/query.ts';
import { PASS, roomQuery, roomsToJoin } from '../../answers/rooms.ts';
import { signalOf } from '../../answers/signals.ts';
import { clientAddress, createRateLimit } from '../../auth/limits.ts';
import { callerKey, type Principal } from '../../auth/principal.ts';
import type { Revoked } from '../../auth/revocations.ts';
import type { Bus } from '../../bus/bus.ts';
import { createPacer } from '../../bus/pacer.ts';
import { signalsPerTurn } from '../../bus/signals.ts';
import type { Config } from '../../config.ts';
import { charsOf } from '../../contract/frames.ts';
import { allKinds } from '../../contract/rooms.ts';
import {
  type ActiveSignal,
  createSignalCatalog,
  invalidSignal,
  MAX_CLIENT_CHARACTERS,
} from '../../contract/signals.ts';
import type { Gate } from '../../transports/gate.ts';

export interface SignalDeps {
  readonly config: Config;
  readonly bus: Bus;
  readonly gate: Pick<Gate, 'admitAnswer'>;
  readonly revoked: Pick<Revoked, 'current'>;
  readonly authenticate: Authenticate;
  /** A pass may read. */
  readonly authenticateReader: Authenticate;
}

/** What a request costs, about. */
const SEND_MS = 0.3;

export function createSignalRoutes({ config, bus, gate, revoked, authenticate, authenticateReader }: SignalDeps) {
  const catalog = createSignalCatalog(config.signals, allKinds(config.roomKinds));
  const limit = createRateLimit(config.rateSignals);
  const pacer = createPacer(signalsPerTurn(SEND_MS));

  const send: Handler = async (context) => {
    const { incoming } = context.env;
    const principal = await authenticate(context);
    requireNoQuery(context);
    const caller = callerKey(principal, clientAddress(incoming, config.trustProxy));
    limit.requireToken(caller, 'signals', '. A later signal replaces this one');
    limit.take(caller);
    const turn = pacer.take();
    if (turn !== null) await turn;
    const body = await readJson(incoming, config.maxBodyBytes);
    const request = catalog.check(body, ['client']);
    const client = clientOf(body);
    // The body may have taken long.
    const current = revoked.current(principal);
    const signal = signalOf(current, request, (tenantId) => senderOf(current, tenantId, client));
    const listeners = bus.signals.listeners(signal);
    bus.signals.send(signal, false);
    return answerJson(context, 202, JSON.stringify({ listeners }));
  };

  const list: Handler = async (context) => {
    const query = parseQuery(queryOf(context), roomQuery(config.roomKinds), [PASS]);
    const rooms = roomsToJoin(await authenticateReader(context), query, config);
    const signals = bus.signals.active([...rooms.values()].flatMap(({ audiences }) => audiences));
    const chars = charsOf(signals);
    if (isSentWhole(chars)) return answerJson(context, 200, `{"signals":[${signals.map(itemOf).join(',')}]}`);
    async function* texts(): AsyncGenerator<string> {
      let before = '{"signals":[';
      for (const signal of signals) {
        yield before + itemOf(signal);
        before = ',';
      }
      yield ']}';
    }
    return answerStream(context, gate, UNCACHED_JSON, texts());
  };

  return { send, list };
}

/** The body's `client`, which names a tab or process of the sender. */
function clientOf(body: unknown): string | null {
  const { client = null } = body as { readonly client?: unknown };
  if (client === null) return null;
  const isText = typeof client === 'string' && client !== '' && [...client].length <= MAX_CLIENT_CHARACTERS;
  if (isText && client.isWellFormed()) return client;
  throw invalidSignal('/client', `must be a text of 1 to ${MAX_CLIENT_CHARACTERS} characters`);
}

/**
 * The opaque name of a sender without a connection. It ends in the sender's `client`, if that is a plain word, so that the
 * sender knows its own signals again.
 */
function senderOf(principal: Principal, tenantId: string, client: string | null): string {
  const subject = principal.kind === 'anonymous' ? null : principal.subject;
  const isPlain = client === null || /^[\w-]+$/.test(client);
  const digest = hash('sha256', JSON.stringify([tenantId, subject, isPlain ? null : client]), 'base64url').slice(0, 20);
  return isPlain && client !== null ? `${digest}.${client}` : digest;
}

function itemOf({ event, room, from, sender, payload, expiresAtMs }: ActiveSignal): string {
  const expiresAt = new Date(Date.now() + expiresAtMs - performance.now()).toISOString();
  const head = JSON.stringify({ event, room, from, sender });
  return `${head.slice(0, -1)},"payload":${payload},"expiresAt":"${expiresAt}"}`;
}
