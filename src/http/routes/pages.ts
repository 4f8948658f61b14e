/**
 * The pages that the bridge serves, `/console` and `/check`, as `npm run build:pages` left them in dist/pages: read once,
 * at the start. Their scripts and styles come from the bridge alone, and so does all that they ask for; every URL in
 * them is relative, so that they work under any `BASE_PATH`.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { extname, join, posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import { answer, type BridgeContext, type Handler } from '../../answers/answer.ts';
import { contentSecurityPolicy } from '../../answers/headers.ts';
import type { Config } from '../../config.ts';
import { BridgeError } from '../../contract/errors.ts';

/** The same from src and from dist. */
const FOLDER = fileURLToPath(new URL('../../../dist/pages/', import.meta.url));

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
};

/** Charts set the sizes of their elements by style attributes. */
const POLICY = contentSecurityPolicy(
  "script-src 'self'",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data:",
  "connect-src 'self'",
);

interface Asset {
  readonly type: string;
  readonly body: string;
  readonly etag: string;
}

export interface Pages {
  /** What an address without a path shows. */
  readonly home: Handler;
  readonly console: Handler;
  readonly check: Handler;
  /** From a page's address with a slash at its end, beneath which its relative URLs would lead nowhere. */
  readonly withoutSlash: Handler;
  /** What they load: `/assets/:file`. */
  readonly asset: Handler;
}

export function createPages({ socketPath }: Pick<Config, 'socketPath'>): Pages {
  const assets = readAssets(socketPath);
  const serve = (context: BridgeContext, name: string): Response => {
    const asset = assets.get(name);
    if (asset === undefined && assets.size === 0) {
      throw new BridgeError('not_found', 'The pages are not built: `npm run build:pages` does.');
    }
    if (asset === undefined) throw new BridgeError('not_found', 'There is nothing at this path.');
    const { type, body, etag } = asset;
    context.env.outgoing.setHeader('Content-Security-Policy', POLICY);
    const headers = { 'Content-Type': type, 'Cache-Control': 'no-cache', ETag: etag };
    if (context.req.header('if-none-match') === etag) return answer(context, 304, headers);
    return answer(context, 200, headers, body);
  };
  // Relative as all else, since a proxy in front may have taken a prefix off.
  return {
    home(context) {
      const { pathname } = new URL(context.req.url);
      const folder = pathname.endsWith('/') ? '' : `${posix.basename(pathname)}/`;
      return answer(context, 302, { Location: `${folder}console` });
    },
    console: (context) => serve(context, 'console.html'),
    check: (context) => serve(context, 'check.html'),
    withoutSlash(context) {
      const { pathname, search } = new URL(context.req.url);
      return answer(context, 302, { Location: `../${posix.basename(pathname)}${search}` });
    },
    asset: (context) => serve(context, `assets/${context.req.param('file')}`),
  };
}

function readAssets(socketPath: string): Map<string, Asset> {
  const assets = new Map<string, Asset>();
  let names: string[] = [];
  try {
    names = readdirSync(FOLDER, { recursive: true, encoding: 'utf8' });
  } catch {
    // Not built: said when a page is asked for.
  }
  for (const name of names) {
    const type = TYPES[extname(name)];
    if (type === undefined) continue;
    const text = readFileSync(join(FOLDER, name), 'utf8');
    const body = text.replace('%SOCKET_PATH%', escapeAttribute(socketPath));
    assets.set(name, { type, body, etag: `"${createHash('sha256').update(body).digest('base64url').slice(0, 16)}"` });
  }
  return assets;
}

const escapeAttribute = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('"', '&quot;').replaceAll('<', '&lt;');
