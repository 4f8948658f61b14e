/**
 * What the tabs of a group say to each other. One of them leads: it runs a hub, whose connection serves them all. The
 * members ask the hub, and the hub tells everyone its news, in order.
 *
 * All of it goes over one BroadcastChannel, which has the name of the group. Who may share a connection is in that name:
 * the bridge may give two users, or one user in two tenants, different records for a room of the same name.
 */
import type { Room } from '../../contract/rooms.ts';
import type { TransportName } from '../events.ts';
import { RoomcastError } from '../http.ts';
import type { ReceivedSignal, SignalState } from '../signals/active.ts';
import type { StreamEvent } from '../stream.ts';

/** A RoomcastError between tabs, where an error loses its class and its members. */
export interface Failure {
  readonly code: string;
  readonly message: string;
  readonly status: number;
  readonly passing: boolean;
  readonly retryAfterMs: number;
  readonly problem: Readonly<Record<string, unknown>>;
}

export interface HubStatus {
  /** Null while the hub is not live. */
  readonly transport: TransportName | null;
  readonly failure: Failure | null;
  /** Whether its tab is hidden: a browser slows the timers of such a tab. */
  readonly isHidden: boolean;
}

/** These rooms replace the ones that the member had. */
export interface JoinQuestion {
  readonly kind: 'join';
  readonly member: string;
  readonly request: number;
  readonly rooms: readonly Room[];
}

/** `status` is answered at once. `wake`: the hub finds out whether its connection still works. */
export type Question =
  | { readonly kind: 'status' | 'wake' }
  | JoinQuestion
  /** The member has gone. */
  | { readonly kind: 'bye'; readonly member: string };

/** An answer to one member. */
interface Answer {
  readonly member: string;
  readonly request: number;
}

export type News =
  | ({ readonly kind: 'status' } & HubStatus)
  /** After this cursor, the hub brings every event of the member's rooms. `resets` counts those that it had before. */
  | ({ readonly kind: 'joined'; readonly cursor: string | null; readonly resets: number } & Answer)
  | ({ readonly kind: 'refused'; readonly failure: Failure } & Answer)
  | EventNews
  /** There is no other event up to this cursor. */
  | CursorNews
  | { readonly kind: 'reset'; readonly reset: HubReset; readonly resets: number }
  | {
      readonly kind: 'signal';
      readonly event: string;
      readonly received: ReceivedSignal;
      readonly transport: TransportName;
      /** It was active when this member joined; without one, it is for all. */
      readonly member?: string;
    }
  /** A list from the bridge replaced what was known of the room. */
  | { readonly kind: 'signals'; readonly room: Room; readonly listed: readonly SignalState[] }
  | EndNews;

export type EventNews = { readonly kind: 'event'; readonly transport: TransportName } & StreamEvent;

/** The hub has closed, perhaps because the bridge refused it for good. */
export interface EndNews {
  readonly kind: 'end';
  readonly failure: Failure | null;
}

export interface CursorNews {
  readonly kind: 'cursor';
  readonly cursor: string;
}

export interface HubReset {
  readonly reason: 'expired' | 'unknown';
  readonly after: string | null;
  readonly oldest: string;
  readonly cursor: string;
}

export interface HubMessage {
  readonly hub: string;
  /** A later hub has a higher one. A tab that was frozen as the leader may still speak: nobody listens to it. */
  readonly term: number;
  readonly news: readonly News[];
}

/** What differs between versions of this file must not meet. */
const VERSION = 1;
/** The claims that differ between two tokens for the same listener (RFC 7519 §4.1). */
const CLAIMS_OF_ONE_TOKEN = ['exp', 'iat', 'jti', 'nbf'];

/** @param key What else the tabs have in common: the bridge, the transports, the name that the application gave */
export async function groupName(key: readonly unknown[], token: string | null): Promise<string> {
  const text = JSON.stringify([VERSION, ...key, listenerOf(token)]);
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text));
  const hex = [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  return `roomcast:${hex.slice(0, 32)}`;
}

/** Who may hear with this token: its claims, or the token itself if they cannot be read. */
function listenerOf(token: string | null): unknown {
  const claims = claimsOf(token);
  if (claims === null) return token;
  const lasting = Object.entries(claims).filter(([name]) => !CLAIMS_OF_ONE_TOKEN.includes(name));
  return lasting.sort(([one], [other]) => (one < other ? -1 : 1));
}

/** When the token ends, in milliseconds since the epoch; NaN if it does not say. */
export const endOf = (token: string | null): number => Number(claimsOf(token)?.exp) * 1000;

/** Nobody checks the signature here: the bridge does. */
function claimsOf(token: string | null): Readonly<Record<string, unknown>> | null {
  try {
    const payload = token?.split('.')[1] ?? '';
    const claims: unknown = JSON.parse(atob(payload.replace(/-/g, '+').replace(/_/g, '/')));
    return claims as Readonly<Record<string, unknown>> | null;
  } catch {
    return null;
  }
}

export const failureOf = ({ code, message, status, passing, retryAfterMs, problem }: RoomcastError): Failure => ({
  ...{ code, message, status, passing, retryAfterMs },
  problem: JSON.parse(JSON.stringify(problem)),
});

export const errorOf = ({ code, message, ...more }: Failure): RoomcastError => new RoomcastError(code, message, more);

/** Members of a browser's global object that Node's types lack. */
interface BrowserGlobal {
  readonly document?: { readonly visibilityState: string };
  addEventListener?(name: string, act: () => void, options: object): void;
}

const browser = globalThis as BrowserGlobal;

export const isHidden = (): boolean => browser.document?.visibilityState === 'hidden';

/** Calls `act` for each of these events of the page, before the page's own handlers. */
export function onPage(events: readonly string[], act: () => void, signal: AbortSignal): void {
  for (const event of events) browser.addEventListener?.(event, act, { signal, capture: true });
}
