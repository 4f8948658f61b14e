/**
 * Who may scrape `/metrics` (protocol §12), which names rooms of all tenants: with AUTH_MODE=jwt the holder of METRICS_TOKEN
 * or of a token for it, with AUTH_MODE=none everyone unless METRICS_TOKEN is set.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { BridgeError } from '../contract/errors.ts';
import type { Auth, Credentials } from './auth.ts';
import { mayReadMetrics, type Principal } from './principal.ts';

export interface MetricsAccessConfig {
  readonly authMode: 'none' | 'jwt';
  readonly metricsToken: string | null;
}

/** @throws {BridgeError} `unauthorized`, `token_expired`, `forbidden`, `unavailable` */
export type MetricsAccess = (credentials: Credentials) => Promise<void>;

const WAY_IN =
  'Send METRICS_TOKEN, or a token with the scope metrics or admin and tenantId "*", as Authorization: Bearer; or scrape METRICS_PORT, which needs none.';

export function createMetricsAccess(
  { authMode, metricsToken }: MetricsAccessConfig,
  principalOf: Auth['principalOf'],
): MetricsAccess {
  const expected = metricsToken === null ? null : digest(metricsToken);

  async function principalWith(credentials: Credentials): Promise<Principal> {
    try {
      return await principalOf(credentials);
    } catch (error) {
      if (!(error instanceof BridgeError) || error.status !== 401) throw error;
      throw new BridgeError(error.code, `${error.message} ${WAY_IN}`);
    }
  }

  return async (credentials) => {
    const { bearer } = credentials;
    if (expected !== null && bearer !== null && timingSafeEqual(digest(bearer), expected)) return;
    if (authMode === 'none') {
      if (expected === null) return;
      throw new BridgeError('unauthorized', 'Send METRICS_TOKEN as Authorization: Bearer, or scrape METRICS_PORT.');
    }
    const principal = await principalWith(credentials);
    if (!mayReadMetrics(principal)) throw new BridgeError('forbidden', `The token may not read metrics. ${WAY_IN}`);
  };
}

/** Digests have equal lengths, so that the comparison takes the same time for every text. */
const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
