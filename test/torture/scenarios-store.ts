/** The log itself in trouble: no space, no permission, damaged, gone, trimmed; a clock that lies; a process that cannot. */
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Objection } from './checker.ts';
import { TRANSPORTS } from './listeners.ts';
import { sqlite } from './scenarios-crash.ts';
import { spawnServer } from './server.ts';
import { eventually, type Kit, logOf, onStage, type Stage, type Verdict } from './stage.ts';

/** A file-size limit (`ulimit -f`; Node ignores SIGXFSZ, so writes fail) that comes and goes under a running server. */
export function diskFull(kit: Kit): Promise<Verdict> {
  return onStage(kit, { env: sqlite(kit), server: { limits: { fileKiB: 1_024 } } }, async (stage) => {
    await stage.audience();
    const stop = stage.publishing(4);
    const { refusals, readable } = await untilRefused(stage);
    // Space is back: what was refused is tried again, and the log takes it.
    spawnSync('prlimit', ['--pid', String(stage.server.pid), '--fsize=unlimited:']);
    const acknowledged = stage.counts.acknowledged;
    await eventually('the log takes events again', () => stage.counts.acknowledged > acknowledged + 20, 30_000);
    await stop();
    // What was acknowledged around the failure survives a crash, too.
    await stage.server.end('SIGKILL');
    await stage.start(0, {});
    return stage.verdict({ refusals }, { objections: readable });
  });
}

/** A small file system of its own that fills up. */
export function fileSystemFull(kit: Kit): Promise<Verdict> {
  const mount = join(kit.scratch, 'small');
  mkdirSync(mount);
  spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=3m', 'tmpfs', mount]);
  const play = onStage(kit, { env: { STORE_URL: `sqlite:${mount}/log.db` } }, async (stage) => {
    await stage.audience();
    const stop = stage.publishing(4);
    const { refusals, readable } = await untilRefused(stage);
    spawnSync('mount', ['-o', 'remount,size=64m', mount]);
    const acknowledged = stage.counts.acknowledged;
    await eventually('the log takes events again', () => stage.counts.acknowledged > acknowledged + 20, 30_000);
    await stop();
    await stage.restart('SIGKILL');
    return stage.verdict({ refusals }, { objections: readable });
  });
  return play.finally(() => spawnSync('umount', [mount]));
}

/** The file system becomes read-only while the server runs, and writable again. */
export function readOnly(kit: Kit): Promise<Verdict> {
  const mount = join(kit.scratch, 'small');
  mkdirSync(mount);
  spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=64m', 'tmpfs', mount]);
  const play = onStage(kit, { env: { STORE_URL: `sqlite:${mount}/log.db` } }, async (stage) => {
    await stage.audience();
    const stop = stage.publishing(2, 5, { bytes: 200 });
    await sleep(500);
    await stage.server.end('SIGTERM');
    spawnSync('mount', ['-o', 'remount,ro', mount]);
    const refused = await exitOf(stage, { STORE_URL: `sqlite:${mount}/log.db` });
    const objections = oneLine('read-only', refused);
    spawnSync('mount', ['-o', 'remount,rw', mount]);
    await stage.start();
    await sleep(500);
    await stop();
    return stage.verdict({ refusal: refused.errors.trim().slice(0, 90) }, { objections });
  });
  return play.finally(() => spawnSync('umount', [mount]));
}

async function untilRefused(stage: Stage): Promise<{ refusals: number; readable: Objection[] }> {
  const objections: Objection[] = [];
  await eventually('publishes are refused', () => stage.counts.refusals > 20, 25_000).catch(() => {
    objections.push({ law: 'lost', who: 'server', detail: 'a full disk refused nothing' });
  });
  // Listening and reading go on.
  const read = await fetch(`${stage.server.url}/events?tenantId=${stage.tenants[0]}&limit=5`);
  if (read.status !== 200) objections.push({ law: 'lost', who: 'server', detail: `reading got ${read.status}` });
  const ready = await fetch(`${stage.server.url}/readyz`);
  if (ready.status !== 503) objections.push({ law: 'lost', who: 'server', detail: `/readyz says ${ready.status}` });
  return { refusals: stage.counts.refusals, readable: objections };
}

/** Starts a server that is meant to refuse; what it said, and how it ended. */
async function exitOf(_: Stage, env: Record<string, string>): Promise<{ code: number | null; errors: string }> {
  const child = spawnServer({ env });
  let errors = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    errors += String(chunk);
  });
  child.stdout?.resume();
  const code = await new Promise<number | null>((resolve) => {
    const late = setTimeout(() => child.kill('SIGKILL'), 15_000);
    child.once('close', (exit) => {
      clearTimeout(late);
      resolve(exit);
    });
  });
  return { code, errors };
}

function oneLine(what: string, { code, errors }: { code: number | null; errors: string }): Objection[] {
  if (code !== 0 && code !== null && errors.startsWith('roomcast: ') && errors.trim().split('\n').length === 1)
    return [];
  return [{ law: 'lost', who: 'server', detail: `on a ${what} file it ended with ${code}: ${errors.slice(0, 500)}` }];
}

/** The file is overwritten in the middle, cut short, or removed under the running server and before a start. */
export function damaged(kit: Kit): Promise<Verdict> {
  const lostLogs = new Set<string>();
  return onStage(kit, { env: sqlite(kit), mayReset: true, lostLogs }, async (stage) => {
    const file = join(kit.scratch, 'log.db');
    const objections: Objection[] = [];
    await stage.audience();
    for (let count = 0; count < 200; count++) await stage.publish({ bytes: 2_000 });
    // Removed under way: nothing may be acknowledged that the next start would not find.
    const epoch = logOf(stage.publications[0]?.ids[0] ?? '');
    for (const suffix of ['', '-wal', '-shm']) rmSync(file + suffix, { force: true });
    let after = 0;
    for (let count = 0; count < 20; count++) if ((await stage.publish()) !== null) after++;
    if (after > 0) {
      objections.push({ law: 'lost', who: 'server', detail: `${after} publishes acknowledged into a removed file` });
    }
    lostLogs.add(epoch);
    await stage.restart('SIGTERM');
    for (let count = 0; count < 100; count++) await stage.publish({ bytes: 2_000 });
    // Overwritten under way: refused or served, but never a wrong record; the checker sees the bytes.
    const second = logOf(stage.publications.at(-1)?.ids[0] ?? '');
    await stage.server.end('SIGTERM');
    const size = statSync(file).size;
    const handle = openSync(file, 'r+');
    for (let page = 0; page < 12; page++) {
      writeSync(handle, Buffer.alloc(2_048, 0xa5), 0, 2_048, kit.random.whole(1, Math.floor(size / 4_096) - 1) * 4_096);
    }
    closeSync(handle);
    // It may start, since nobody reads a whole file at the start. What it then says must be right, or a refusal.
    let outcome = 'started';
    try {
      await stage.start();
      for (const tenant of stage.tenants) {
        const response = await fetch(`${stage.server.url}/events?tenantId=${tenant}&after=start&limit=1000`);
        const text = await response.text();
        if (response.status === 500 || /\bat .*:\d+:\d+/.test(text)) {
          objections.push({
            law: 'altered',
            who: 'server',
            detail: `a damaged file answers ${response.status} ${text}`,
          });
        }
        if (response.status !== 200) outcome = `started, reading refused (${response.status})`;
      }
      for (let count = 0; count < 10; count++) await stage.publish({ once: true });
      await stage.server.end('SIGKILL');
    } catch (error) {
      outcome = 'refused to start';
      if (!String(error).includes('roomcast: ')) objections.push({ law: 'lost', who: 'server', detail: String(error) });
    }
    lostLogs.add(second);
    // A header of rubbish: a clear refusal.
    writeFileSync(file, 'this is no database, and it is long enough to be seen as such'.repeat(100));
    objections.push(...oneLine('damaged', await exitOf(stage, sqlite(kit))));
    for (const suffix of ['', '-wal', '-shm']) rmSync(file + suffix, { force: true });
    await stage.start();
    await stage.untilReady();
    for (let count = 0; count < 20; count++) await stage.publish();
    return stage.verdict({ 'damaged pages': outcome }, { objections });
  });
}

/** A log that keeps little: whoever is away for long is told so, nobody else. */
export function trimmed(kit: Kit): Promise<Verdict> {
  const env = { ...sqlite(kit), RETENTION_EVENTS: '200' };
  return onStage(kit, { env, tenants: 1, mayReset: true }, async (stage) => {
    for (const transport of TRANSPORTS) await stage.listen(transport, { mayReset: false });
    const away = await Promise.all(TRANSPORTS.map((transport) => stage.listen(transport, { legacy: true })));
    await stage.untilReady();
    for (let count = 0; count < 50; count++) await stage.publish({ bytes: 50 });
    await sleep(300);
    for (const relay of away) relay.refuse();
    for (let count = 0; count < 900; count++) await stage.publish({ bytes: 50 });
    // Trimming may lag by 10 s (protocol §8).
    await eventually('the log was trimmed', async () => (await stage.readLog()).length < 500, 15_000);
    for (const relay of away) relay.restore();
    for (let count = 0; count < 50; count++) await stage.publish({ bytes: 50 });
    const told = (): number =>
      stage.listeners.slice(TRANSPORTS.length).filter(({ entries }) => entries.some(({ kind }) => kind === 'reset'))
        .length;
    const objections: Objection[] = [];
    await eventually('all who were away are told', () => told() === TRANSPORTS.length, 15_000).catch(() => {
      objections.push({
        law: 'reset',
        who: 'server',
        detail: `${told()} of ${TRANSPORTS.length} were told of the gap`,
      });
    });
    const log = await stage.readLog();
    const oldest = log[0]?.id ?? '';
    const before = stage.publications
      .flatMap(({ ids }) => ids)
      .filter((id) => id < oldest)
      .sort();
    return stage.verdict({ told: told(), kept: log.length }, { objections, log, trimmedBefore: before.at(-1) ?? null });
  });
}

/** The wall clock jumps back and forth by minutes to days, also over restarts; the event loop stands still at times. */
export function clock(kit: Kit): Promise<Verdict> {
  const control = join(kit.scratch, 'control.json');
  writeFileSync(control, '{}');
  return onStage(kit, { env: sqlite(kit), server: { control } }, async (stage) => {
    await stage.audience();
    const stop = stage.publishing(3, 2);
    const hour = 3_600_000;
    const rounds = kit.long ? 30 : 10;
    for (let round = 0; round < rounds; round++) {
      // Within what the log keeps (72 h); sessions and keys live on the same clock.
      const offsetMs = kit.random.pick([-24, -1, -0.01, 0, 0.01, 1, 20]) * hour;
      const blockMs = kit.random.chance(0.4) ? kit.random.whole(200, 2_500) : 0;
      writeFileSync(control, JSON.stringify({ offsetMs, blockMs, ...(blockMs > 0 ? { block: round + 1 } : {}) }));
      await sleep(blockMs + kit.random.whole(200, 800));
      if (kit.random.chance(0.3)) for (const relay of stage.relays) relay.cut();
      if (round % 4 === 3) await stage.restart(kit.random.pick(['SIGKILL', 'SIGTERM'] as const));
      kit.progress(`${round + 1} of ${rounds} steps`);
    }
    writeFileSync(control, '{}');
    await stop();
    return stage.verdict({ steps: rounds, refusals: stage.counts.refusals });
  });
}

/** No file descriptor is left for new connections: those there are live on, and when some are free, others come in. */
export function descriptors(kit: Kit): Promise<Verdict> {
  return onStage(kit, { env: sqlite(kit), server: { limits: { files: 120 } } }, async (stage) => {
    await stage.audience();
    const stop = stage.publishing(2, 5);
    const idle: Socket[] = [];
    for (let count = 0; count < 200; count++) {
      const socket = connect(stage.server.port, '127.0.0.1');
      socket.on('error', () => {});
      idle.push(socket);
    }
    await sleep(1_500);
    for (const relay of stage.relays) relay.cut();
    await sleep(1_000);
    const objections: Objection[] = [];
    if (!stage.server.alive())
      objections.push({ law: 'lost', who: 'server', detail: `died: ${stage.server.errors.join(' ')}` });
    for (const socket of idle) socket.destroy();
    await sleep(500);
    await stop();
    return stage.verdict({}, { objections });
  });
}

/**
 * No 201 leaves the process while a write to the log's files has not been synced: what a power cut would take. Watched
 * from outside, by the system calls.
 */
export function synced(kit: Kit): Promise<Verdict> {
  const trace = join(kit.scratch, 'trace');
  const calls = 'openat,pwrite64,write,writev,fdatasync,fsync,close,ftruncate';
  const wrapper = [
    'strace',
    '-D',
    '-f',
    '-qq',
    '-y',
    '-s',
    '16',
    '-e',
    `trace=${calls}`,
    '-e',
    'signal=none',
    '-o',
    trace,
  ];
  return onStage(kit, { env: sqlite(kit), tenants: 1, server: { wrapper } }, async (stage) => {
    const count = kit.long ? 200 : 40;
    for (let sent = 0; sent < count; sent++) await stage.publish({ event: 'leads.updated' });
    const lines = readFileSync(trace, 'utf8').split('\n');
    const unsynced = new Set<string>();
    const begun = new Map<string, string>();
    let answers = 0;
    let early = 0;
    let syncs = 0;
    for (const whole of lines) {
      const [, thread = '', rest = ''] = /^(\d+) +(.*)$/.exec(whole) ?? [];
      // A call of one thread may be told in two lines, with another thread's in between.
      let line = rest;
      if (line.endsWith('<unfinished ...>')) {
        begun.set(thread, line.slice(0, -'<unfinished ...>'.length));
        if (/^(pwrite64|write)/.test(line)) line = begun.get(thread) ?? '';
        else continue;
      } else if (line.startsWith('<... ')) {
        line = `${begun.get(thread) ?? ''}${line}`;
        if (/^(pwrite64|write)/.test(line)) continue;
      }
      const file = /<([^>]*log\.db(?:-wal)?)>/.exec(line)?.[1];
      if (file !== undefined && line.startsWith('pwrite64')) unsynced.add(file);
      if (file !== undefined && /^f(data)?sync/.test(line)) {
        syncs++;
        unsynced.delete(file);
      }
      if (/^writev?\(.*"HTTP\/1\.1 201/.test(line)) {
        answers++;
        if (unsynced.size > 0) early++;
      }
    }
    const objections: Objection[] = [];
    if (answers < count)
      objections.push({ law: 'lost', who: 'trace', detail: `${answers} of ${count} answers were seen` });
    if (early > 0) {
      objections.push({ law: 'lost', who: 'server', detail: `${early} of ${answers} answers left before the sync` });
    }
    return stage.verdict({ answers, syncs }, { objections });
  });
}

export const isRoot = (): string | null =>
  process.getuid?.() === 0 ? null : 'needs root, to mount a small file system';
export const has =
  (...programs: readonly string[]) =>
  (): string | null => {
    const absent = programs.filter(
      (program) =>
        !['/usr/bin', '/usr/sbin', '/bin', '/sbin', '/usr/local/bin'].some((directory) =>
          existsSync(join(directory, program)),
        ),
    );
    return absent.length === 0 ? null : `${absent.join(', ')} not installed`;
  };
