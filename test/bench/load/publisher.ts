/** A process that publishes over keep-alive connections, one request under way on each, and times the answers. */
import { connect, type Socket } from 'node:net';
import { answerLength } from './answer.ts';
import { nowUs } from './clock.ts';
import { nameOf, type PublishOptions, type PublishResult, SIGNAL, SIGNAL_SHIFT_US, STAMP, serve } from './protocol.ts';
import { createSamples } from './samples.ts';

/** At a fixed rate, what is due is looked for so often. */
const PACE_MS = 1;
const TICKETS = 1_000;
const SENDERS = 1_000;

function idsOf({ tenantId, spread }: PublishOptions, sequence: number): { tenantId: string; ticketId: string } {
  if (spread === undefined) return { tenantId, ticketId: `ticket-${sequence % TICKETS}` };
  const { rooms, tickets } = spread;
  const room = sequence % rooms;
  const ticket = Math.floor(sequence / rooms) % tickets.sizes.length;
  return { tenantId: `tenant-${room}`, ticketId: nameOf(tickets.name, room, ticket) };
}

let atMs = 0;
let at = '';

/** The wall clock; made once in a millisecond. */
function now(): string {
  const nowMs = Date.now();
  if (nowMs !== atMs) {
    atMs = nowMs;
    at = new Date(nowMs).toISOString();
  }
  return at;
}

const paddings = new Map<number, string>();

/** Payloads need few lengths of padding. */
function padding(length: number): string {
  let text = paddings.get(length);
  if (text === undefined) {
    text = 'x'.repeat(Math.max(0, length));
    paddings.set(length, text);
  }
  return text;
}

function payloadOf(options: PublishOptions, sequence: number): string {
  const { payloadBytes } = options;
  const { tenantId, ticketId } = idsOf(options, sequence);
  const ids = `"tenantId":"${tenantId}","ticketId":"${ticketId}"`;
  const state = `"ticketStatus":"OPEN","ticketUpdatedAt":"${now()}"`;
  const head = `{${ids},${state},${STAMP}${nowUs()},"ticket":{"pad":"`;
  const tail = '"}}';
  return `${head}${padding(payloadBytes - head.length - tail.length)}${tail}`;
}

function signalOf(options: PublishOptions, sequence: number): string {
  const { ticketId } = idsOf(options, sequence);
  const payload = `{${STAMP}${nowUs() + SIGNAL_SHIFT_US}}`;
  return `{"event":"${SIGNAL}","room":"ticket:${ticketId}","client":"c${sequence % SENDERS}","payload":${payload}}`;
}

function bodyOf(options: PublishOptions, sequence: number): string {
  const { batch = 1 } = options;
  const payload = (index: number): string => payloadOf(options, sequence + index);
  const envelope = (index: number): string => `{"event":"tickets.updated","payload":${payload(index)}}`;
  const all = (one: (index: number) => string): string =>
    Array.from({ length: batch }, (_, index) => one(index)).join();
  switch (options.body) {
    case 'signal':
      return signalOf(options, sequence);
    case 'channel':
      return `{"channel":"${options.tenantId}","data":${payload(0)}}`;
    case 'payload':
      return batch === 1 ? payload(0) : `[${all(payload)}]`;
    case 'envelope':
      return batch === 1 ? envelope(0) : `{"events":[${all(envelope)}]}`;
  }
}

async function publish(options: PublishOptions): Promise<PublishResult> {
  const { port, path, connections, perSecond, batch = 1, timeoutMs } = options;
  const posts = Math.ceil(options.events / batch);
  const head =
    `POST ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n` +
    'X-EventSource-Event: tickets.updated\r\nContent-Length: ';
  const samples = createSamples();
  const idle: Post[] = [];
  let sent = 0;
  let answered = 0;
  let refused = 0;
  let reason: string | null = null;

  interface Post {
    readonly socket: Socket;
    received: string;
    sentAtUs: number;
  }

  const opened = Array.from({ length: connections }, () => {
    const socket = connect({ host: '127.0.0.1', port, noDelay: true });
    return new Promise<Post>((resolve, reject) => {
      socket.once('connect', () => resolve({ socket, received: '', sentAtUs: 0 }));
      socket.once('error', reject);
    });
  });
  const posting = await Promise.all(opened);
  const startedAt = performance.now();

  await new Promise<void>((resolve, reject) => {
    const timeout = setTimeout(resolve, timeoutMs);
    const pace = perSecond === undefined ? undefined : setInterval(sendDue, PACE_MS);
    const end = (error?: Error): void => {
      clearTimeout(timeout);
      clearInterval(pace);
      if (error === undefined) resolve();
      else reject(error);
    };
    for (const post of posting) {
      idle.push(post);
      post.socket.setEncoding('latin1');
      post.socket.on('error', end);
      post.socket.on('close', () => end(new Error('the server closed a publishing connection')));
      post.socket.on('data', (text: string) => {
        post.received += text;
        const length = answerLength(post.received);
        if (length === null) return;
        samples.add(nowUs() - post.sentAtUs);
        answered++;
        if (!post.received.startsWith('HTTP/1.1 2')) {
          refused++;
          reason ??= post.received.slice(0, 500);
        }
        post.received = post.received.length === length ? '' : post.received.slice(length);
        idle.push(post);
        if (answered === posts) end();
        else sendDue();
      });
    }
    sendDue();
  });
  const seconds = (performance.now() - startedAt) / 1000;
  for (const { socket } of posting) socket.removeAllListeners('close').destroy();
  return { answered: answered * batch, refused, reason, seconds, latency: samples.latency() };

  function sendDue(): void {
    const due =
      perSecond === undefined ? posts : Math.min(posts, 1 + ((performance.now() - startedAt) / 1000) * perSecond);
    while (sent < due && idle.length > 0) {
      const post = idle.shift() as Post;
      const body = bodyOf(options, sent * batch);
      post.sentAtUs = nowUs();
      sent++;
      post.socket.write(`${head}${body.length}\r\n\r\n${body}`, 'latin1');
    }
  }
}

serve(async (request) => (request.kind === 'publish' ? publish(request.options) : null));
