/** The server as a process: start, serve, drain on SIGTERM or SIGINT. Serves `npm start` and `roomcast serve` alike. */
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { type Bridge, createBridge } from './bridge.ts';
import { type Config, parseConfig } from './config.ts';
import { createLogger, type Logger } from './logger.ts';
import { withoutCredentials } from './store/open.ts';

/** Of DRAIN_MS. Connections are cut after 0.8 of it (bridge.ts); what is left is for the process to end. */
const DRAIN_SHARE = 0.9;

/**
 * Resolves to the exit code once it has drained.
 * @throws {Error} of one line for the operator: what is wrong, and what is right
 */
export async function serve(env: Readonly<Record<string, string | undefined>>): Promise<number> {
  // V8's young generation keeps its first size. Grown as far as it may, it takes 100 MB more, and gains nothing here.
  setFlagsFromString('--semi-space-growth-factor=1');
  const config = parseConfig(env);
  const logger = createLogger(config.logLevel);
  if (config.authMode === 'none' && (config.jwtSecret ?? config.jwtPublicKey ?? config.jwksUrl) !== null) {
    logger.warn('a key for tokens is set, but AUTH_MODE is none: everyone may do everything');
  }
  // From the first moment on: a supervisor may change its mind at once, and PID 1 of a container has no default action.
  const stopped = new Promise<NodeJS.Signals>((resolve) => {
    process.on('SIGTERM', resolve);
    process.on('SIGINT', resolve);
  });
  const bridge = await Promise.race([start(config, logger), stopped]);
  if (typeof bridge === 'string') return 0;
  const signal = await stopped;
  logger.info({ signal }, 'draining');
  try {
    // A log that hangs is not waited for: what it was asked to write was not acknowledged, and may yet appear.
    await Promise.race([bridge.close(), sleep(config.drainMs * DRAIN_SHARE)]);
  } catch (error) {
    logger.error({ err: error }, 'the drain failed');
    return 1;
  }
  logger.info('stopped');
  return 0;
}

async function start(config: Config, logger: Logger): Promise<Bridge> {
  const bridge = await createBridge(config);
  const { url } = await bridge.listen().catch((error: Error) => {
    const got = `HOST, PORT got ${config.host}, ${config.port} (${error.message})`;
    throw new Error(`${got}: they take an address of this machine and a free port`, { cause: error });
  });
  logger.info({ url, store: withoutCredentials(config.storeUrl) }, `listening on ${url}`);
  return bridge;
}
