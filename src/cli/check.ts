/**
 * `roomcast doctor URL`: the connection check of the page `/check`, from a terminal: the same probes, the same judging.
 * Standard output has the report, or with `--json` one document and nothing else; progress goes to standard error, for
 * people only.
 */

import { createProgress } from '../check/progress.ts';
import { reportText } from '../check/report.ts';
import { type Measurement, NOTHING_YET } from '../check/result.ts';
import { MOST_QUIET_SECONDS, measure, PATIENCE_MS } from '../check/run.ts';
import { LANGUAGES, type Language, languageOf, say, TEXTS, verdictText } from '../check/texts.ts';
import { type Judgement, judge } from '../check/verdict.ts';
import { parseFlags, UsageError } from './arguments.ts';
import { createNodeNetwork } from './network.ts';
import { canUseProxies, proxyFor } from './proxy.ts';

export const DOCTOR_HELP = `Tries each transport between here and a bridge, and says which one an application would have.

Usage: roomcast doctor [URL] [options]

URL is where the bridge is, with its base path (default: ROOMCAST_URL, else http://127.0.0.1:4003).
It needs no token and reads no event.

  --idle SECONDS      how long connections with nothing to say are watched, 0 to ${MOST_QUIET_SECONDS}
                      (default: a little longer than between two heartbeats, at most 35)
  --timeout SECONDS   longest wait for an answer, 1 to 60 (default ${PATIENCE_MS / 1000})
  --socket-path PATH  Socket.IO's path (default: what the bridge says)
  --lang en|pt        the words of the report (default: as LC_ALL, LC_MESSAGES, LANG say)
  --json              one JSON document instead of the report

Environment: HTTPS_PROXY, HTTP_PROXY, NO_PROXY; NODE_EXTRA_CA_CERTS.

Exit codes: 0 everything works, 1 something does not but an application would still be served,
2 nothing works, 64 used wrongly.

Example: HTTPS_PROXY=http://proxy:3128 roomcast doctor https://bridge.example --lang pt
`;

const USED_WRONGLY = 64;
const EXIT_CODES = { good: 0, fair: 1, bad: 2 } as const;
const PROGRESS_MS = 250;

const FLAGS = {
  idle: { type: 'string' },
  timeout: { type: 'string' },
  'socket-path': { type: 'string' },
  lang: { type: 'string' },
  json: { type: 'boolean', default: false },
} as const;

interface Options {
  /** Ends in a slash. */
  readonly base: URL;
  readonly proxy: URL | null;
  readonly quietSeconds: number | null;
  readonly patienceMs: number;
  readonly socketPath: string | null;
  readonly language: Language;
  readonly isJson: boolean;
}

/** @returns the exit code */
export async function doctor(argv: readonly string[]): Promise<number> {
  let options: Options;
  try {
    options = parseOptions(argv, process.env);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    // 2 is taken: nothing works.
    process.stderr.write(`roomcast: ${error.message} (see roomcast doctor --help)\n`);
    return USED_WRONGLY;
  }
  const { base, language, isJson } = options;
  let { proxy } = options;
  if (proxy !== null && !canUseProxies()) {
    process.stderr.write('roomcast: this Node cannot use a proxy (22.21 and 24.5 can); measuring without it\n');
    proxy = null;
  }
  const atMs = Date.now();
  const measurement = await observe(options, proxy);
  const judgement = judge(measurement, base.origin);
  const facts = { atMs, origin: base.origin, from: `Node.js ${process.versions.node}, ${process.platform}` };
  const output = isJson
    ? `${JSON.stringify(documentOf(judgement, measurement, facts, language), null, 2)}\n`
    : reportText(judgement, facts, language);
  await new Promise<void>((resolve) => process.stdout.write(output, () => resolve()));
  return EXIT_CODES[judgement.level];
}

async function observe(options: Options, proxy: URL | null): Promise<Measurement> {
  const { base, socketPath, patienceMs, quietSeconds, language } = options;
  const network = createNodeNetwork(base, proxy, socketPath);
  const line = createLine(language);
  try {
    return await measure(network, {
      quietSeconds,
      patienceMs,
      signal: new AbortController().signal,
      progress: line.show,
    });
  } finally {
    line.end();
    network.close();
  }
}

/** One line on the terminal that tells how far it is; nothing where standard error is no terminal. */
function createLine(language: Language): { show(measurement: Measurement): void; end(): void } {
  if (!process.stderr.isTTY) return { show() {}, end() {} };
  const progressOf = createProgress();
  let latest = NOTHING_YET;
  const draw = (): void => {
    const progress = progressOf(latest, performance.now());
    const text = `${progress.phase(language)} ${progress.left(language)}`;
    // A line that wraps could not be drawn over.
    process.stderr.write(`\r\x1b[K${text.slice(0, (process.stderr.columns || 80) - 1)}`);
  };
  const drawing = setInterval(draw, PROGRESS_MS);
  draw();
  return {
    show(measurement) {
      latest = measurement;
    },
    end() {
      clearInterval(drawing);
      process.stderr.write('\r\x1b[K');
    },
  };
}

interface Facts {
  readonly atMs: number;
  readonly origin: string;
  readonly from: string;
}

function documentOf(judgement: Judgement, measurement: Measurement, { atMs, ...facts }: Facts, language: Language) {
  const { level, rung, verdict, advice, notes, transports } = judgement;
  const { advices, noteTexts } = TEXTS[language];
  return {
    time: new Date(atMs).toISOString(),
    ...facts,
    level,
    verdict: { code: verdict.code, text: verdictText(judgement, language) },
    transport: rung,
    transports,
    advice: advice.map((one) => ({ code: one.code, text: say(advices, one, language) })),
    notes: notes.map((one) => ({ code: one.code, text: say(noteTexts, one, language) })),
    measurement,
  };
}

/** @throws {UsageError} */
function parseOptions(argv: readonly string[], env: NodeJS.ProcessEnv): Options {
  const { values, positionals } = parseFlags('doctor', argv, FLAGS, 1);
  const base = baseOf(positionals[0] ?? (env.ROOMCAST_URL || 'http://127.0.0.1:4003'));
  const { idle, timeout, lang, json } = values;
  const language = lang === undefined ? languageOf([localeOf(env)]) : LANGUAGES.find((known) => known === lang);
  if (language === undefined) throw new UsageError(`--lang takes ${LANGUAGES.join(' or ')}`, 'doctor');
  const socketPath = values['socket-path'] ?? null;
  if (socketPath !== null && !/^\/[\w./~-]*$/.test(socketPath)) {
    throw new UsageError('--socket-path takes a path such as /socket.io', 'doctor');
  }
  return {
    base,
    proxy: proxyFor(base, env),
    quietSeconds: idle === undefined ? null : wholeSeconds('idle', idle, 0, MOST_QUIET_SECONDS),
    patienceMs: timeout === undefined ? PATIENCE_MS : wholeSeconds('timeout', timeout, 1, 60) * 1000,
    socketPath,
    language,
    isJson: json,
  };
}

/** People paste what stands in their browser: the page itself is not the base. */
function baseOf(text: string): URL {
  const url = URL.parse(text);
  if (url === null || !['http:', 'https:'].includes(url.protocol) || url.username !== '' || url.password !== '') {
    throw new UsageError('URL takes http://… or https://… without a user name or password', 'doctor');
  }
  url.search = '';
  url.hash = '';
  url.pathname = `${url.pathname.replace(/\/(check|console)?\/*$/, '')}/`;
  return url;
}

function wholeSeconds(flag: string, text: string, least: number, most: number): number {
  const value = /^\d{1,4}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= least && value <= most) return value;
  throw new UsageError(`--${flag} takes a whole number of seconds from ${least} to ${most}`, 'doctor');
}

function localeOf({ LC_ALL, LC_MESSAGES, LANG }: NodeJS.ProcessEnv): string {
  return LC_ALL || LC_MESSAGES || LANG || 'en';
}
