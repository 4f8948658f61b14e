/** Every scenario by name. `short`: part of continuous integration, where all of them together take about 4 minutes. */
import { handover, killed, mixed, projections } from './scenarios-crash.ts';
import { eraseLarge, eraseNothing } from './scenarios-erase.ts';
import { hostile, hostileOpen } from './scenarios-hostile.ts';
import { badReaders, cutEverywhere, storm } from './scenarios-network.ts';
import { proxies } from './scenarios-proxies.ts';
import { filteredReads } from './scenarios-reads.ts';
import { redisCutOff, redisFlushed, redisFull, redisKilled, redisPaused } from './scenarios-redis.ts';
import { signalFlood, signalsBesideRecords } from './scenarios-signals.ts';
import { soak } from './scenarios-soak.ts';
import { audiences, handshakes, pings, sessions } from './scenarios-socketio.ts';
import {
  clock,
  damaged,
  descriptors,
  diskFull,
  fileSystemFull,
  has,
  isRoot,
  readOnly,
  synced,
  trimmed,
} from './scenarios-store.ts';
import { metricsUnread, pipelined, unread } from './scenarios-unread.ts';
import type { Kit, Verdict } from './stage.ts';

export interface Scenario {
  readonly name: string;
  readonly tells: string;
  readonly short: boolean;
  /** Only when named, or in a run of half an hour and more. */
  readonly onRequest?: boolean;
  /** What it lacks on this machine, or null. */
  readonly needs?: () => string | null;
  readonly play: (kit: Kit) => Promise<Verdict>;
}

const redis = has('redis-server');

export const SCENARIOS: readonly Scenario[] = [
  { name: 'handover', tells: 'listeners begin at old places while events are published', short: true, play: handover },
  { name: 'sigkill', tells: 'the server killed again and again', short: true, play: killed('SIGKILL') },
  { name: 'sigterm', tells: 'the server drained, and killed while it drains', short: true, play: killed('SIGTERM') },
  { name: 'mixed', tells: 'every network fault at random, kills among them', short: true, play: mixed },
  { name: 'projections', tells: 'the disk hangs, and kills, while the log projects', short: true, play: projections },
  { name: 'cut', tells: 'connections cut at every byte of a frame', short: true, play: cutEverywhere },
  { name: 'signals', tells: 'signals beside records, under kills and cuts', short: true, play: signalsBesideRecords },
  { name: 'readers', tells: 'readers that stop, crawl, or are gone unnoticed', short: false, play: badReaders },
  { name: 'storm', tells: 'a reconnect storm of a crowd', short: true, play: storm },
  {
    name: 'sync',
    tells: 'no 201 before the sync, by the system calls',
    short: true,
    needs: has('strace'),
    play: synced,
  },
  {
    name: 'disk-full',
    tells: 'a file-size limit that comes and goes',
    short: true,
    needs: has('prlimit'),
    play: diskFull,
  },
  { name: 'fs-full', tells: 'a small file system that fills up', short: false, needs: isRoot, play: fileSystemFull },
  { name: 'read-only', tells: 'a file system made read-only', short: false, needs: isRoot, play: readOnly },
  { name: 'damaged', tells: 'the file removed, overwritten, replaced by rubbish', short: true, play: damaged },
  { name: 'trimmed', tells: 'cursors older than what is kept', short: false, play: trimmed },
  { name: 'clock', tells: 'the clock steps back and forth, the event loop stands still', short: true, play: clock },
  { name: 'descriptors', tells: 'no file descriptor left', short: false, play: descriptors },
  { name: 'redis-killed', tells: 'Redis and nodes killed', short: true, needs: redis, play: redisKilled },
  { name: 'redis-paused', tells: 'Redis hangs', short: false, needs: redis, play: redisPaused },
  { name: 'redis-cut', tells: 'the network to Redis cut', short: false, needs: redis, play: redisCutOff },
  { name: 'redis-flushed', tells: 'Redis emptied', short: true, needs: redis, play: redisFlushed },
  { name: 'redis-full', tells: 'Redis out of memory', short: true, needs: redis, play: redisFull },
  { name: 'soak', tells: '10,000 listeners for long (--minutes)', short: false, onRequest: true, play: soak(10_000) },
  { name: 'soak-small', tells: 'the same with 600, for half a minute', short: false, play: soak(600) },
  { name: 'hostile', tells: 'fuzzed HTTP, WebSocket, Engine.IO and Socket.IO', short: true, play: hostile },
  { name: 'hostile-open', tells: 'the same where no tokens are asked for', short: false, play: hostileOpen },
  { name: 'hostile-erase', tells: 'erasures that find nothing, in a loop', short: true, play: eraseNothing },
  { name: 'hostile-erase-large', tells: 'the erasure of a tenant with many records', short: true, play: eraseLarge },
  { name: 'hostile-pipeline', tells: 'hundreds of requests in one packet, nothing read', short: true, play: pipelined },
  { name: 'hostile-unread', tells: 'large answers that nobody reads', short: true, play: unread },
  { name: 'hostile-metrics', tells: 'metrics pages that nobody reads', short: true, play: metricsUnread },
  { name: 'hostile-reads', tells: 'one caller asks in a loop for what is not there', short: true, play: filteredReads },
  { name: 'hostile-pings', tells: 'websockets that send pings and read nothing', short: true, play: pings },
  {
    name: 'hostile-handshakes',
    tells: 'handshakes without CONNECT, upgrades of live sessions',
    short: true,
    play: handshakes,
  },
  {
    name: 'hostile-sessions',
    tells: 'clients that join, leave and reconnect all the time',
    short: true,
    play: sessions,
  },
  { name: 'hostile-signals', tells: 'signals far beyond the rate', short: true, play: signalFlood(10) },
  {
    name: 'hostile-signals-let-in',
    tells: 'more signals than readers can take',
    short: true,
    play: signalFlood(1_000_000),
  },
  { name: 'hostile-audiences', tells: 'hundreds of rooms in hundreds of tenants', short: true, play: audiences },
  { name: 'proxies', tells: 'real intermediaries, as many as are installed', short: false, play: proxies },
];
