/** Starts a whole bridge for a test: a free port, a fresh log in memory, silence. The test closes it. */
import { type Bridge, createBridge } from '../../src/bridge.ts';
import type { Config } from '../../src/config.ts';

export interface TestBridge extends Bridge {
  readonly url: string;
  readonly metricsUrl: string | null;
  post(body: unknown, headers?: Record<string, string>): Promise<{ status: number; body: PublishAnswer }>;
}

export interface PublishAnswer {
  readonly id: string;
  readonly event: string;
  readonly rooms: string[];
  readonly duplicate: boolean;
  readonly results: PublishAnswer[];
}

/** With tokens, `/metrics` takes this one, too. */
const METRICS_TOKEN = 'scraper';

export async function startBridge(options: Partial<Config> = {}): Promise<TestBridge> {
  const bridge = await createBridge({
    port: 0,
    storeUrl: 'sqlite::memory:',
    logLevel: 'silent',
    ...(options.authMode === 'jwt' ? { metricsToken: METRICS_TOKEN } : {}),
    ...options,
  });
  const { url, metricsUrl } = await bridge.listen();
  return {
    ...bridge,
    url,
    metricsUrl,
    async post(body, headers = {}) {
      const response = await fetch(`${url}/events`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...headers },
        body: typeof body === 'string' ? body : JSON.stringify(body),
      });
      return { status: response.status, body: (await response.json()) as PublishAnswer };
    },
  };
}

let count = 0;

export function ticketUpdated(overrides: Record<string, unknown> = {}) {
  return {
    tenantId: 'tenant-1',
    ticketId: 'ticket-123',
    agreementId: 'agreement-9',
    instanceId: 'inst-42',
    messageId: 'msg-1',
    providerMessageId: 'wamid.abc',
    ticketStatus: 'OPEN',
    ticketUpdatedAt: '2024-06-01T12:00:00.000Z',
    ticket: { id: 'ticket-123', subject: 'Olá', unread: 3 },
    ...overrides,
  };
}

/** A message that no other call of this process has made. */
export function messageNew(overrides: Record<string, unknown> = {}) {
  count++;
  return {
    tenantId: 'tenant-1',
    ticketId: 'ticket-123',
    agreementId: 'agreement-9',
    instanceId: 'inst-42',
    messageId: `msg-${count}`,
    providerMessageId: `wamid.${count}`,
    ticketStatus: 'OPEN',
    ticketUpdatedAt: '2024-06-01T12:00:00.000Z',
    message: { id: `msg-${count}`, content: `n ${count}` },
    ...overrides,
  };
}

/** The value of one series of the bridge's metrics, such as `roomcast_connections{transport="sse"}`; 0 when absent. */
export async function metric(of: TestBridge, series: string): Promise<number> {
  const headers = { authorization: `Bearer ${METRICS_TOKEN}` };
  const text = await (await fetch(`${of.url}/metrics`, { headers })).text();
  return Number(
    text
      .split('\n')
      .find((line) => line.startsWith(`${series} `))
      ?.slice(series.length + 1) ?? 0,
  );
}
