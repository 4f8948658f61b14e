/** The delivery suite over the client library: with every transport allowed, and with each one alone. */
import { connect } from '../../src/client/client.ts';
import type { TransportName } from '../../src/client/events.ts';
import { deliveryConformance } from '../delivery/conformance.ts';
import { type Connect, EVENT_NAMES, type Heard, type Reset } from '../support/clients.ts';
import { until } from '../support/until.ts';

const CANONICAL = new Set(['tickets.updated', 'messages.new', 'leads.updated']);

function connectSdk(...transports: TransportName[]): Connect {
  return async (url, rooms, { after, legacy = true } = {}) => {
    const heard: Heard[] = [];
    const resets: Reset[] = [];
    const live = connect<Record<string, unknown>>({
      url,
      rooms,
      transports,
      heartbeatMs: 1000,
      ...(after === undefined ? {} : { after }),
    });
    for (const event of EVENT_NAMES) {
      if (!legacy && !CANONICAL.has(event)) continue;
      live.on(event, (payload, { cursor, replay }) => {
        heard.push({
          event,
          payload: JSON.stringify(payload),
          id: CANONICAL.has(event) ? cursor : null,
          replay,
        });
      });
    }
    live.on('reset', (reset) => resets.push(reset));
    await until(`live over ${transports}`, () => live.status.transport === transports[0]);
    return { heard, resets, cursor: () => live.cursor, close: live.close };
  };
}

deliveryConformance('SQLite in memory', () => ({ storeUrl: 'sqlite::memory:' }), {
  sdk: connectSdk('websocket', 'sse', 'poll'),
  'sdk (sse)': connectSdk('sse', 'poll'),
  'sdk (poll)': connectSdk('poll'),
});
