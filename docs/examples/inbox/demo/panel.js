// The panel of the demo: buttons that break the connection, and what this page has seen of it. An inbox of yours has none of it.
import './panel.css';
import { element, make, say } from '../elements.js';
import { language, t } from '../texts.js';
import { createCount } from './count.js';
import { createGaps } from './gaps.js';

/** How far back the strip shows. */
const STRIP_MS = 60_000;
/** Entries of the history that stay. */
const MOST_ENTRIES = 30;

export function startPanel() {
  let count = createCount();
  const gaps = createGaps();
  /** What the connection was, and since when: { transport, atMs }. A null transport: none. */
  const phases = [];
  let gapEntry = null;

  // The buttons. What they do happens in the demo's processes (demo.ts); this stream tells what it was.
  for (const button of document.querySelectorAll('[data-button]')) button.onclick = () => press(button);
  const remote = new EventSource('/panel');
  remote.addEventListener('state', ({ data }) => showButtons(JSON.parse(data)));
  remote.addEventListener('pressed', ({ data }) => note('pressed', t.pressed[JSON.parse(data)]));

  async function press(button) {
    const { button: name } = button.dataset;
    const isBlocked = button.ariaPressed === 'true';
    const path = button.ariaPressed === null ? name : `${isBlocked ? 'allow' : 'block'}-${name}`;
    await fetch(`/buttons/${path}`, { method: 'POST', body: '{}' });
  }

  function showButtons({ blocked, isUp, waiting }) {
    for (const way of ['websocket', 'sse'])
      document.querySelector(`[data-button=${way}]`).ariaPressed = String(blocked[way]);
    const server = document.querySelector('[data-button=kill], [data-button=start]');
    const name = isUp ? 'kill' : 'start';
    if (server.dataset.button !== name) {
      server.dataset.button = name;
      label(server);
    }
    say('waiting', waiting === 0 ? '' : t.waiting(waiting));
  }

  function label(button) {
    const [title, explanation] = t.buttons[button.dataset.button];
    button.replaceChildren(make('b', {}, title), make('small', {}, explanation));
  }
  document.querySelectorAll('[data-button]').forEach(label);

  /** Adds a line to the history, the newest first. Returns the part of it that may change later. */
  function note(kind, text) {
    const time = make('time', {}, new Date().toTimeString().slice(0, 8));
    const what = make('span', {}, text);
    const entry = make('li', {}, time, what);
    entry.dataset.kind = kind;
    element('story').prepend(entry);
    while (element('story').children.length > MOST_ENTRIES) element('story').lastChild.remove();
    return what;
  }

  const duration = (ms) =>
    ms < 1000 ? `${ms} ms` : `${(ms / 1000).toLocaleString(language, { maximumFractionDigits: 1 })} s`;

  function showStatus({ state, transport }) {
    if (state === 'connecting') return;
    const nowMs = Date.now();
    const before = phases.at(-1)?.transport;
    if (before === transport && phases.length > 0) return;
    phases.push({ transport, atMs: nowMs });
    const gap = gaps.status(transport, nowMs);
    if (transport === null) note('none', t.connectionLost);
    else if (gap === null) note(transport, t.now(t.transports[transport]));
    else gapEntry = note(transport, t.returned(t.transports[transport], duration(gap.untilMs - gap.fromMs)));
    showNumbers();
    showStrip();
  }

  function showNumbers() {
    const { lost, doubled, disordered, received } = count;
    for (const [id, number] of Object.entries({ lost, doubled, disordered, received })) {
      for (const found of document.querySelectorAll(`[data-count=${id}]`)) {
        found.textContent = number.toLocaleString(language);
        found.dataset.bad = String(number > 0 && id !== 'received');
      }
    }
    const transport = phases.at(-1)?.transport;
    say('transport', transport ? t.transports[transport] : '–');
    element('transport').dataset.transport = transport ?? 'none';
    const { last } = gaps;
    const lasts = last === null ? 0 : (last.untilMs ?? Date.now()) - last.fromMs;
    say('gap', last === null ? t.noGap : duration(lasts));
    say('replayed', last === null ? '–' : last.replayed.toLocaleString(language));
    if (gapEntry !== null && last?.untilMs) {
      const text = t.returned(t.transports[gapEntry.parentElement.dataset.kind], duration(last.untilMs - last.fromMs));
      gapEntry.textContent = `${text} · ${t.replayedCount(last.replayed)}`;
    }
  }

  /** The last minute: one piece for each phase, as wide as it was long. */
  function showStrip() {
    const fromMs = Date.now() - STRIP_MS;
    while (phases.length > 1 && phases[1].atMs < fromMs) phases.shift();
    const pieces = phases.map(({ transport, atMs }, index) => {
      const piece = make('i');
      piece.dataset.transport = transport ?? 'none';
      piece.style.flexGrow = (phases[index + 1]?.atMs ?? Date.now()) - Math.max(atMs, fromMs);
      return piece;
    });
    const before = make('i');
    before.style.flexGrow = Math.max(0, (phases[0]?.atMs ?? Date.now()) - fromMs);
    element('strip').replaceChildren(before, ...pieces);
  }
  setInterval(() => {
    showStrip();
    showNumbers();
  }, 1000);

  // Where there is room, the panel stands beside the conversation; else a button opens it.
  const wide = matchMedia('(min-width: 75rem)');
  wide.onchange = () => element('panel').matches(':popover-open') && element('panel').hidePopover();

  return {
    /** @param last the number of the newest event before the first one that `live` brings */
    follow(live, last) {
      count = createCount(last);
      const take = ({ demo }) => {
        if (demo === undefined) return; // somebody else's event
        count.take(demo);
        gaps.take(demo.at);
        showNumbers();
      };
      for (const event of ['tickets.updated', 'messages.new', 'messages.updated', 'messages.deleted'])
        live.on(event, take);
      live.on('status', showStatus);
      live.on('reset', () => note('pressed', t.wasReset));
      showNumbers();
    },
  };
}
