// Stores for Svelte 3 to 5. Install: npm install @roomcast/client socket.io-client
import { connect, type RoomcastEvents } from '@roomcast/client';
import { type Readable, readable } from 'svelte/store';

type Message = RoomcastEvents['messages.new'];

export const live = connect({ url: 'http://localhost:4003', rooms: { tenantId: 'tenant-1' } });

/** `live.on` returns the function that removes the handler, as a store (and `$effect` and `onMount`) wants it. */
export const status = readable(live.status, (set) => live.on('status', set));

/** The messages that arrive while somebody looks. In a component: `{#each $messages as message}`. */
export function messagesOf(ticketId: string): Readable<readonly Message[]> {
  return readable<readonly Message[]>([], (_, update) =>
    live.on('messages.new', (message) => {
      if (message.ticketId === ticketId) update((messages) => [...messages, message]);
    }),
  );
}
