/**
 * `/check`: which transport works from this browser, through whatever lies between. Open to anyone, and read by people
 * who know nothing of networks: it runs by itself, says one sentence, and has a report to send on.
 *
 * `?idle=SECONDS` watches quiet connections for longer, `?lang=pt` chooses the language.
 */

import { render } from 'preact';
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { createProgress, type Progress } from '../../check/progress.ts';
import { factTexts, reportText, resultText } from '../../check/report.ts';
import { type Measurement, NOTHING_YET } from '../../check/result.ts';
import { MOST_QUIET_SECONDS, measure, PATIENCE_MS } from '../../check/run.ts';
import { adviceTitle, LANGUAGES, type Language, languageOf, say, TEXTS, verdictText } from '../../check/texts.ts';
import { type Judgement, judge, type Level, type Rung, type TransportJudgement } from '../../check/verdict.ts';
import type { TransportName } from '../../contract/names.ts';
import { createBrowserNetwork } from './network.ts';

const LANGUAGE_NAMES: Readonly<Record<Language, string>> = { en: 'English', pt: 'Português' };
const MARKS: Readonly<Record<Level, string>> = { good: '✓', fair: '!', bad: '✕' };
const TRANSPORT_OF_RUNG: Readonly<Record<Rung, TransportName>> = {
  websocket: 'websocket',
  sse: 'sse',
  poll: 'longpoll',
};
const PROGRESS_MS = 250;

const query = new URLSearchParams(location.search);
const network = createBrowserNetwork();

interface Finished {
  readonly judgement: Judgement;
  readonly atMs: number;
}

interface Check {
  readonly measurement: Measurement;
  readonly progress: Progress | null;
  readonly finished: Finished | null;
  again(): void;
}

/** Runs at once, and again when asked; what runs ends with the page. */
function useCheck(): Check {
  const [run, setRun] = useState(0);
  const [measurement, setMeasurement] = useState<Measurement>(NOTHING_YET);
  const [progress, setProgress] = useState<Progress | null>(null);
  const [finished, setFinished] = useState<Finished | null>(null);

  useEffect(() => {
    const over = new AbortController();
    const progressOf = createProgress();
    let latest = NOTHING_YET;
    const draw = (): void => setProgress(progressOf(latest, performance.now()));
    const drawing = setInterval(draw, PROGRESS_MS);
    const show = (sofar: Measurement): void => {
      latest = sofar;
      setMeasurement(sofar);
      draw();
    };
    show(NOTHING_YET);
    setFinished(null);
    measure(network, { quietSeconds: quietAsked(), patienceMs: PATIENCE_MS, signal: over.signal, progress: show }).then(
      (whole) => {
        clearInterval(drawing);
        if (over.signal.aborted) return;
        setProgress(null);
        setFinished({ judgement: judge(whole, location.origin), atMs: Date.now() });
      },
    );
    return () => {
      clearInterval(drawing);
      over.abort();
    };
  }, [run]);
  return { measurement, progress, finished, again: () => setRun(run + 1) };
}

function quietAsked(): number | null {
  const text = query.get('idle') ?? '';
  return /^\d{1,3}$/.test(text) ? Math.min(Number(text), MOST_QUIET_SECONDS) : null;
}

function Page() {
  const [language, setLanguage] = useState(() => languageOf([query.get('lang') ?? '', ...navigator.languages]));
  const { measurement, progress, finished, again } = useCheck();
  const texts = TEXTS[language];
  useLayoutEffect(() => {
    document.documentElement.lang = language === 'pt' ? 'pt-BR' : language;
    document.title = `${texts.title} · Roomcast`;
  }, [language, texts]);
  const current = finished?.judgement ?? judge(measurement, location.origin);
  const { advice, notes } = finished?.judgement ?? { advice: [], notes: [] };

  return (
    <main>
      <header>
        <h1>{texts.title}</h1>
        <LanguageSwitch language={language} choose={setLanguage} />
      </header>
      <p class="intro">{texts.intro}</p>
      <Verdict judgement={finished?.judgement ?? null} progress={progress} language={language} again={again} />
      <section aria-labelledby="tried">
        <h2 id="tried">{texts.tried}</h2>
        <ul class="transports">
          {current.transports.map((one) => (
            <TransportRow
              key={one.transport}
              one={one}
              // Nothing was tried where nobody answered.
              isKnown={measurement[one.transport].frames !== null}
              isOver={finished !== null || measurement[one.transport].isOver}
              isUsed={finished !== null && current.rung !== null && TRANSPORT_OF_RUNG[current.rung] === one.transport}
              language={language}
            />
          ))}
        </ul>
      </section>
      {advice.length > 0 && (
        <section aria-labelledby="advice">
          <h2 id="advice">{adviceTitle(current, language)}</h2>
          <ul>
            {advice.map((one) => (
              <li key={one.code}>{say(texts.advices, one, language)}</li>
            ))}
          </ul>
        </section>
      )}
      {notes.length > 0 && (
        <section aria-labelledby="notes">
          <h2 id="notes">{texts.notes}</h2>
          <ul>
            {notes.map((one) => (
              <li key={one.code}>{say(texts.noteTexts, one, language)}</li>
            ))}
          </ul>
        </section>
      )}
      {finished !== null && <Report finished={finished} language={language} />}
    </main>
  );
}

function LanguageSwitch({ language, choose }: { language: Language; choose: (language: Language) => void }) {
  return (
    <fieldset class="languages">
      <legend class="unseen">{TEXTS[language].language}</legend>
      {LANGUAGES.map((one) => (
        <button
          key={one}
          type="button"
          lang={one === 'pt' ? 'pt-BR' : one}
          aria-pressed={one === language}
          onClick={() => choose(one)}
        >
          {LANGUAGE_NAMES[one]}
        </button>
      ))}
    </fieldset>
  );
}

interface VerdictProps {
  readonly judgement: Judgement | null;
  readonly progress: Progress | null;
  readonly language: Language;
  readonly again: () => void;
}

/** One section from the start to the end, so that the button keeps the focus of who pressed it. */
function Verdict({ judgement, progress, language, again }: VerdictProps) {
  const texts = TEXTS[language];
  const title = judgement === null ? texts.measuring : texts.levels[judgement.level];
  const text = judgement === null ? (progress?.phase(language) ?? texts.asking) : verdictText(judgement, language);
  return (
    <section
      class={`verdict ${judgement?.level ?? ''}`}
      data-level={judgement?.level}
      data-verdict={judgement?.verdict.code}
    >
      <h2>
        {judgement !== null && (
          <span class="mark" aria-hidden="true">
            {MARKS[judgement.level]}
          </span>
        )}
        {title}
      </h2>
      <p>
        <span role="status">
          {judgement !== null && <span class="unseen">{title}. </span>}
          {text}
        </span>
        {/* Not read out: it changes every second. */}
        {judgement === null && progress !== null && ` ${progress.left(language)}`}
      </p>
      {judgement === null && <progress aria-label={texts.measuring} max={1} value={progress?.share ?? 0} />}
      <button type="button" onClick={again}>
        {texts.again}
      </button>
    </section>
  );
}

interface RowProps {
  readonly one: TransportJudgement;
  readonly isKnown: boolean;
  readonly isOver: boolean;
  readonly isUsed: boolean;
  readonly language: Language;
}

function TransportRow({ one, isKnown, isOver, isUsed, language }: RowProps) {
  const texts = TEXTS[language];
  const facts = isKnown ? factTexts(one, language) : [];
  const result = isKnown ? resultText(one, language) : isOver ? '–' : texts.waiting;
  return (
    <li data-transport={one.transport} data-outcome={isKnown ? one.outcome : 'unknown'}>
      <h3>
        {texts.transports[one.transport]}
        {isUsed && <span class="used">{texts.usedHere}</span>}
      </h3>
      <p class={`result ${isKnown ? one.level : 'waiting'}`}>
        {isKnown && (
          <span class="mark" aria-hidden="true">
            {MARKS[one.level]}
          </span>
        )}
        {result}
        {isKnown && !isOver && '…'}
      </p>
      <p class="facts">{facts.length === 0 ? texts.about[one.transport] : `${facts.join(' · ')}`}</p>
    </li>
  );
}

function Report({ finished: { judgement, atMs }, language }: { finished: Finished; language: Language }) {
  const texts = TEXTS[language];
  const area = useRef<HTMLTextAreaElement>(null);
  const [told, setTold] = useState('');
  const text = reportText(judgement, { atMs, origin: location.origin, from: navigator.userAgent }, language);
  async function copy(): Promise<void> {
    try {
      await navigator.clipboard.writeText(text);
      setTold(texts.copied);
    } catch {
      // Without HTTPS, browsers have no clipboard for pages.
      area.current?.focus();
      area.current?.select();
      setTold(document.execCommand('copy') ? texts.copied : texts.notCopied);
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
        <span role="status">{told}</span>
      </p>
    </section>
  );
}

render(<Page />, document.getElementById('page') as HTMLElement);
