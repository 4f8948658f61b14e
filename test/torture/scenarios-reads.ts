/** Reads that look for what is not there, from many connections of one caller: other callers notice little. */
import { Agent, get } from 'node:http';
import { underAttack } from './attack.ts';
import { sqlite } from './scenarios-crash.ts';
import type { Server } from './server.ts';
import { type Kit, OPERATOR, onStage, signToken, type Verdict } from './stage.ts';

const TICKETS = 30_000;
const BATCH = 1_000;
const CONNECTIONS = 20;

/** Tickets in one agreement, none of which matches what the attack asks for. */
async function seed({ url }: Server): Promise<void> {
  for (let from = 0; from < TICKETS; from += BATCH) {
    const events = Array.from({ length: BATCH }, (_, index) => {
      const ids = { tenantId: 'large', ticketId: `t${from + index}`, agreementId: 'most' };
      const payload = { ...ids, ticketStatus: 'OPEN', ticketUpdatedAt: '2024-06-01T12:00:00Z', ticket: { n: index } };
      return { event: 'tickets.updated', payload };
    });
    const headers = { authorization: `Bearer ${OPERATOR}`, 'content-type': 'application/json' };
    const { status } = await fetch(`${url}/events`, { method: 'POST', headers, body: JSON.stringify({ events }) });
    if (status !== 201) throw new Error(`a publish got ${status}`);
  }
}

const PATHS = [
  '/tickets?tenantId=large&status=NONE',
  '/tickets?tenantId=large&status=NONE&agreementId=most',
  '/tickets?tenantId=large&status=NONE&updatedAfter=2020-01-01T00:00:00Z&limit=1000',
  '/events?tenantId=large&after=start&events=messages.new',
  '/events?tenantId=large&events=messages.new',
];

export function filteredReads(kit: Kit): Promise<Verdict> {
  return onStage(kit, { env: sqlite(kit), auth: 'jwt' }, async (stage) => {
    const { server } = stage;
    await seed(server);
    const authorization = `Bearer ${signToken({ tenantId: 'large', sub: 'attacker', scope: 'subscribe' })}`;
    const bystander = signToken({ tenantId: 'bystander', sub: 'b', scope: 'subscribe publish' });
    const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS });
    let answers = 0;
    const ask = (path: string) =>
      new Promise<void>((resolve) => {
        get(`${server.url}${path}`, { agent, headers: { authorization } }, (response) => {
          answers++;
          response.resume().on('close', resolve);
        }).on('error', () => resolve());
      });
    const { figures, objections } = await underAttack(kit, {
      server,
      headers: { authorization: `Bearer ${bystander}` },
      attack: async (signal) => {
        const connection = async (index: number) => {
          for (let n = index; !signal.aborted; n++) await ask(PATHS[n % PATHS.length] as string);
        };
        await Promise.all(Array.from({ length: CONNECTIONS }, (_, index) => connection(index)));
        agent.destroy();
      },
    });
    return stage.verdict({ tickets: TICKETS, answers, ...figures }, { objections });
  });
}
