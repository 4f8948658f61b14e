/**
 * `roomcast signal`: sends one signal (protocol §14), such as "somebody is typing", and prints how many clients of the node
 * that answered listen to its room. It does not retry: a signal that comes late is wrong.
 */
import { createHttp, RoomcastError } from '../client/http.ts';
import { BRIDGE_FLAGS, BRIDGE_HELP, bearerToken, bridgeUrl, parseFlags, roomsIn, UsageError } from './arguments.ts';
import { faultOf, fieldsOf } from './faults.ts';
import { faultText, parseJson } from './json.ts';
import { complain, printLine } from './output.ts';

export const SIGNAL_HELP = `Sends a signal, such as "somebody is typing", to the clients that are in a room now. It is not logged.

Examples:
  roomcast signal tickets.typing ticket:123 '{"name":"Ana"}'
  roomcast signal tickets.typing ticket:123 --ttl 0

Usage: roomcast signal EVENT ROOM [PAYLOAD] [options]

  EVENT            a name that the bridge declares (SIGNALS), such as tickets.typing
  ROOM             a room by its name, such as ticket:123
  PAYLOAD          a JSON object of at most 4096 bytes (default {})
  --ttl SECONDS    how long the signal is active, at most 120; 0 ends it (default 10)
  --tenant ID      the tenant, if the token names several or "*"
  --client NAME    tells two senders of one token apart
${BRIDGE_HELP}

It prints how many clients listen to the room, on the node that answered. roomcast tail --signals shows signals.

Exit codes: 0 sent, 1 refused or not sent, 2 wrong usage.
`;

const FLAGS = {
  ...BRIDGE_FLAGS,
  ttl: { type: 'string' },
  tenant: { type: 'string' },
  client: { type: 'string' },
} as const;

const TIMEOUT_MS = 10_000;

export async function signal(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseFlags('signal', argv, FLAGS, 3);
  const [event, roomText, payload] = positionals;
  const { ttl, tenant, client } = values;
  if (event === undefined || roomText === undefined) {
    throw new UsageError('name the signal and a room, such as: tickets.typing ticket:123', 'signal');
  }
  const [room, ...others] = roomsIn('signal', [roomText]);
  if (room === undefined || others.length > 0) throw new UsageError('a signal has one room', 'signal');
  if (ttl !== undefined && !/^\d{1,9}$/.test(ttl)) {
    throw new UsageError(`--ttl must be a whole number of seconds, not ${JSON.stringify(ttl)}`, 'signal');
  }
  const body = {
    event,
    room,
    ...(payload === undefined ? {} : { payload: parsePayload(payload) }),
    ...(ttl === undefined ? {} : { ttlSeconds: Number(ttl) }),
    ...(tenant === undefined ? {} : { tenantId: tenant }),
    ...(client === undefined ? {} : { client }),
  };
  const url = bridgeUrl('signal', values.url);
  const http = createHttp(url, bearerToken('signal', values.token));
  try {
    const { listeners } = Object(
      await http.json('signals', {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
        signal: new AbortController().signal,
        timeoutMs: TIMEOUT_MS,
      }),
    );
    // A proxy may answer 200, too.
    if (!Number.isInteger(listeners)) throw new RoomcastError('unreachable', 'This is not the bridge: other JSON.');
    await printLine(String(listeners));
    return 0;
  } catch (error) {
    if (!(error instanceof RoomcastError)) throw error;
    complain(faultOf(error, url), ...fieldsOf(error.problem.errors));
    return 1;
  }
}

function parsePayload(text: string): unknown {
  const parsed = parseJson(text);
  if ('value' in parsed) return parsed.value;
  throw new UsageError(`the payload is ${faultText(parsed.fault)}`, 'signal', parsed.place);
}
