/**
 * `/check`: which transports work between this browser and the bridge. It is open to anyone and made for people who know
 * nothing of networks: it runs by itself, says one sentence, and writes a report to send to support.
 *
 * `?idle=SECONDS` watches quiet connections for longer; `?lang=pt` chooses the language.
 */
import { render } from 'preact';
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import type { Cause } from '../../check/causes.ts';
import { createProgress, type Progress } from '../../check/progress.ts';
import { factTexts, reportText, resultText } from '../../check/report.ts';
import { type CheckResult, EMPTY_RESULT } from '../../check/result.ts';
import { DEFAULT_TIMEOUT_MS, MAX_QUIET_SECONDS, runCheck } from '../../check/run.ts';
import {
  adviceTitle,
  causeText,
  fixText,
  LANGUAGES,
  linesTitle,
  messageText,
  TEXTS,
  verdictText,
} from '../../check/texts.ts';
import { type Level, type TransportVerdict, type Verdict, verdictOf } from '../../check/verdict.ts';
import { useModels } from '../console/model.ts';
import { LANGUAGE_NAMES, LANGUAGE_TAGS, type Language, language as pageLanguage } from '../language.ts';
import { browserNetwork } from './network.ts';

const MARKS: Readonly<Record<Level, string>> = { good: '✓', fair: '!', bad: '✕' };
/** The row of the transport that `@roomcast/client` would use. */
const ROW_OF_CLIENT_TRANSPORT = { websocket: 'websocket', sse: 'sse', poll: 'longpoll' } as const;
const PROGRESS_MS = 250;

const query = new URLSearchParams(location.search);

interface Finished {
  readonly verdict: Verdict;
  readonly atMs: number;
}

/** Starts the check at once, and again on request. Leaving the page ends it. */
function useCheck() {
  const [runs, setRuns] = useState(0);
  const [result, setResult] = useState<CheckResult>(EMPTY_RESULT);
  const [progress, setProgress] = useState<Progress | null>(null);
  const [finished, setFinished] = useState<Finished | null>(null);

  useEffect(() => {
    const ending = new AbortController();
    const { signal } = ending;
    const progressOf = createProgress();
    let latest = EMPTY_RESULT;
    const draw = (): void => setProgress(progressOf(latest, performance.now()));
    const drawing = setInterval(draw, PROGRESS_MS);
    const onProgress = (result: CheckResult): void => {
      latest = result;
      setResult(result);
      draw();
    };
    onProgress(EMPTY_RESULT);
    setFinished(null);
    const options = { quietSeconds: quietSeconds(), timeoutMs: DEFAULT_TIMEOUT_MS, signal, onProgress };
    runCheck(browserNetwork, options).then((result) => {
      clearInterval(drawing);
      if (signal.aborted) return;
      setProgress(null);
      setFinished({ verdict: verdictOf(result, location.origin), atMs: Date.now() });
    });
    return () => {
      clearInterval(drawing);
      ending.abort();
    };
  }, [runs]);
  return { result, progress, finished, again: () => setRuns(runs + 1) };
}

function quietSeconds(): number | null {
  const text = query.get('idle') ?? '';
  return /^\d{1,3}$/.test(text) ? Math.min(Number(text), MAX_QUIET_SECONDS) : null;
}

function Page() {
  useModels(pageLanguage);
  const language = pageLanguage.current;
  const { result, progress, finished, again } = useCheck();
  const texts = TEXTS[language];
  useLayoutEffect(() => {
    document.title = `${texts.title} · Roomcast`;
  }, [texts]);
  const verdict = finished?.verdict ?? verdictOf(result, location.origin);

  return (
    <main>
      <header>
        <h1>{texts.title}</h1>
        <LanguageSwitch language={language} choose={pageLanguage.choose} />
      </header>
      <p class="intro">{texts.intro}</p>
      <VerdictPanel verdict={finished?.verdict ?? null} progress={progress} language={language} again={again} />
      {finished !== null && <Causes causes={verdict.causes} language={language} />}
      <section aria-labelledby="tested">
        <h2 id="tested">{texts.tested}</h2>
        <ul class="transports">
          {verdict.transports.map((one) => (
            <TransportRow
              key={one.transport}
              verdict={one}
              // Without a greeting no transport was tested.
              isTested={result[one.transport].frames !== null}
              isFinished={finished !== null || result[one.transport].isOver}
              isUsed={
                finished !== null &&
                verdict.transport !== null &&
                ROW_OF_CLIENT_TRANSPORT[verdict.transport] === one.transport
              }
              language={language}
            />
          ))}
        </ul>
      </section>
      {finished !== null && (
        <>
          <List id="advice" title={adviceTitle(verdict, language)}>
            {verdict.advice.map((message) => messageText(texts.advice, message, language))}
          </List>
          <List id="notes" title={texts.notesTitle}>
            {verdict.notes.map((message) => messageText(texts.notes, message, language))}
          </List>
          <Report finished={finished} language={language} />
        </>
      )}
    </main>
  );
}

function List({ id, title, children }: { id: string; title: string; children: readonly string[] }) {
  if (children.length === 0) return null;
  return (
    <section aria-labelledby={id}>
      <h2 id={id}>{title}</h2>
      <ul>
        {children.map((text) => (
          <li key={text}>{text}</li>
        ))}
      </ul>
    </section>
  );
}

function Causes({ causes, language }: { causes: readonly Cause[]; language: Language }) {
  if (causes.length === 0) return null;
  const { causeTitle, fixTitle } = TEXTS[language];
  return (
    <section aria-labelledby="causes">
      <h2 id="causes">{causeTitle}</h2>
      {causes.map((cause) => {
        const fix = fixText(cause, language);
        return (
          <div key={cause.code} class="cause" data-cause={cause.code}>
            <p>{causeText(cause, language)}</p>
            {fix !== null && (
              <>
                <h3>{fixTitle}</h3>
                <p>{fix}</p>
              </>
            )}
            {cause.remedies.map(({ proxy, lines }) => (
              <figure key={proxy}>
                <figcaption>{linesTitle(proxy, language)}</figcaption>
                <pre>{lines}</pre>
              </figure>
            ))}
          </div>
        );
      })}
    </section>
  );
}

function LanguageSwitch({ language, choose }: { language: Language; choose: (language: Language) => void }) {
  return (
    <fieldset class="languages">
      <legend class="hidden">{TEXTS[language].language}</legend>
      {LANGUAGES.map((one) => (
        <button
          key={one}
          type="button"
          lang={LANGUAGE_TAGS[one]}
          aria-pressed={one === language}
          onClick={() => choose(one)}
        >
          {LANGUAGE_NAMES[one]}
        </button>
      ))}
    </fieldset>
  );
}

interface VerdictPanelProps {
  /** Null while the check runs. */
  readonly verdict: Verdict | null;
  readonly progress: Progress | null;
  readonly language: Language;
  readonly again: () => void;
}

/** One section before and after the verdict, so that the button keeps the focus. */
function VerdictPanel({ verdict, progress, language, again }: VerdictPanelProps) {
  const texts = TEXTS[language];
  const title = verdict === null ? texts.running : texts.levels[verdict.level];
  const text = verdict === null ? (progress?.phase(language) ?? texts.contacting) : verdictText(verdict, language);
  return (
    <section class={`verdict ${verdict?.level ?? ''}`} data-level={verdict?.level} data-verdict={verdict?.code}>
      <h2>
        {verdict !== null && <Mark level={verdict.level} />}
        {title}
      </h2>
      <p>
        <span role="status">
          {verdict !== null && <span class="hidden">{title}. </span>}
          {text}
        </span>
        {/* Outside of the status: it changes every second. */}
        {verdict === null && progress !== null && ` ${progress.timeLeft(language)}`}
      </p>
      {verdict === null && <progress aria-label={texts.running} max={1} value={progress?.share ?? 0} />}
      <button type="button" onClick={again}>
        {texts.again}
      </button>
    </section>
  );
}

function Mark({ level }: { level: Level }) {
  return (
    <span class="mark" aria-hidden="true">
      {MARKS[level]}
    </span>
  );
}

interface TransportRowProps {
  readonly verdict: TransportVerdict;
  readonly isTested: boolean;
  readonly isFinished: boolean;
  readonly isUsed: boolean;
  readonly language: Language;
}

function TransportRow({ verdict, isTested, isFinished, isUsed, language }: TransportRowProps) {
  const texts = TEXTS[language];
  const { transport, outcome, level } = verdict;
  const facts = isTested ? factTexts(verdict, language) : [];
  let about = isFinished ? texts.untested : texts.about[transport];
  if (isTested) about = facts.length === 0 ? texts.nothingArrived : unbroken(facts.join('\u00a0· '));
  let result = isFinished ? '–' : texts.waiting;
  if (isTested) result = `${resultText(verdict, language)}${isFinished ? '' : '…'}`;
  return (
    <li data-transport={transport} data-outcome={isTested ? outcome : 'unknown'}>
      <h3>
        {texts.transports[transport]}
        {isUsed && <span class="used">{texts.usedHere}</span>}
      </h3>
      <p class={`result ${isTested ? level : 'waiting'}`}>
        {isTested && <Mark level={level} />}
        {result}
      </p>
      <p class="facts">{about}</p>
    </li>
  );
}

/** Keeps each number and its unit on one line. */
const unbroken = (text: string): string => text.replaceAll(/(\d) (?=m?s\b)/g, '$1\u00a0');

function Report({ finished: { verdict, atMs }, language }: { finished: Finished; language: Language }) {
  const texts = TEXTS[language];
  const area = useRef<HTMLTextAreaElement>(null);
  const [status, setStatus] = useState('');
  const text = reportText(verdict, { atMs, origin: location.origin, from: navigator.userAgent }, language);
  async function copy(): Promise<void> {
    try {
      await navigator.clipboard.writeText(text);
      setStatus(texts.copied);
    } catch {
      // Over plain http, browsers give a page no clipboard.
      area.current?.focus();
      area.current?.select();
      setStatus(document.execCommand('copy') ? texts.copied : texts.notCopied);
    }
  }
  return (
    <section aria-labelledby="report">
      <h2 id="report">{texts.report}</h2>
      <p id="report-hint">{texts.reportHint}</p>
      <textarea
        ref={area}
        readOnly
        rows={text.split('\n').length}
        wrap="off"
        spellcheck={false}
        aria-labelledby="report"
        aria-describedby="report-hint"
        value={text}
      />
      <p class="copy">
        <button type="button" onClick={copy}>
          {texts.copy}
        </button>
        <span role="status">{status}</span>
      </p>
    </section>
  );
}

render(<Page />, document.getElementById('page') as HTMLElement);
