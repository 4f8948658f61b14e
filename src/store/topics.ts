/** Divides the channel between nodes among the parts of a bridge: each hears the texts of its own topic. */
import type { NodeChannel } from './store.ts';

type Listener = Parameters<NodeChannel['onBroadcast']>[0];

/** @returns the channel of a topic, a word; a topic that nobody listens to makes no connection */
export function createTopics(channel: NodeChannel): (topic: string) => NodeChannel {
  const listeners = new Map<string, Listener>();

  function dispatch(text: string, ageMs: number): void {
    const end = text.indexOf(' ');
    listeners.get(text.slice(0, end))?.(text.slice(end + 1), ageMs);
  }

  return (topic) => ({
    broadcast: (text) => channel.broadcast(`${topic} ${text}`),
    onBroadcast(listener) {
      if (listeners.size === 0) channel.onBroadcast(dispatch);
      listeners.set(topic, listener);
    },
  });
}
