/**
 * Who the operator is: a token, when the bridge wants one, kept in this tab's session storage and sent in a header only.
 * Without one the browser's cookie may do. What the token says of itself is read here to explain refusals; whether it
 * is good is for the bridge to say.
 */
import { createHttp, type Http } from '../../client/http.ts';
import { type Changes, createChanges } from './model.ts';
import { remembered } from './remembering.ts';

/** The page is `{base}/console`: all that it asks for lies beside it. */
export const BASE = new URL('.', location.href).href;
export const SOCKET_PATH =
  document.querySelector<HTMLMetaElement>('meta[name="roomcast-socket-path"]')?.content ?? '/socket.io';

const KEY = 'roomcast:console:token';
/** For a plain request; the bridge answers within 5 s also when its log hangs. */
export const PATIENCE_MS = 8_000;

/** What a token says of itself; null where it says nothing that is understood. */
export interface Claims {
  readonly scopes: readonly string[];
  readonly tenants: readonly string[];
  readonly expiresAtMs: number | null;
}

export interface Access {
  readonly changes: Changes;
  readonly token: string | null;
  readonly claims: Claims | null;
  /** Requests as this operator. Another one after each change. */
  readonly http: Http;
  use(token: string): void;
  forget(): void;
}

export function createAccess(): Access {
  const changes = createChanges();
  const stored = remembered('sessionStorage', KEY);
  let token = stored.get();
  let http = createHttp(BASE, token ?? undefined);

  function set(next: string | null): void {
    token = next;
    stored.set(next);
    http = createHttp(BASE, next ?? undefined);
    changes.tell();
  }

  return {
    changes,
    get token() {
      return token;
    },
    get claims() {
      return token === null ? null : claimsOf(token);
    },
    get http() {
      return http;
    },
    use: (given) => set(given.trim().replace(/^bearer\s+/i, '') || null),
    forget: () => set(null),
  };
}

function claimsOf(token: string): Claims | null {
  try {
    const body = (token.split('.')[1] ?? '').replaceAll('-', '+').replaceAll('_', '/');
    const text = new TextDecoder().decode(Uint8Array.from(atob(body), (letter) => letter.charCodeAt(0)));
    const { scope, tenantId, exp } = JSON.parse(text) as Readonly<Record<string, unknown>>;
    return {
      scopes: typeof scope === 'string' ? scope.split(' ').filter((one) => one !== '') : [],
      tenants: [tenantId].flat().filter((one): one is string => typeof one === 'string'),
      expiresAtMs: typeof exp === 'number' ? exp * 1000 : null,
    };
  } catch {
    return null;
  }
}
