/**
 * The operator's access to the bridge. If the bridge needs a token, the page keeps it in the tab's session storage and
 * sends it in a header only; without a token, the browser's cookie may do. The page reads a token's claims only to
 * explain refusals; the bridge decides whether the token is good.
 */
import { createHttp, type Http } from '../../client/http.ts';
import { ALL_TENANTS } from '../../contract/rooms.ts';
import { createChanges, type Model, storedValue } from './model.ts';

/** The page is `{base}/console`, and every URL that it uses is relative to the base. */
export const BASE = new URL('.', location.href).href;
const setting = (name: string): string | undefined =>
  document.querySelector<HTMLMetaElement>(`meta[name="roomcast-${name}"]`)?.content;
export const SOCKET_PATH = setting('socket-path') ?? '/socket.io';
/** The kinds that the bridge declares. */
export const ROOM_KINDS = (setting('room-kinds') ?? '').split(',').filter((kind) => kind !== '');
/** Whether the bridge asks for tokens at all (`AUTH_MODE`). */
export const NEEDS_TOKENS = setting('auth-mode') !== 'none';

/** Longest wait for an answer. The bridge answers within 5 s even if its log hangs. */
const TIMEOUT_MS = 8_000;

/** What a token claims, as far as it can be read. */
export interface Claims {
  readonly scopes: readonly string[];
  readonly tenants: readonly string[];
  readonly expiresAtMs: number | null;
}

type RequestOptions = Partial<Omit<Parameters<Http['json']>[1], 'timeoutMs'>>;

export interface Access extends Model {
  readonly token: string | null;
  readonly claims: Claims | null;
  /** Sends a request with this operator's token. @throws {RoomcastError} */
  request<Answer>(path: string, options?: RequestOptions): Promise<Answer>;
  setToken(token: string | null): void;
}

export function createAccess(): Access {
  const changes = createChanges();
  const stored = storedValue('sessionStorage', 'roomcast:console:token');
  let token = stored.get();
  let http = createHttp(BASE, token ?? undefined);

  return {
    changes,
    get token() {
      return token;
    },
    get claims() {
      return token === null ? null : claimsOf(token);
    },
    async request<Answer>(path: string, options: RequestOptions = {}) {
      const { signal } = new AbortController();
      return (await http.json(path, { signal, ...options, timeoutMs: TIMEOUT_MS })) as Answer;
    },
    setToken(text) {
      // Copying adds line breaks and invisible characters, which no header can hold.
      token =
        text
          ?.replace(/[^ -~]/g, '')
          .trim()
          .replace(/^bearer\s+/i, '') || null;
      stored.set(token);
      lastTenant = null;
      http = createHttp(BASE, token ?? undefined);
      changes.notify();
    },
  };
}

function claimsOf(token: string): Claims | null {
  try {
    const body = (token.split('.')[1] ?? '').replaceAll('-', '+').replaceAll('_', '/');
    const text = new TextDecoder().decode(Uint8Array.from(atob(body), (letter) => letter.charCodeAt(0)));
    const { scope, tenantId, exp } = JSON.parse(text) as Readonly<Record<string, unknown>>;
    return {
      scopes: typeof scope === 'string' ? scope.split(' ').filter((name) => name !== '') : [],
      tenants: [tenantId].flat().filter((id): id is string => typeof id === 'string'),
      expiresAtMs: typeof exp === 'number' ? exp * 1000 : null,
    };
  } catch {
    return null;
  }
}

/** Whether this operator can listen to rooms, as far as the page can tell: a token for all tenants cannot. */
export function canListen({ claims }: Access): boolean {
  return claims === null || (claims.scopes.includes('subscribe') && !claims.tenants.includes(ALL_TENANTS));
}

let lastTenant: string | null = null;

/** Keeps the tenant of a form for the next one, until the token changes. */
export function rememberTenant(id: string): void {
  lastTenant = id;
}

/**
 * The tenant that a form starts with: the token's, if it names one, else the one of the form before. The first is
 * `console`, which is nobody's: a test event must not reach customers because somebody pressed a button to see it work.
 */
export function defaultTenant({ claims }: Access): string {
  const own = claims?.tenants.filter((id) => id !== ALL_TENANTS) ?? [];
  if (own.length > 0) return own.find((id) => id === lastTenant) ?? (own[0] as string);
  return lastTenant ?? 'console';
}
