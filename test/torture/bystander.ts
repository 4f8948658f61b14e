/** A caller beside an attack, in a thread of its own: it publishes, reads, and measures how long each answer takes. */
import { setTimeout as sleep } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';

const { url, headers, tenantId } = workerData as { url: string; headers: Record<string, string>; tenantId: string };
const PAUSE_MS = 5;
/** What a caller would give up after. */
const PATIENCE_MS = 5_000;
let measured: { readonly reads: number[]; readonly publishes: number[]; failures: string[] } = fresh();
let count = 0;

function fresh() {
  return { reads: [], publishes: [], failures: [] };
}

async function measure(list: number[], what: string, expected: number, path: string, init: RequestInit): Promise<void> {
  const begunAt = performance.now();
  try {
    const response = await fetch(`${url}${path}`, { ...init, signal: AbortSignal.timeout(PATIENCE_MS) });
    await response.text();
    if (response.status !== expected) measured.failures.push(`${what} got ${response.status}`);
  } catch (error) {
    measured.failures.push(`${what}: ${error instanceof Error ? error.message : error}`);
  }
  list.push(performance.now() - begunAt);
}

parentPort?.on('message', () => {
  parentPort?.postMessage(measured);
  measured = fresh();
});

for (;;) {
  const ticketId = `t${count++ % 50}`;
  const payload = { tenantId, ticketId, ticketStatus: 'OPEN', ticketUpdatedAt: new Date().toISOString(), ticket: {} };
  await measure(measured.publishes, 'a publish', 201, '/events', {
    method: 'POST',
    headers: { ...headers, 'content-type': 'application/json' },
    body: JSON.stringify({ event: 'tickets.updated', payload }),
  });
  await measure(measured.reads, 'a read', 200, `/tickets?tenantId=${tenantId}&limit=10`, { headers });
  await sleep(PAUSE_MS);
}
