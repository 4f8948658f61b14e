/** `roomcast serve`: the server, as `npm start` runs it, with flags for the most common settings. */
import { serve as run } from '../serve.ts';
import { parseFlags } from './arguments.ts';

export const SERVE_HELP = `Runs the bridge in the foreground. SIGTERM or SIGINT (Ctrl-C) drains it.

Examples:
  roomcast serve
  EXTRA_EVENTS=leads.updated roomcast serve --port 8080 --store sqlite:/var/lib/roomcast/log.db

Usage: roomcast serve [options]

  --host HOST      the address to listen on (HOST, default 127.0.0.1)
  --port PORT      the port; 0 picks a free one, which the start-up line names (PORT, default 4003)
  --store URL      the log: sqlite:FILE, sqlite::memory:, redis://… (STORE_URL, default sqlite:./data/roomcast.db)

A flag has priority over its variable. The environment sets everything else, secrets above all:

  AUTH_MODE        none (the default, on a loopback address only) or jwt
  JWT_SECRET       or JWT_PUBLIC_KEY or JWKS_URL: verifies tokens
  EXTRA_EVENTS     event names that you declare, comma-separated
  CORS_ORIGINS     origins of your front ends, comma-separated
  RETENTION_HOURS  how long the log keeps an event (default 72)
  LOG_LEVEL        fatal, error, warn, info, debug, trace or silent
  LOG_FORMAT       pretty or json (default: pretty on a terminal, else json)

docs/operating.md describes every variable.

Exit codes: 0 drained, 1 the server could not start or drain, 2 wrong usage.
`;

/** Each flag sets the variable of the same meaning. */
const FLAGS = {
  host: { type: 'string' },
  port: { type: 'string' },
  store: { type: 'string' },
} as const;

export function serve(argv: readonly string[]): Promise<number> {
  const { host, port, store } = parseFlags('serve', argv, FLAGS).values;
  return run({
    ...process.env,
    ...(host === undefined ? {} : { HOST: host }),
    ...(port === undefined ? {} : { PORT: port }),
    ...(store === undefined ? {} : { STORE_URL: store }),
  });
}
