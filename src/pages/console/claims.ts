/**
 * What a token or a pass claims (protocol §11), read from its text alone. The page cannot know whether the signature is
 * good; the bridge decides that. Nothing here keeps, sends or logs the text.
 */
import { ALL_TENANTS, allKinds, formatRoom, idsClaim, type Room, type RoomKind, toId } from '../../contract/rooms.ts';

export interface Claims {
  readonly subject: string | null;
  readonly tenants: readonly string[];
  /** Null: the token has no claim `scope`, so that `JWT_DEFAULT_SCOPE` decides. */
  readonly scopes: readonly string[] | null;
  /** The claims that name rooms, such as `ticketIds`, and these rooms. */
  readonly named: readonly { readonly claim: string; readonly kind: RoomKind; readonly rooms: readonly Room[] }[];
  /** Milliseconds since 1970. */
  readonly expiresAtMs: number | null;
  readonly validFromMs: number | null;
}

/** A JSON Web Token is JSON in base64url, so its first part begins with `{"`. */
const TOKEN = /eyJ[\w-]*\.([\w-]+)(?:\.[\w-]*)?/;
/** A longer text is refused by the bridge, too. */
const MAX_CHARACTERS = 16_384;

/** Whether the text holds a secret that must not be stored, shown or put into a URL. */
export const holdsToken = (text: string): boolean => TOKEN.test(text) || text.trimStart().startsWith('{');

/**
 * @param text a token, as copied: with `Bearer`, within a URL, or over several lines; or its claims as JSON
 * @param kinds the kinds of the bridge beside the built-in ones
 * @returns null if the claims cannot be read
 */
export function readClaims(text: string, kinds: readonly RoomKind[]): Claims | null {
  if (text.length > MAX_CHARACTERS) return null;
  try {
    const [, body] = TOKEN.exec(text.replaceAll(/\s(?!eyJ)/g, '')) ?? [];
    const claims: unknown = JSON.parse(body === undefined ? text : decoded(body));
    if (typeof claims !== 'object' || claims === null || Array.isArray(claims)) return null;
    return claimsOf(claims as Readonly<Record<string, unknown>>, kinds);
  } catch {
    return null;
  }
}

function claimsOf(claims: Readonly<Record<string, unknown>>, kinds: readonly RoomKind[]): Claims {
  const { sub, tenantId, scope, exp, nbf } = claims;
  const ids = (value: unknown): string[] => [value].flat().flatMap((one) => toId(one) ?? []);
  return {
    subject: typeof sub === 'string' || typeof sub === 'number' ? String(sub) : null,
    tenants: ids(tenantId),
    scopes: typeof scope === 'string' ? scope.split(' ').filter((name) => name !== '') : null,
    named: allKinds(kinds)
      .filter((kind) => kind !== 'tenant' && kind !== 'user' && Object.hasOwn(claims, idsClaim(kind)))
      .map((kind) => {
        const claim = idsClaim(kind);
        return { claim, kind, rooms: ids(claims[claim]).map((id) => formatRoom(kind, id)) };
      }),
    expiresAtMs: instantMs(exp),
    validFromMs: instantMs(nbf),
  };
}

/** Claims hold seconds. */
const instantMs = (value: unknown): number | null => (typeof value === 'number' ? value * 1000 : null);

function decoded(base64url: string): string {
  const bytes = atob(base64url.replaceAll('-', '+').replaceAll('_', '/'));
  return new TextDecoder('utf-8', { fatal: true }).decode(Uint8Array.from(bytes, (letter) => letter.charCodeAt(0)));
}

export const isForAllTenants = ({ tenants }: Claims): boolean => tenants.includes(ALL_TENANTS);
