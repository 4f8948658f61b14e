/** Hostile Socket.IO clients: what they hold, write and cost stays within bounds, and other callers notice nothing. */
import { readFileSync } from 'node:fs';
import { io } from 'socket.io-client';
import { frame, openRawWebSocket, PING, type RawWebSocket, TEXT } from '../support/raw-websocket.ts';
import { underAttack } from './attack.ts';
import type { Objection } from './checker.ts';
import { sqlite } from './scenarios-crash.ts';
import type { Server } from './server.ts';
import { type Kit, onStage, signToken, type Verdict } from './stage.ts';

const objection = (detail: string): Objection => ({ law: 'lost', who: 'server under attack', detail });

const HANDSHAKE = '/socket.io/?EIO=4&transport=polling';
const UPGRADE = 'EIO=4&transport=websocket';

async function openSession(server: Server): Promise<string | undefined> {
  const text = await (await fetch(server.url + HANDSHAKE)).text();
  return /"sid":"([^"]+)"/.exec(text)?.[1];
}

const DEAF = 12;
/** What each of them sends in all. */
const FLOOD_BYTES = 80_000_000;

/** Websockets that read nothing and send pings, probes and requests, each of which the server answers. */
export function pings(kit: Kit): Promise<Verdict> {
  return onStage(kit, { env: sqlite(kit) }, async (stage) => {
    const { server } = stage;
    const attack = async (signal: AbortSignal) => {
      const raws: RawWebSocket[] = [];
      const flood = async (index: number): Promise<void> => {
        const isProbing = index % 4 === 3;
        const sid = isProbing ? await openSession(server) : undefined;
        const raw = await openRawWebSocket(server.url, sid === undefined ? UPGRADE : `${UPGRADE}&sid=${sid}`);
        raws.push(raw);
        if (index % 4 === 1 || index % 4 === 2) raw.send('40');
        raw.pause();
        const kinds = [
          frame(PING, 'x'.repeat(100)),
          frame(PING, ''),
          frame(TEXT, '421["nothing"]'),
          frame(TEXT, '2probe'),
        ];
        const one = kinds[index % 4] as Buffer;
        const chunk = Buffer.concat(Array.from({ length: Math.ceil(64_000 / one.length) }, () => one));
        for (let sent = 0; sent < FLOOD_BYTES && !signal.aborted && !raw.closed; sent += chunk.length) {
          await Promise.race([raw.write(chunk), aborted(signal)]);
        }
      };
      await Promise.all(Array.from({ length: DEAF }, (_, index) => flood(index)));
      await aborted(signal);
      for (const raw of raws) raw.destroy();
    };
    const { figures, objections } = await underAttack(kit, { server, attack });
    return stage.verdict({ websockets: DEAF, ...figures }, { objections });
  });
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

const MOST_CONNECTIONS = 80;
const SILENT = 120;

/** More handshakes than MAX_CONNECTIONS that never send CONNECT, and upgrades of live sessions: others still get in. */
export function handshakes(kit: Kit): Promise<Verdict> {
  const env = { ...sqlite(kit), MAX_CONNECTIONS: String(MOST_CONNECTIONS) };
  return onStage(kit, { env }, async (stage) => {
    const { server } = stage;
    let held = 0;
    let upgrades = 0;
    let admitted = 0;
    const attack = async (signal: AbortSignal) => {
      const raws: RawWebSocket[] = [];
      const hold = async (query: string): Promise<RawWebSocket> => {
        const raw = await openRawWebSocket(server.url, query);
        raws.push(raw);
        return raw;
      };
      const sid = await openSession(server);
      for (let index = 0; index < SILENT && !signal.aborted; index++) {
        if ((await hold(UPGRADE)).status === 101) held++;
        if ((await hold(`${UPGRADE}&sid=${sid}`)).status === 101) upgrades++;
      }
      // Clients that say who they are get in while the silent ones are there.
      const guests = Array.from({ length: 10 }, () => io(server.url, { transports: ['websocket'], forceNew: true }));
      for (const guest of guests) guest.on('connect', () => admitted++);
      raws[0]?.destroy();
      await aborted(signal);
      for (const guest of guests) guest.disconnect();
      for (const raw of raws) raw.destroy();
    };
    const { figures, objections } = await underAttack(kit, { server, attack });
    if (held > MOST_CONNECTIONS / 4) objections.push(objection(`${held} connections were held without CONNECT`));
    if (upgrades > 1) objections.push(objection(`one session got ${upgrades} websockets`));
    if (admitted < 10) objections.push(objection(`only ${admitted} of 10 honest clients got in`));
    return stage.verdict({ held, upgrades, admitted, ...figures }, { objections });
  });
}

const JUMPERS = 10;
/** Rooms that each of them stays in. */
const STAYS_IN = 400;
const MOST_MB_PER_SECOND = 12;

/** Connections in many rooms that join and leave one all the time, and reconnect: each change writes what it changes. */
export function sessions(kit: Kit): Promise<Verdict> {
  const env = { ...sqlite(kit), RATE_JOINS: '500' };
  return onStage(kit, { env, auth: 'jwt' }, async (stage) => {
    const { server } = stage;
    const token = signToken({ tenantId: 'jump', sub: 'jumper', scope: 'subscribe' });
    const publisher = signToken({ tenantId: 'bystander', sub: 'p', scope: 'publish subscribe' });
    const sockets = Array.from({ length: JUMPERS }, () =>
      io(server.url, { transports: ['websocket'], forceNew: true, reconnectionDelay: 10, auth: { token } }),
    );
    const rooms = Array.from({ length: STAYS_IN }, (_, index) => `${index}-${'x'.repeat(100)}`);
    await Promise.all(
      sockets.map(async (socket) => {
        await new Promise<void>((resolve) => socket.once('connect', resolve));
        await Promise.all(rooms.map((room) => socket.emitWithAck('join-ticket', room)));
      }),
    );
    let changes = 0;
    let writtenBytes = 0;
    let seconds = 0;
    const attack = async (signal: AbortSignal) => {
      const [startedMs, startedBytes] = [performance.now(), diskBytes(server)];
      await Promise.all(
        sockets.map(async (socket) => {
          for (let turn = 1; !signal.aborted; turn++) {
            if (turn % 200 === 0) socket.io.engine.close();
            const ask = (event: string) =>
              socket
                .timeout(2_000)
                .emitWithAck(event, 'to-and-fro')
                .catch(() => {});
            await ask('join-ticket');
            await ask('leave-ticket');
            changes += 2;
          }
        }),
      );
      writtenBytes = diskBytes(server) - startedBytes;
      seconds = (performance.now() - startedMs) / 1000;
      for (const socket of sockets) socket.disconnect();
    };
    const headers = { authorization: `Bearer ${publisher}` };
    const { figures, objections } = await underAttack(kit, { server, headers, attack });
    const mbPerSecond = writtenBytes / seconds / 1e6;
    if (mbPerSecond > MOST_MB_PER_SECOND) objections.push(objection(`it wrote ${mbPerSecond.toFixed(1)} MB/s`));
    return stage.verdict({ changes, 'MB written per second': mbPerSecond.toFixed(1), ...figures }, { objections });
  });
}

/** What the process has passed to write(2). */
function diskBytes({ pid }: Server): number {
  return Number(/^wchar: (\d+)/m.exec(readFileSync(`/proc/${pid}/io`, 'utf8'))?.[1]);
}

const TENANTS = 300;

/** A token of hundreds of tenants asks for hundreds of rooms, each of which it would hear in every tenant. */
export function audiences(kit: Kit): Promise<Verdict> {
  return onStage(kit, { env: sqlite(kit), auth: 'jwt' }, async (stage) => {
    const { server } = stage;
    const tenantId = Array.from({ length: TENANTS }, (_, index) => `t${index}`);
    const authorization = `Bearer ${signToken({ tenantId, sub: 'wide', scope: 'subscribe' })}`;
    const publisher = signToken({ tenantId: 'bystander', sub: 'p', scope: 'publish subscribe' });
    const query = `ticketId=${Array.from({ length: 500 }, (_, index) => `ticket-${index}`).join(',')}`;
    const statuses = new Map<number, number>();
    const attack = async (signal: AbortSignal) => {
      const client = async (path: string): Promise<void> => {
        while (!signal.aborted) {
          const response = await fetch(`${server.url}${path}?${query}`, { headers: { authorization }, signal });
          statuses.set(response.status, (statuses.get(response.status) ?? 0) + 1);
          if (!response.ok) await response.text();
        }
      };
      await Promise.allSettled(['/sse', '/events'].map(client));
    };
    const headers = { authorization: `Bearer ${publisher}` };
    const { figures, objections } = await underAttack(kit, { server, headers, attack });
    const [other] = [...statuses.keys()].filter((status) => status !== 400);
    if (other !== undefined) objections.push(objection(`a request for too many audiences got ${other}`));
    return stage.verdict({ refused: statuses.get(400) ?? 0, ...figures }, { objections });
  });
}
