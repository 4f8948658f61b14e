/**
 * Serves the pages `/console` and `/check` from dist/pages, where `npm run build:pages` puts them. Files are read once, at
 * the start. The pages load nothing from other servers, and all their URLs are relative, so that they work under any
 * `BASE_PATH` and behind a proxy that strips a prefix.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { extname, join, posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import { answer, type BridgeContext, type Handler } from '../../answers/answer.ts';
import { contentSecurityPolicy } from '../../answers/headers.ts';
import type { Config } from '../../config.ts';
import { BridgeError } from '../../contract/errors.ts';

/** Correct from src/http/routes and from dist/http/routes. */
const FOLDER = fileURLToPath(new URL('../../../dist/pages/', import.meta.url));

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
};

/** Charts size their elements with style attributes, hence `unsafe-inline`. */
const POLICY = contentSecurityPolicy(
  "script-src 'self'",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data:",
  "connect-src 'self'",
);

interface Asset {
  readonly type: string;
  /** One copy for all clients that wait for it. */
  readonly body: Buffer;
  readonly etag: string;
}

type Pages = Readonly<Record<'home' | 'console' | 'check' | 'withoutSlash' | 'asset', Handler>>;

type PagesConfig = Pick<Config, 'socketPath' | 'roomKinds' | 'authMode'>;

export function createPages({ socketPath, roomKinds, authMode }: PagesConfig): Pages {
  const assets = readAssets({ SOCKET_PATH: socketPath, ROOM_KINDS: roomKinds.join(','), AUTH_MODE: authMode });
  const serve = (context: BridgeContext, name: string): Response => {
    const asset = assets.get(name);
    if (asset === undefined) {
      const notBuilt = 'The pages are not built. Run `npm run build:pages` and restart the bridge.';
      const noFile = 'No file has this name. Reload the page to load its current files.';
      throw new BridgeError('not_found', assets.size === 0 ? notBuilt : noFile);
    }
    const { type, body, etag } = asset;
    context.env.outgoing.setHeader('Content-Security-Policy', POLICY);
    const headers = { 'Content-Type': type, 'Cache-Control': 'no-cache', ETag: etag };
    if (context.env.incoming.headers['if-none-match'] === etag) return answer(context, 304, headers);
    return answer(context, 200, headers, body);
  };
  return {
    home(context) {
      const { pathname } = new URL(context.req.url);
      const folder = pathname.endsWith('/') ? '' : `${posix.basename(pathname)}/`;
      return answer(context, 302, { Location: `${folder}console` });
    },
    console: (context) => serve(context, 'console.html'),
    check: (context) => serve(context, 'check.html'),
    /** `/console/` → `/console`: with the trailing slash, the page's relative URLs would not resolve. */
    withoutSlash(context) {
      const { pathname, search } = new URL(context.req.url);
      return answer(context, 302, { Location: `../${posix.basename(pathname)}${search}` });
    },
    asset: (context) => serve(context, `assets/${context.req.param('file')}`),
  };
}

/** @param values the text in place of `%NAME%`, by name */
function readAssets(values: Readonly<Record<string, string>>): Map<string, Asset> {
  const assets = new Map<string, Asset>();
  let names: string[] = [];
  try {
    names = readdirSync(FOLDER, { recursive: true, encoding: 'utf8' });
  } catch {
    // The pages are not built; requests for them get an error that says so.
  }
  for (const name of names) {
    const type = TYPES[extname(name)];
    if (type === undefined) continue;
    const text = readFileSync(join(FOLDER, name), 'utf8');
    const filled = text.replace(/%([A-Z_]+)%/g, (whole, key) => escapeAttribute(values[key] ?? whole));
    const body = Buffer.from(type.startsWith('text/html') ? filled : text);
    assets.set(name, { type, body, etag: `"${createHash('sha256').update(body).digest('base64url').slice(0, 16)}"` });
  }
  return assets;
}

const escapeAttribute = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('"', '&quot;').replaceAll('<', '&lt;');
