/** Erasures beside other callers: of nothing, in a loop, and of a tenant with many records. */
import { underAttack } from './attack.ts';
import { sqlite } from './scenarios-crash.ts';
import type { Server } from './server.ts';
import { type Kit, onStage, type Verdict } from './stage.ts';

/** Records of one tenant, 1 KB each. */
const RECORDS = 8_000;
const BATCH = 500;
const LOOPS = 8;

async function fill({ url }: Server, tenantId: string): Promise<void> {
  for (let n = 0; n < RECORDS; n += BATCH) {
    const events = Array.from({ length: BATCH }, (_, at) => ({
      event: 'messages.new',
      payload: {
        ...{ tenantId, ticketId: `k${(n + at) % 1_000}`, messageId: `${n + at}`, message: { text: 'x'.repeat(1_000) } },
        ...{ ticketStatus: 'OPEN', ticketUpdatedAt: '2024-01-01T00:00:00Z' },
      },
    }));
    const headers = { 'content-type': 'application/json' };
    const answer = await fetch(`${url}/events`, { method: 'POST', headers, body: JSON.stringify({ events }) });
    if (answer.status !== 201) throw new Error(`the log could not be filled: ${answer.status}`);
  }
}

const erase = async ({ url }: Server, path: string): Promise<number> => {
  const answer = await fetch(`${url}${path}`, { method: 'DELETE' });
  const { erased = 0 } = (await answer.json()) as { erased?: number };
  return erased;
};

/** A log of some size, since a clean-up used to rewrite all of it each time. */
export function eraseNothing(kit: Kit): Promise<Verdict> {
  return onStage(kit, { env: sqlite(kit) }, async ({ server }) => {
    await fill(server, 'large');
    let requests = 0;
    const loop = async (signal: AbortSignal): Promise<void> => {
      while (!signal.aborted) {
        await erase(server, '/tickets/nothing?tenantId=large');
        requests++;
      }
    };
    const attack = (signal: AbortSignal) => Promise.all(Array.from({ length: LOOPS }, () => loop(signal)));
    const { figures, objections } = await underAttack(kit, { server, attack });
    return { objections, figures: { ...figures, erasures: requests } };
  });
}

export function eraseLarge(kit: Kit): Promise<Verdict> {
  return onStage(kit, { env: sqlite(kit) }, async ({ server }) => {
    await fill(server, 'large');
    let erased = 0;
    const attack = async (): Promise<void> => {
      erased = await erase(server, '/tenants/large');
    };
    const { figures, objections } = await underAttack(kit, { server, attack });
    if (erased !== RECORDS) objections.push({ law: 'lost', who: 'server', detail: `${erased} of ${RECORDS} erased` });
    return { objections, figures: { ...figures, erased } };
  });
}
