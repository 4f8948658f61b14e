/** Requests to this bridge as commands for a POSIX shell, to copy into a terminal or a ticket. */
import { type Access, BASE } from './access.ts';

interface Request {
  /** Relative to the bridge: `log`, `events`. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string | number>>;
  /** Makes it a POST of JSON. */
  readonly body?: string;
}

/** @returns a `curl` command. If the page has a token, `$TOKEN` stands for it: a copied command must not hold it. */
export function curlOf({ token }: Access, { path, query = {}, body }: Request): string {
  const url = new URL(path, BASE);
  for (const [name, value] of Object.entries(query)) url.searchParams.set(name, String(value));
  const parts = [`curl ${quoted(url.href)}`];
  if (token !== null) parts.push('-H "authorization: Bearer $TOKEN"');
  if (body !== undefined) parts.push("-H 'content-type: application/json'", `-d ${quoted(body)}`);
  return parts.join(' \\\n  ');
}

/** Between single quotes a shell changes nothing; a quote itself stands outside of them. */
const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;
