/**
 * Agents who work while you watch: each is a client of its own, as your page is one. What they do is signals: online, looks
 * at a ticket, is replying (docs/presence.md). All of it ends when `signal` aborts.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { connect, type RoomcastEvents, type Signal } from '../../../../src/client/client.ts';
import { AGENTS } from './conversations.ts';

type Named = Signal<{ readonly name: string }>;
type Events = RoomcastEvents & { 'agents.online': Named; 'tickets.viewing': Named; 'tickets.typing': Named };

export interface Agents {
  /** Whether this agent has nothing else to do. */
  isFree(name: string): boolean;
  /** Opens the ticket, reads it, and types for so long. The ticket stays open until the agent's next one. */
  compose(name: string, ticketId: string, typingMs: number): Promise<void>;
  /** Whether somebody in a real page has the ticket on screen. */
  isWatched(ticketId: string): boolean;
}

export function createAgents(url: string, tenantId: string, ticketIds: readonly string[], signal: AbortSignal): Agents {
  const agents = new Map(
    AGENTS.map((name) => {
      const live = connect<Events>({ url, rooms: { tenantId }, signal });
      live.keep('agents.online', { tenantId }, { name });
      return [name, { live, isFree: true, stopViewing: () => {} }];
    }),
  );
  const watcher = connect<Events>({ url, rooms: { ticketId: [...ticketIds] }, signal });

  return {
    isFree: (name) => agents.get(name)?.isFree ?? false,
    async compose(name, ticketId, typingMs) {
      const agent = agents.get(name);
      if (agent === undefined) return;
      agent.isFree = false;
      try {
        agent.stopViewing();
        agent.stopViewing = agent.live.keep('tickets.viewing', { ticketId }, { name });
        await pause(typingMs / 2, undefined, { signal });
        const stopTyping = agent.live.keep('tickets.typing', { ticketId }, { name });
        await pause(typingMs, undefined, { signal }).finally(stopTyping);
      } finally {
        agent.isFree = true;
      }
    },
    isWatched(ticketId) {
      const viewing = watcher.signals({ ticketId }).filter(({ event }) => event === 'tickets.viewing');
      return viewing.some(({ payload }) => !AGENTS.includes(String(payload.name)));
    },
  };
}
