/**
 * `roomcast check URL`: the connection check of the page `/check`, in a terminal, with the same tests and the same verdict.
 * Standard output has the report or, with `--json`, one document and nothing else. Progress goes to standard error, and
 * only if that is a terminal.
 */
import { createProgress } from '../check/progress.ts';
import { type ReportFacts, reportText } from '../check/report.ts';
import { type CheckResult, EMPTY_RESULT } from '../check/result.ts';
import { DEFAULT_TIMEOUT_MS, MAX_QUIET_SECONDS, runCheck } from '../check/run.ts';
import { causeText, LANGUAGES, type Language, languageOf, messageText, TEXTS, verdictText } from '../check/texts.ts';
import { type Verdict, verdictOf } from '../check/verdict.ts';
import { parseFlags, UsageError } from './arguments.ts';
import { nothingAt } from './faults.ts';
import { createNodeNetwork } from './network.ts';
import { complain, printJson, printLine } from './output.ts';
import { canUseProxies, proxyFor } from './proxy.ts';

export const CHECK_HELP = `Tests every transport between this machine and a bridge, and reports which one an application would use.

Examples:
  roomcast check
  HTTPS_PROXY=http://proxy:3128 roomcast check https://bridge.example --lang pt

Usage: roomcast check [URL] [options]
       roomcast doctor [URL] [options]   the same under another name

URL is the bridge's address with its base path (default: ROOMCAST_URL, else http://127.0.0.1:4003).
The check needs no token and reads no events.

  --idle SECONDS      how long to watch quiet connections, 0 to ${MAX_QUIET_SECONDS}
                      (default: a little longer than a heartbeat, at most 35)
  --timeout SECONDS   longest wait for an answer, 1 to 60 (default ${DEFAULT_TIMEOUT_MS / 1000})
  --socket-path PATH  Socket.IO's path (default: the one that the bridge reports)
  --lang en|pt        language of the report (default: from LC_ALL, LC_MESSAGES, LANG)
  --json              print one JSON document in place of the report

Environment: HTTPS_PROXY, HTTP_PROXY, NO_PROXY; NODE_EXTRA_CA_CERTS.

Exit codes: 0 everything works; 1 something fails, but an application still gets updates;
2 nothing works; 64 wrong usage.
`;

const WRONG_USAGE = 64;
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
  /** Ends with a slash. */
  readonly base: URL;
  readonly proxy: URL | null;
  readonly quietSeconds: number | null;
  readonly timeoutMs: number;
  readonly socketPath: string | null;
  readonly language: Language;
  readonly isJson: boolean;
}

/** @returns the exit code */
export async function check(argv: readonly string[]): Promise<number> {
  let options: Options;
  try {
    options = parseOptions(argv, process.env);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    // Here, not in main.ts: exit code 2 means that nothing works.
    complain(`${error.message} (see roomcast check --help)`);
    return WRONG_USAGE;
  }
  const { base, language, isJson } = options;
  if (options.proxy !== null && !canUseProxies()) {
    complain('this Node cannot use a proxy (22.21 and 24.5 can); checking without the proxy');
    options = { ...options, proxy: null };
  }
  const facts = {
    atMs: Date.now(),
    origin: base.origin,
    from: `Node.js ${process.versions.node}, ${process.platform}`,
  };
  const result = await run(options);
  const verdict = verdictOf(result, base.origin);
  if (isJson) await printJson(jsonOf(verdict, result, facts, language), 2);
  else for (const line of reportText(verdict, facts, language).trimEnd().split('\n')) await printLine(line);
  if (verdict.code === 'refused') complain(nothingAt(base.href.replace(/\/$/, '')));
  return EXIT_CODES[verdict.level];
}

async function run({ base, proxy, socketPath, timeoutMs, quietSeconds, language }: Options): Promise<CheckResult> {
  const network = createNodeNetwork(base, proxy, socketPath);
  const line = createProgressLine(language);
  const { signal } = new AbortController();
  try {
    return await runCheck(network, { quietSeconds, timeoutMs, signal, onProgress: line.show });
  } finally {
    line.end();
    network.close();
  }
}

function createProgressLine(language: Language): { show(result: CheckResult): void; end(): void } {
  if (!process.stderr.isTTY) return { show() {}, end() {} };
  const progressOf = createProgress();
  let latest = EMPTY_RESULT;
  const draw = (): void => {
    const progress = progressOf(latest, performance.now());
    const text = `${progress.phase(language)} ${progress.timeLeft(language)}`;
    // A line that wraps cannot be overwritten.
    process.stderr.write(`\r\x1b[K${text.slice(0, (process.stderr.columns || 80) - 1)}`);
  };
  const drawing = setInterval(draw, PROGRESS_MS);
  draw();
  return {
    show(result) {
      latest = result;
    },
    end() {
      clearInterval(drawing);
      process.stderr.write('\r\x1b[K');
    },
  };
}

/** The document of `--json`. Its keys are public (docs/check.md). */
function jsonOf(verdict: Verdict, measurement: CheckResult, { atMs, ...facts }: ReportFacts, language: Language) {
  const { level, code, transport, causes, advice, notes, transports } = verdict;
  const texts = TEXTS[language];
  return {
    time: new Date(atMs).toISOString(),
    ...facts,
    level,
    verdict: { code, text: verdictText(verdict, language) },
    transport,
    transports,
    causes: causes.map((cause) => ({ code: cause.code, text: causeText(cause, language), remedies: cause.remedies })),
    advice: advice.map((message) => ({ code: message.code, text: messageText(texts.advice, message, language) })),
    notes: notes.map((message) => ({ code: message.code, text: messageText(texts.notes, message, language) })),
    measurement,
  };
}

/** @throws {UsageError} */
function parseOptions(argv: readonly string[], env: NodeJS.ProcessEnv): Options {
  const { values, positionals } = parseFlags('check', argv, FLAGS, 1);
  const base = baseOf(positionals[0] ?? (env.ROOMCAST_URL || 'http://127.0.0.1:4003'));
  const { idle, timeout, lang, json } = values;
  const locale = env.LC_ALL || env.LC_MESSAGES || env.LANG || 'en';
  const language = lang === undefined ? languageOf([locale]) : LANGUAGES.find((language) => language === lang);
  if (language === undefined) throw new UsageError(`--lang must be ${LANGUAGES.join(' or ')}`);
  const socketPath = values['socket-path'] ?? null;
  if (socketPath !== null && !/^\/[\w./~-]*$/.test(socketPath)) {
    throw new UsageError('--socket-path must be a path such as /socket.io');
  }
  return {
    base,
    proxy: proxyFor(base, env),
    quietSeconds: idle === undefined ? null : wholeSeconds('idle', idle, 0, MAX_QUIET_SECONDS),
    timeoutMs: timeout === undefined ? DEFAULT_TIMEOUT_MS : wholeSeconds('timeout', timeout, 1, 60) * 1000,
    socketPath,
    language,
    isJson: json,
  };
}

/** People paste the address of `/check` or `/console` from their browser; the base is the part before it. */
function baseOf(text: string): URL {
  const url = URL.parse(text);
  if (url === null || !['http:', 'https:'].includes(url.protocol) || url.username !== '' || url.password !== '') {
    throw new UsageError('URL must start with http:// or https:// and hold no user name or password');
  }
  url.search = '';
  url.hash = '';
  url.pathname = `${url.pathname.replace(/\/(check|console)?\/*$/, '')}/`;
  return url;
}

function wholeSeconds(flag: string, text: string, min: number, max: number): number {
  const value = /^\d{1,4}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= min && value <= max) return value;
  throw new UsageError(`--${flag} must be a whole number of seconds from ${min} to ${max}`);
}
