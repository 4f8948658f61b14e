/** `roomcast serve`: the server, as `npm start` runs it, with flags for what is set most. */
import { serve as run } from '../serve.ts';
import { parseFlags } from './arguments.ts';

export const SERVE_HELP = `Runs the bridge in the foreground. SIGTERM or SIGINT (Ctrl-C) drains it.

Usage: roomcast serve [options]

  --host HOST      the address to listen on (HOST, default 127.0.0.1)
  --port PORT      0: any free one, the log line says which (PORT, default 4003)
  --store URL      the log: sqlite:FILE, sqlite::memory:, redis://… (STORE_URL, default sqlite:./data/roomcast.db)

A flag goes before its variable. All else is set by the environment alone, secrets above all:

  AUTH_MODE        none (the default on a loopback address only) or jwt
  JWT_SECRET       or JWT_PUBLIC_KEY or JWKS_URL: what checks tokens
  EXTRA_EVENTS     further event names, comma-separated
  CORS_ORIGINS     origins of your front ends, comma-separated
  RETENTION_HOURS  how long the log keeps an event (default 72)
  LOG_LEVEL        fatal, error, warn, info, debug, trace or silent

and more, in docs/operating.md.

Example: EXTRA_EVENTS=leads.updated roomcast serve --port 8080 --store sqlite:/var/lib/roomcast/log.db
`;

/** Each flag stands for the variable that sets the same. */
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
