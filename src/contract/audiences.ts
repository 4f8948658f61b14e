/**
 * The key under which the log and the bus know the listeners of a room (design law 9).
 *
 * With `room` everyone in a room hears it. With `tenant` the key holds the publishing tenant too, so that a listener
 * who is admitted to one tenant can never share an audience with another, whatever ids are guessed. A log remembers
 * which of the two made its index and rebuilds it when that changes.
 */
export type Keying = 'room' | 'tenant';

/** Neither a tenant id nor a room holds a line break (protocol §2), so no two pairs share a key. */
export function audienceOf(keying: Keying, tenantId: string, room: string): string {
  return keying === 'room' ? room : `${tenantId}\n${room}`;
}
