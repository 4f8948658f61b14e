/**
 * Many light listeners. Each hears one room in which events are numbered, and checks as it goes that every number
 * follows the one before: what the checker proves over histories, at a cost that thousands can pay.
 */
import { Agent, get, type IncomingMessage } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { io, type Socket } from 'socket.io-client';
import { JOIN_OF } from './words.ts';

export interface CrowdOptions {
  readonly url: () => string;
  readonly listeners: number;
  readonly rooms: (index: number) => readonly [string];
  /** Shares of the transports. */
  readonly mix: Readonly<Record<'sse' | 'websocket' | 'longpoll' | 'polling', number>>;
  /** Connections opened a second. */
  readonly perSecond?: number;
}

export interface Crowd {
  connected(): number;
  untilReady(timeoutMs: number): Promise<void>;
  /** Destroys every connection at once. */
  cutAll(): void;
  /** One listener goes and comes back from where it was. */
  churn(index: number): void;
  /** Whether every listener has seen the events up to number `total` - 1 of its room. */
  complete(total: number): boolean;
  /** What went wrong so far; with a total, also who has not come to the end. */
  wrongs(total?: number): string[];
  seen(): number;
  /** Milliseconds from publish to arrival since the last call, where events say when they were sent. */
  takeLags(): number[];
  close(): void;
}

interface Member {
  readonly index: number;
  readonly room: string;
  readonly transport: string;
  next: number | null;
  cursor: string | null;
  connected: boolean;
  cut: () => void;
}

const RETRY_MS = 100;
const EVENT = 'leads.updated';
const MOST_WRONGS = 20;
const MOST_LAGS = 20_000;

export async function startCrowd({ url, listeners, rooms, mix, perSecond = 2_000 }: CrowdOptions): Promise<Crowd> {
  const members: Member[] = [];
  const wrongs: string[] = [];
  const agent = new Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY });
  let lags: number[] = [];
  let seen = 0;
  let closed = false;

  function hear(member: Member, cursor: string, payload: { readonly n: number; readonly sentAtMs?: number }): void {
    seen++;
    const { n, sentAtMs } = payload;
    if (member.next !== null && n !== member.next && wrongs.length < MOST_WRONGS) {
      const what = n < member.next ? 'again' : `with ${member.next} to ${n - 1} missing`;
      wrongs.push(`${member.index} (${member.transport}, ${member.room}) saw ${n} ${what}`);
    }
    member.next = Math.max(member.next ?? 0, n + 1);
    member.cursor = cursor;
    if (sentAtMs !== undefined && lags.length < MOST_LAGS) lags.push(Date.now() - sentAtMs);
  }

  const queryOf = ({ room, cursor }: Member, more: string): string => {
    const [kind, id] = [room.slice(0, room.indexOf(':')), room.slice(room.indexOf(':') + 1)];
    const after = cursor === null ? '' : `&after=${encodeURIComponent(cursor)}`;
    return `${kind}Id=${encodeURIComponent(id)}&legacy=false${after}${more}`;
  };

  function again(member: Member, start: (member: Member) => void): void {
    if (!member.connected && closed) return;
    member.connected = false;
    if (!closed) setTimeout(() => start(member), RETRY_MS * (0.5 + Math.random()));
  }

  function startSse(member: Member): void {
    if (closed) return;
    let ended = false;
    const end = (): void => {
      if (!ended) again(member, startSse);
      ended = true;
    };
    const request = get(
      `${url()}/sse?${queryOf(member, '')}`,
      { agent: false, headers: { accept: 'text/event-stream' } },
      (response: IncomingMessage) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => {
          text += chunk;
          for (let end = text.indexOf('\n\n'); end !== -1; end = text.indexOf('\n\n')) {
            const block = text.slice(0, end);
            text = text.slice(end + 2);
            const id = /^id: (.*)$/m.exec(block)?.[1];
            if (id === undefined) {
              if (block.includes('bridge.error')) member.connected = false;
              continue;
            }
            if (block.includes(`event: ${EVENT}\n`))
              hear(member, id, JSON.parse(/^data: (.*)$/m.exec(block)?.[1] ?? '{}'));
            else if (block.includes('event: bridge.reset') && wrongs.length < MOST_WRONGS)
              wrongs.push(`reset: ${block}`);
            else member.cursor = id;
            member.connected = true;
          }
        });
        response.on('close', end);
        response.on('error', end);
      },
    );
    request.on('error', end);
    member.cut = () => request.destroy();
  }

  function startLongPoll(member: Member): void {
    if (closed) return;
    const wait = member.cursor === null ? '&after=now' : '&wait=20&limit=1000';
    let done = false;
    const finish = (retry: boolean): void => {
      if (done) return;
      done = true;
      if (retry) again(member, startLongPoll);
      else startLongPoll(member);
    };
    const request = get(`${url()}/events?${queryOf(member, wait)}`, { agent }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        text += chunk;
      });
      response.on('close', () => finish(true));
      response.on('end', () => {
        if (response.statusCode !== 200) {
          if (response.statusCode !== 503 && wrongs.length < MOST_WRONGS)
            wrongs.push(`poll: ${response.statusCode} ${text}`);
          return finish(true);
        }
        const page = JSON.parse(text) as { events: { id: string; payload: { n: number } }[]; cursor: string };
        for (const { id, payload } of page.events) hear(member, id, payload);
        member.cursor = page.cursor;
        member.connected = true;
        finish(false);
      });
    });
    request.on('error', () => finish(true));
    member.cut = () => request.destroy();
  }

  function startSocket(member: Member): void {
    const socket: Socket = io(url(), {
      transports: [member.transport],
      forceNew: true,
      reconnectionDelay: RETRY_MS,
      reconnectionDelayMax: 4 * RETRY_MS,
      auth: { legacy: false },
    });
    const kind = member.room.slice(0, member.room.indexOf(':'));
    const join = async (): Promise<void> => {
      const { id } = socket;
      const after = member.cursor === null ? {} : { after: member.cursor };
      const answer = (await socket
        .emitWithAck(JOIN_OF[kind] ?? '', member.room.slice(kind.length + 1), after)
        .catch(() => null)) as { ok: boolean } | null;
      if (answer?.ok === true && socket.id === id) {
        joined = true;
        member.connected = true;
      } else if (socket.connected) setTimeout(join, RETRY_MS);
    };
    let joined = false;
    socket.on('connect', () => {
      if (socket.recovered && joined) member.connected = true;
      else void join();
    });
    socket.on('disconnect', () => {
      member.connected = false;
    });
    // While a join is repeated, what came before its ack may come again (protocol §5).
    socket.on(EVENT, (payload: { n: number }, cursor: string) => {
      if (joined || member.next === null || payload.n >= member.next) hear(member, cursor, payload);
    });
    member.cut = () => {
      if (closed) socket.disconnect();
      else socket.io.engine?.close();
    };
    closers.push(() => socket.disconnect());
  }
  const closers: (() => void)[] = [];

  const start = (member: Member): void => {
    if (member.transport === 'sse') startSse(member);
    else if (member.transport === 'longpoll') startLongPoll(member);
    else startSocket(member);
  };
  const opening = (async () => {
    for (let index = 0; index < listeners && !closed; index++) {
      const share = ((index * 0.618034) % 1) as number;
      const { sse, websocket, longpoll } = mix;
      const transport =
        share < sse
          ? 'sse'
          : share < sse + websocket
            ? 'websocket'
            : share < sse + websocket + longpoll
              ? 'longpoll'
              : 'polling';
      const [room] = rooms(index);
      const member: Member = { index, room, transport, next: null, cursor: null, connected: false, cut: () => {} };
      members.push(member);
      start(member);
      if (index % 20 === 19) await sleep((20 / perSecond) * 1000);
    }
  })();

  const connected = (): number => members.reduce((sum, member) => sum + (member.connected ? 1 : 0), 0);
  return {
    connected,
    async untilReady(timeoutMs) {
      await opening;
      const deadline = Date.now() + timeoutMs;
      while (connected() < listeners) {
        if (Date.now() > deadline) throw new Error(`only ${connected()} of ${listeners} listeners came in`);
        await sleep(50);
      }
    },
    cutAll() {
      for (const member of members) {
        member.connected = false;
        member.cut();
      }
    },
    churn: (index) => members[index % members.length]?.cut(),
    complete: (total) => members.every(({ next }) => next !== null && next >= total),
    wrongs(total) {
      if (total === undefined) return [...wrongs];
      const behind = members.filter(({ next }) => next === null || next < total);
      const shown = behind
        .slice(0, 5)
        .map(({ index, transport, next }) => `${index} (${transport}) stands at ${next} of ${total}`);
      return [...wrongs, ...shown];
    },
    seen: () => seen,
    takeLags() {
      const taken = lags;
      lags = [];
      return taken;
    },
    close() {
      closed = true;
      for (const member of members) member.cut();
      for (const close of closers) close();
      agent.destroy();
    },
  };
}
