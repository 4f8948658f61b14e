/**
 * The least that a durable publish may cost in Node: `node:http`, a check by hand, and one table in SQLite with
 * `synchronous=FULL`. One worker thread commits what has come meanwhile together. No index, no state, no cursors, no
 * listeners, no authentication, no limits. `argv[2]` is the directory of its file.
 */
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { announce, createHttpServer, readBody } from './serve.ts';

/** event, tenant, rooms, payload */
type Row = readonly [string, string, string, string];

// ---- the worker

const ROWS_AT_ONCE = 32;

function commitInTurn(directory: string): void {
  const db = new DatabaseSync(join(directory, 'log.db'));
  db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 8192');
  db.exec('CREATE TABLE records (seq INTEGER PRIMARY KEY, event TEXT, tenant TEXT, rooms TEXT, payload TEXT) STRICT');
  const insert = (rows: number) => db.prepare(`INSERT INTO records VALUES ${Array(rows).fill('(?,?,?,?,?)').join()}`);
  const [begin, commit, one, many] = [db.prepare('BEGIN'), db.prepare('COMMIT'), insert(1), insert(ROWS_AT_ONCE)];
  let seq = 0;
  parentPort?.on('message', (rows: readonly Row[]) => {
    begin.run();
    let from = 0;
    for (; from + ROWS_AT_ONCE <= rows.length; from += ROWS_AT_ONCE) {
      many.run(...rows.slice(from, from + ROWS_AT_ONCE).flatMap((row) => [++seq, ...row]));
    }
    for (const row of rows.slice(from)) one.run(++seq, ...row);
    commit.run();
    parentPort?.postMessage(null);
  });
}

// ---- the event loop

interface Job {
  readonly rows: readonly Row[];
  done(first: number): void;
}

/** For its callers' next requests a group waits at most so long, and half as long as the last one took. */
const MAX_GATHER_MS = 2;

/** As the bridge does: callers that publish in rounds should share a commit. */
function createGroups(worker: Worker): (job: Job) => void {
  let waiting: Job[] = [];
  let underWay: Job[] | null = null;
  let callers = 0;
  let sentAt = 0;
  let groupMs = 0;
  let gatherUntil: number | null = null;
  let isGathering = false;
  let seq = 0;
  worker.on('message', () => {
    const group = underWay ?? [];
    underWay = null;
    groupMs = performance.now() - sentAt;
    for (const { rows, done } of group) {
      done(seq + 1);
      seq += rows.length;
    }
    next();
  });
  return (job) => {
    waiting.push(job);
    callers = Math.max(callers, waiting.length + (underWay?.length ?? 0));
    next();
  };

  function gathered(): void {
    isGathering = false;
    next();
  }

  function next(): void {
    if (underWay !== null || waiting.length === 0) return;
    const now = performance.now();
    gatherUntil ??= now + Math.min(MAX_GATHER_MS, groupMs / 2);
    if (waiting.length < callers && now < gatherUntil) {
      if (!isGathering) setImmediate(gathered);
      isGathering = true;
      return;
    }
    gatherUntil = null;
    underWay = waiting;
    waiting = [];
    callers = Math.max(underWay.length, callers - 1);
    sentAt = now;
    worker.postMessage(underWay.flatMap(({ rows }) => rows));
  }
}

const ID = /^[A-Za-z0-9_.:-]{1,128}$/;
const INSTANT = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/;
const EVENT = 'tickets.updated';

interface Body {
  readonly event?: unknown;
  readonly payload?: Readonly<Record<string, unknown>> | null;
  readonly events?: readonly Body[];
}

function rowOf({ event, payload }: Body): Row {
  if (event !== EVENT || typeof payload !== 'object' || payload === null) throw new Error('wrong envelope');
  const { tenantId, ticketId, ticketStatus, ticketUpdatedAt, ticket } = payload;
  const isRight =
    typeof tenantId === 'string' &&
    ID.test(tenantId) &&
    typeof ticketId === 'string' &&
    ID.test(ticketId) &&
    typeof ticketStatus === 'string' &&
    ticketStatus !== '' &&
    typeof ticketUpdatedAt === 'string' &&
    INSTANT.test(ticketUpdatedAt) &&
    typeof ticket === 'object';
  if (!isRight) throw new Error('wrong payload');
  return [EVENT, tenantId, `tenant:${tenantId},ticket:${ticketId}`, JSON.stringify(payload)];
}

function answerOf([event, , rooms]: Row, seq: number): string {
  return `{"id":"${String(seq).padStart(20, '0')}","event":"${event}","rooms":["${rooms.replace(',', '","')}"]}`;
}

function serve(worker: Worker): void {
  const submit = createGroups(worker);
  const server = createHttpServer((request, response) => {
    const answer = (status: number, text: string): void => {
      response.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text) });
      response.end(text);
    };
    readBody(request)
      .then((text) => {
        const body = JSON.parse(text) as Body;
        const rows = (body.events ?? [body]).map(rowOf);
        submit({
          rows,
          done(first) {
            const answers = rows.map((row, index) => answerOf(row, first + index));
            answer(201, body.events === undefined ? (answers[0] as string) : `{"results":[${answers.join()}]}`);
          },
        });
      })
      .catch(() => answer(400, '{}'));
  });
  announce(server);
}

if (isMainThread) serve(new Worker(new URL(import.meta.url), { workerData: process.argv[2] }));
else commitInTurn(workerData as string);
