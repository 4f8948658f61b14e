/** Starts a whole bridge for a test: a free port, a fresh log in memory, silence. The test closes it. */
import { type Bridge, createBridge } from '../../src/bridge.ts';
import type { Config } from '../../src/config.ts';

export interface TestBridge extends Bridge {
  readonly url: string;
  post(body: unknown, headers?: Record<string, string>): Promise<{ status: number; body: PublishAnswer }>;
}

export interface PublishAnswer {
  readonly id: string;
  readonly event: string;
  readonly rooms: string[];
  readonly duplicate: boolean;
  readonly results: PublishAnswer[];
}

export async function startBridge(options: Partial<Config> = {}): Promise<TestBridge> {
  const bridge = await createBridge({ port: 0, storeUrl: 'sqlite::memory:', logLevel: 'silent', ...options });
  const { url } = await bridge.listen();
  return {
    ...bridge,
    url,
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
  const text = await (await fetch(`${of.url}/metrics`)).text();
  return Number(
    text
      .split('\n')
      .find((line) => line.startsWith(`${series} `))
      ?.slice(series.length + 1) ?? 0,
  );
}
