/**
 * Reads the state while faults happen and at the end (protocol §7): what a message shows never goes back to an earlier
 * instant or a lower status, and at the end tickets and messages are those that the model makes of the log.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Fact, type Payload, worldOf } from '../support/oracle.ts';

export interface WitnessOptions {
  readonly url: () => string;
  readonly headersOf: (tenant: string) => Record<string, string>;
  readonly tenants: readonly string[];
  readonly tickets: readonly string[];
  readonly object: (who: string, detail: string) => void;
}

export interface Witness {
  /** Reads again and again, until the returned function is called. */
  watch(): () => Promise<void>;
  /** @param facts the whole log */
  judge(facts: readonly Fact[]): Promise<void>;
}

const KINDS = { declared: ['queue'], claimed: [] };
const PAUSE_MS = 200;
const STATUSES = ['failed', 'queued', 'sent', 'delivered', 'read', 'played'];

export function createWitness({ url, headersOf, tenants, tickets, object }: WitnessOptions): Witness {
  const pathOf = (ticketId: string): string => `/tickets/${ticketId}/messages`;

  async function page(
    tenant: string,
    path: string,
    query: string,
  ): Promise<{ items: Payload[]; nextPage: string | null }> {
    const response = await fetch(`${url()}${path}?tenantId=${tenant}${query}`, {
      headers: headersOf(tenant),
      signal: AbortSignal.timeout(8_000),
    });
    const text = await response.text();
    if (response.status !== 200) throw new Error(`${path} got ${response.status} ${text}`);
    return JSON.parse(text) as { items: Payload[]; nextPage: string | null };
  }

  async function list(tenant: string, path: string): Promise<Payload[]> {
    const items: Payload[] = [];
    for (let query = '&limit=1000'; ; ) {
      const { items: some, nextPage } = await page(tenant, path, query);
      items.push(...some);
      if (nextPage === null) return items;
      query = `&limit=1000&page=${encodeURIComponent(nextPage)}`;
    }
  }

  const placeOf = ({ messageUpdatedAt = '', messageStatus }: Payload): string =>
    `${messageUpdatedAt} ${STATUSES.indexOf(String(messageStatus)) + 1}`;

  function compare(who: string, shown: readonly Payload[], expected: readonly Payload[]): void {
    const texts = [shown, expected].map((payloads) => payloads.map((payload) => JSON.stringify(payload)));
    const [is = [], ought = []] = texts;
    const at = ought.findIndex((text, index) => text !== is[index]);
    if (at === -1 && is.length === ought.length) return;
    const place = at === -1 ? ought.length : at;
    const brief = (text: string | undefined) => text?.slice(0, 300) ?? 'nothing';
    object(who, `item ${place} of ${ought.length} ought to be ${brief(ought[place])}, but is ${brief(is[place])}`);
  }

  return {
    watch() {
      let stopping = false;
      /** What each message showed last, by the ids in its payload: a change may name it by one of them only. */
      const places = new Map<string, string>();
      const read = async (tenant: string, ticketId: string): Promise<void> => {
        const { items } = await page(tenant, pathOf(ticketId), '&limit=50&order=desc');
        for (const payload of items) {
          const names = [payload.messageId, payload.providerMessageId].filter((id) => typeof id === 'string');
          for (const name of names) {
            const key = `${tenant} ${ticketId} ${String(name).slice(2)}`;
            const [was, is] = [places.get(key), placeOf(payload)];
            if (was !== undefined && is < was) object(key, `showed ${was} and then ${is}`);
            places.set(key, is);
          }
        }
      };
      const watching = (async () => {
        for (let round = 0; !stopping; round++) {
          const tenant = tenants[round % tenants.length] as string;
          // A server that is down, or refuses: it is asked again.
          await read(tenant, tickets[round % tickets.length] as string).catch(() => {});
          await sleep(PAUSE_MS);
        }
      })();
      return async () => {
        stopping = true;
        await watching;
      };
    },
    async judge(facts) {
      const world = worldOf(facts, KINDS);
      for (const tenant of tenants) {
        const claims = { tenantId: tenant, scope: 'subscribe' };
        compare(`tickets of ${tenant}`, await list(tenant, '/tickets'), world.tickets(claims, tenant));
        for (const ticketId of tickets) {
          const shown = await list(tenant, pathOf(ticketId));
          compare(`${ticketId} of ${tenant}`, shown, world.messages(claims, tenant, ticketId));
        }
      }
    },
  };
}
