/** What the page shows, as commands for a shell. They hold no token: the shell has it in `$TOKEN`. */
import type { LogEntry } from '../../contract/log.ts';

/** A word that no shell interprets. */
const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

const AUTHORIZATION = ' \\\n  -H "authorization: Bearer $TOKEN"';

export interface Target {
  /** Where the bridge is, with a `/` at its end. */
  readonly base: string;
  readonly needsToken: boolean;
}

/** Publishes the same event again, to the same rooms. */
export function curlOfPublish({ event, rooms, payload }: LogEntry, { base, needsToken }: Target): string {
  const body = JSON.stringify({ event, rooms, payload });
  return (
    `curl ${quoted(`${base}events`)}${needsToken ? AUTHORIZATION : ''} \\\n` +
    `  -H 'content-type: application/json' \\\n  --data-raw ${quoted(body)}`
  );
}

/** Asks `GET /log`. */
export function curlOfQuery(parameters: Readonly<Record<string, string>>, { base, needsToken }: Target): string {
  const query = new URLSearchParams(parameters).toString();
  return `curl ${quoted(`${base}log${query === '' ? '' : `?${query}`}`)}${needsToken ? AUTHORIZATION : ''}`;
}
