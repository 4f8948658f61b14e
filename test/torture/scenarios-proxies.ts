/** One row per proxy and transport: whether events pass, how soon, how long they are held back, what the client did. */
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from '../support/ports.ts';
import { check, type Objection } from './checker.ts';
import { type ListenOptions, listen, type Transport } from './listeners.ts';
import { startProxies, type Way } from './proxies/proxies.ts';
import { sqlite } from './scenarios-crash.ts';
import { type Kit, onStage, type Stage, type Verdict } from './stage.ts';

interface Case {
  readonly label: string;
  readonly transport: Transport;
  readonly options: Partial<ListenOptions>;
}

const CASES: readonly Case[] = [
  { label: 'websocket', transport: 'websocket', options: {} },
  { label: 'engine.io polling', transport: 'polling', options: {} },
  { label: 'sse', transport: 'sse', options: {} },
  { label: 'sse, life=2', transport: 'sse', options: { life: 2 } },
  { label: 'long poll', transport: 'longpoll', options: {} },
];
/** Where the proxy heeds headers, an event on SSE may take this long: haproxy's kernel hold is 0.2 s. */
const UNBUFFERED_MS = 1_000;
const EVENTS = 16;
const PAUSE_MS = 100;
/** For a transport to get through at all, and for the last events to arrive. */
const READY_MS = 5_000;
const TAIL_MS = 4_000;

interface Row extends Record<string, string | number> {
  readonly proxy: string;
  readonly transport: string;
}

/** All transports at once through one proxy; then each listener's row. */
async function through(way: Way, stage: Stage, objections: Objection[]): Promise<Row[]> {
  const listening = CASES.map((what) => {
    const rooms = [`tenant:${stage.tenants[0]}`];
    const name = `${way.name}, ${what.label}`;
    const listener = listen(what.transport, { name, url: way.url, rooms, legacy: true, ...what.options });
    return { what, listener, begunAt: performance.now(), readyMs: null as number | null };
  });
  const begunAt = performance.now();
  while (performance.now() - begunAt < READY_MS && listening.some(({ readyMs }) => readyMs === null)) {
    for (const entry of listening) {
      if (entry.readyMs === null && entry.listener.ready()) entry.readyMs = performance.now() - entry.begunAt;
    }
    await sleep(2);
  }
  const sentAt = new Map<string, number>();
  for (let count = 0; count < EVENTS; count++) {
    const id = await stage.publish({ bytes: 100, event: 'messages.new' });
    if (id !== null) sentAt.set(id, performance.now());
    await sleep(PAUSE_MS);
    // Idle for longer than the proxy allows.
    if (way.idleMs !== null && count === EVENTS >> 1) await sleep(way.idleMs + 1_000);
  }
  const complete = (): boolean =>
    listening.every(({ listener }) => [...sentAt.keys()].every((id) => listener.cameAt.has(id)));
  const sentAll = performance.now();
  while (performance.now() - sentAll < TAIL_MS && !complete()) await sleep(20);
  const log = await stage.readLog();
  const rows = listening.map(({ what, listener, readyMs }) => {
    const { cameAt, counts, history } = listener;
    const wrongs = check({ log, publications: [], listeners: [history] });
    const seen = [...sentAt.keys()].filter((id) => cameAt.has(id));
    const held = Math.max(0, ...seen.map((id) => (cameAt.get(id) ?? 0) - (sentAt.get(id) ?? 0)));
    const isLossless = seen.length === sentAt.size && wrongs.length === 0;
    const again = Math.max(0, counts.connects - 1);
    objections.push(...wrongs.filter(({ law }) => law !== 'gap'));
    const mustPass =
      what.transport === 'sse'
        ? way.heedsHeaders || what.options.life !== undefined
        : what.transport !== 'websocket' || way.websocket;
    if (mustPass && !isLossless) {
      objections.push({ law: 'gap', who: history.name, detail: `${seen.length} of ${sentAt.size} events passed` });
    }
    if (what.label === 'sse' && way.heedsHeaders && way.idleMs === null && held > UNBUFFERED_MS) {
      objections.push({ law: 'gap', who: history.name, detail: `was held back for ${Math.round(held)} ms` });
    }
    let client = again === 0 ? 'stayed' : `reconnected ${again} times${counts.recovered > 0 ? ', recovered' : ''}`;
    if (counts.connects === 0) client = 'never connected; takes the next transport';
    else if (what.transport === 'longpoll') client = `${counts.connects} polls`;
    return {
      proxy: way.name,
      transport: what.label,
      passes: isLossless ? 'yes' : seen.length === 0 ? 'no' : `${seen.length} of ${sentAt.size}`,
      'first byte ms': readyMs === null ? '-' : Math.round(readyMs),
      'longest hold ms': seen.length === 0 ? '-' : Math.round(held),
      client,
    };
  });
  for (const { listener } of listening) listener.close();
  return rows;
}

export async function proxies(kit: Kit): Promise<Verdict> {
  const port = await freePort();
  const env = { ...sqlite(kit), PORT: String(port), HEARTBEAT_MS: '15000', RETRY_MS: '200' };
  return onStage(kit, { env, tenants: 1 }, async (stage) => {
    const { ways, absent, close } = await startProxies(port, kit.scratch);
    const objections: Objection[] = [];
    try {
      const rows: Row[] = [];
      for (const way of ways) {
        kit.progress(way.name);
        rows.push(...(await through(way, stage, objections)));
      }
      for (const name of absent)
        rows.push({
          proxy: name,
          transport: '',
          passes: 'not run',
          'first byte ms': '',
          'longest hold ms': '',
          client: '',
        });
      if (ways.length === 0) objections.push({ law: 'lost', who: 'proxies', detail: 'none is installed' });
      return { objections, rows, figures: { proxies: ways.length, rows: rows.length, absent: absent.length } };
    } finally {
      await close();
    }
  });
}
