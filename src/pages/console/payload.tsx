/** One event, whole: where it stands in the log and its payload, as text that can be copied. Large ones show their beginning. */
import { useEffect, useMemo, useState } from 'preact/hooks';
import { shownJson } from '../../contract/printable.ts';
import { Scroll } from './elements.tsx';
import { bytes, timeOfDay } from './format.ts';
import type { Heard } from './live-tail.ts';

/** More is drawn when somebody asks for it: a page of a megabyte takes a moment to lay out. */
const FIRST_CHARS = 20_000;

export function PayloadViewer({ heard }: { readonly heard: Heard | null }) {
  const [isWhole, setWhole] = useState(false);
  useEffect(() => setWhole(false), [heard?.cursor]);
  const pretty = useMemo(
    () => (heard === null ? '' : shownJson(JSON.stringify(JSON.parse(heard.text), null, 2))),
    [heard],
  );
  return (
    <section class="panel viewer" aria-labelledby="payload">
      <h3 id="payload">Payload</h3>
      {heard === null ? (
        <p class="empty">Choose an event to see it whole.</p>
      ) : (
        <>
          <dl class="facts">
            <div>
              <dt>Event</dt>
              <dd>{heard.event}</dd>
            </div>
            <div>
              <dt>Cursor</dt>
              <dd>
                <code>{heard.cursor}</code>
              </dd>
            </div>
            <div>
              <dt>Came</dt>
              <dd>
                {heard.atMs === null ? 'before the tail began' : `${timeOfDay(heard.atMs)}, over ${heard.transport}`}
              </dd>
            </div>
            <div>
              <dt>Size</dt>
              <dd>{bytes(new Blob([heard.text]).size)} as JSON text</dd>
            </div>
          </dl>
          <CopyButton text={heard.text} label="Copy payload" />
          <Scroll label="Payload as JSON">
            <pre dir="ltr">{isWhole ? pretty : pretty.slice(0, FIRST_CHARS)}</pre>
          </Scroll>
          {!isWhole && pretty.length > FIRST_CHARS && (
            <p>
              <span class="note">The first {bytes(FIRST_CHARS)} of it. </span>
              <button type="button" onClick={() => setWhole(true)}>
                Show all
              </button>
            </p>
          )}
        </>
      )}
    </section>
  );
}

function CopyButton({ text, label }: { readonly text: string; readonly label: string }) {
  const [said, setSaid] = useState('');
  useEffect(() => {
    if (said === '') return;
    const timer = setTimeout(() => setSaid(''), 2_000);
    return () => clearTimeout(timer);
  }, [said]);
  const copy = async (): Promise<void> => setSaid((await copied(text)) ? 'Copied' : 'Could not copy');
  return (
    <p class="actions">
      <button type="button" onClick={() => void copy()}>
        {label}
      </button>
      <span class="note" role="status">
        {said}
      </span>
    </p>
  );
}

/** Plain http on another host has no clipboard: there a selection is copied, as in old times. */
async function copied(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement('textarea');
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand('copy');
    area.remove();
    return done;
  }
}
