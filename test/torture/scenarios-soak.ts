/** Many listeners for long: memory flat after warm-up, delivery quick, nothing missing (client processes check as they go). */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Objection } from './checker.ts';
import { sqlite } from './scenarios-crash.ts';
import { adopt } from './server.ts';
import type { SoakReport, SoakTask } from './soak-client.ts';
import { eventually, type Kit, onStage, quantile, type Verdict } from './stage.ts';

const PROCESSES = 4;
const ROOMS = 200;
const PUBLISHES_PER_SECOND = 20;
/** Records that nobody hears, before all else: they fill what the server keeps in memory, as days of work would. */
const FILLING = { batches: 40, events: 500 };
/** The part of the run that does not count for the slope. */
const WARM_UP = 0.3;
const SAMPLE_MS = 2_000;
const TEXT = 'x'.repeat(500);

/** @param usual listeners in all, where the command does not say */
export function soak(usual: number) {
  return (kit: Kit): Promise<Verdict> => {
    const size = kit.listeners ?? usual;
    return onStage(kit, { env: { ...sqlite(kit), RATE_JOINS: '10000' }, tenants: 1 }, async (stage) => {
      const clients: ChildProcess[] = [];
      const ask = async (child: ChildProcess, message: object): Promise<SoakReport> => {
        child.send(message);
        return (await once(child, 'message'))[0] as SoakReport;
      };
      const askAll = (message: object): Promise<SoakReport[]> =>
        Promise.all(clients.map((child) => ask(child, message)));
      try {
        for (let index = 0; index < PROCESSES; index++) {
          const child = adopt(
            fork(join(import.meta.dirname, 'soak-client.ts'), {
              execArgv: ['--disable-warning=ExperimentalWarning'],
            }),
          );
          clients.push(child);
          const task: SoakTask = {
            kind: 'start',
            url: stage.server.url,
            listeners: Math.ceil(size / PROCESSES),
            rooms: ROOMS,
          };
          child.send(task);
        }
        await eventually(
          'the crowd is in',
          async () => {
            await sleep(500);
            const reports = await askAll({ kind: 'report' });
            const connected = reports.reduce((sum, report) => sum + report.connected, 0);
            kit.progress(`${connected} of ${size} came in`);
            return connected >= size;
          },
          120_000,
        );
        await fill(stage.server.url);
        const runMs = Math.max(20_000, kit.budgetMs);
        const begunAt = performance.now();
        const samples: { readonly atMs: number; readonly rssMiB: number; readonly lagMs: number }[] = [];
        const lags: number[] = [];
        let published = 0;
        let stopping = false;
        const publishing = (async () => {
          while (!stopping) {
            const dueMs = begunAt + (published / PUBLISHES_PER_SECOND) * 1000;
            await sleep(Math.max(0, dueMs - performance.now()));
            const n = Math.floor(published / ROOMS);
            const payload = {
              tenantId: 'soak',
              ticketId: `r${published % ROOMS}`,
              n,
              sentAtMs: Date.now(),
              text: TEXT,
            };
            const response = await fetch(`${stage.server.url}/events`, {
              method: 'POST',
              headers: { 'content-type': 'application/json', 'idempotency-key': `soak-${published}` },
              body: JSON.stringify({ event: 'leads.updated', payload }),
            });
            await response.text();
            if (response.status === 201 || response.status === 200) published++;
          }
        })();
        while (performance.now() - begunAt < runMs) {
          await sleep(SAMPLE_MS);
          const metrics = await (await fetch(`${stage.server.url}/metrics`)).text();
          const value = (name: string): number => Number(new RegExp(`^${name} (\\S+)`, 'm').exec(metrics)?.[1] ?? 0);
          samples.push({
            atMs: performance.now() - begunAt,
            rssMiB: value('process_resident_memory_bytes') / 1024 / 1024,
            lagMs: value('nodejs_eventloop_lag_p99_seconds') * 1000,
          });
          for (const report of await askAll({ kind: 'churn', share: 0.002 })) lags.push(...report.lags);
          const newest = samples.at(-1);
          kit.progress(
            `${published} published, ${newest?.rssMiB.toFixed(0)} MiB, loop p99 ${newest?.lagMs.toFixed(0)} ms`,
          );
        }
        // The last round is filled up, so that every room ends at the same number.
        await eventually('the last round', () => published % ROOMS === 0, 60_000).catch(() => {});
        stopping = true;
        await publishing;
        const objections: Objection[] = [];
        const full = Math.floor(published / ROOMS);
        await eventually(
          'everyone has everything',
          async () => {
            const reports = await askAll({ kind: 'report', total: full });
            return reports.every(({ complete }) => complete);
          },
          30_000,
        ).catch(() => {});
        const reports = await askAll({ kind: 'report', total: full });
        for (const wrong of reports.flatMap(({ wrongs }) => wrongs))
          objections.push({ law: 'gap', who: 'crowd', detail: wrong });
        const counted = samples.slice(Math.floor(samples.length * WARM_UP));
        const loop = quantile(
          samples.map(({ lagMs }) => lagMs),
          0.5,
        );
        return {
          objections,
          figures: {
            listeners: size,
            seconds: Math.round(runMs / 1000),
            published,
            seen: reports.reduce((sum, report) => sum + report.seen, 0),
            'memory MiB': Math.round(samples.at(-1)?.rssMiB ?? 0),
            'slope MiB/h': Math.round(slope(counted.map(({ atMs, rssMiB }) => [atMs / 3_600_000, rssMiB]))),
            'loop lag p99 ms (median)': Math.round(loop),
            'delivery p50 ms': Math.round(quantile(lags, 0.5)),
            'p99 ms': Math.round(quantile(lags, 0.99)),
          },
        };
      } finally {
        for (const child of clients) child.kill('SIGKILL');
      }
    });
  };
}

async function fill(url: string): Promise<void> {
  for (let batch = 0; batch < FILLING.batches; batch++) {
    const events = Array.from({ length: FILLING.events }, (_, n) => ({
      event: 'leads.updated',
      payload: { tenantId: 'filling', ticketId: `filling-${n % ROOMS}`, n, text: TEXT },
    }));
    const response = await fetch(`${url}/events`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ events }),
    });
    if (response.status !== 201) throw new Error(`filling: ${response.status} ${await response.text()}`);
    await response.text();
  }
}

/** Of the line with the least squares. */
function slope(points: readonly (readonly [x: number, y: number])[]): number {
  const meanX = points.reduce((sum, [x]) => sum + x, 0) / points.length;
  const meanY = points.reduce((sum, [, y]) => sum + y, 0) / points.length;
  const spread = points.reduce((sum, [x]) => sum + (x - meanX) ** 2, 0);
  return spread === 0 ? 0 : points.reduce((sum, [x, y]) => sum + (x - meanX) * (y - meanY), 0) / spread;
}
