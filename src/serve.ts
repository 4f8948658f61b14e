/** The server as a process, for `npm start` and `roomcast serve`: start, serve, drain on SIGTERM or SIGINT. */
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { bannerOf } from './banner.ts';
import { type Bridge, createBridge } from './bridge.ts';
import { type Config, parseConfig } from './config.ts';
import { createLogger, isPretty, type Logger } from './logger.ts';
import { withoutCredentials } from './store/open.ts';

/** The share of DRAIN_MS after which the process exits. The bridge cuts connections after 0.8 of it (bridge.ts). */
const DRAIN_SHARE = 0.9;

/**
 * Resolves to the exit code once the server has drained.
 * @throws {Error} one line for the operator: what is wrong, and what to do
 */
export async function serve(env: Readonly<Record<string, string | undefined>>): Promise<number> {
  // Keeps V8's young generation at its first size. Fully grown it takes 100 MB more, and this server gains nothing.
  setFlagsFromString('--semi-space-growth-factor=1');
  const config = parseConfig(env);
  const logger = createLogger(config.logLevel, config.logFormat);
  if (config.authMode === 'none' && (config.jwtSecret ?? config.jwtPublicKey ?? config.jwksUrl) !== null) {
    logger.warn('a key for tokens is set, but AUTH_MODE is none: everyone may do everything; set AUTH_MODE=jwt');
  }
  // First of all: a supervisor may stop the server at once, and PID 1 of a container has no default action.
  const stopped = new Promise<NodeJS.Signals>((resolve) => {
    process.on('SIGTERM', resolve);
    process.on('SIGINT', resolve);
  });
  const bridge = await Promise.race([start(config, logger), stopped]);
  if (typeof bridge === 'string') return 0;
  const signal = await stopped;
  logger.info({ signal }, 'draining: no new connections are accepted, open ones end');
  try {
    // Does not wait for a log that hangs: its pending writes are not acknowledged, and may yet appear.
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
  const listening = await bridge.listen().catch((cause: NodeJS.ErrnoException) => {
    throw new Error(listenFault(config, cause), { cause });
  });
  if (process.stdout.isTTY && isPretty(config.logFormat) && logger.isLevelEnabled('info')) {
    process.stdout.write(bannerOf(config, listening));
    return bridge;
  }
  const { url, metricsUrl } = listening;
  logger.info({ url, store: withoutCredentials(config.storeUrl) }, `server up, listening on ${url}`);
  if (metricsUrl !== null) logger.info({ metricsUrl }, `metrics are at ${metricsUrl}, without a token`);
  return bridge;
}

type ListenError = NodeJS.ErrnoException & {
  readonly port?: number;
  readonly address?: string;
  readonly hostname?: string;
};

/** Why the server cannot listen, and what to do. */
function listenFault(config: Config, { code, message, ...error }: ListenError): string {
  const isOfMetrics =
    error.port && config.port !== config.metricsPort
      ? error.port === config.metricsPort
      : (error.address ?? error.hostname) === config.metricsHost && config.host !== config.metricsHost;
  const prefix = isOfMetrics ? 'METRICS_' : '';
  const host = isOfMetrics ? config.metricsHost : config.host;
  const port = (isOfMetrics ? config.metricsPort : config.port) ?? 0;
  switch (code) {
    case 'EADDRINUSE':
      return `Port ${port} is already in use. Try ${prefix}PORT=${port < 65_535 ? port + 1 : port - 1}.`;
    case 'EACCES':
      return `This process may not listen on port ${port}. Try ${prefix}PORT=${isOfMetrics ? 9464 : 4003}, or any port above 1023.`;
    case 'EADDRNOTAVAIL':
      return `${prefix}HOST ${host} is not an address of this machine. Try ${prefix}HOST=127.0.0.1, or ${prefix}HOST=0.0.0.0 for all addresses.`;
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return `${prefix}HOST ${host} could not be resolved to an address. Try ${prefix}HOST=127.0.0.1.`;
    default:
      return `The server cannot listen on ${prefix}HOST ${host}, ${prefix}PORT ${port}: ${message}.`;
  }
}
