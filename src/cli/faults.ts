/** Errors of a bridge, or of the way to it, in a sentence that says what to do. */

import type { RoomcastError } from '../client/http.ts';
import type { PublishError } from '../client/publish-error.ts';

/** The system's code, such as ECONNREFUSED, which `fetch` nests in the cause of its own error; '' if there is none. */
function systemCode(error: Error): string {
  for (let cause = error.cause; cause instanceof Error; cause = cause.cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (typeof code === 'string') return code;
  }
  return '';
}

/** Nothing listens there. */
export const nothingAt = (url: string): string =>
  `cannot connect to ${url}; is the server running? start it with npx roomcast serve`;

/** @param url the bridge's address, as the command has it */
export function faultOf(error: RoomcastError | PublishError, url: string): string {
  const code = systemCode(error);
  if (error.code !== 'unreachable' || code === '') return `${error.code}: ${error.message}${code && ` (${code})`}`;
  if (code === 'ECONNREFUSED') return nothingAt(url);
  const { hostname } = new URL(url);
  if (code === 'ENOTFOUND') return `cannot connect to ${url}; no host has the name ${hostname} (${code})`;
  return `cannot connect to ${url} (${code})`;
}

/** A refusal in lines: its fields if the bridge names them, else its sentence. */
export function refusalOf(
  error: RoomcastError | PublishError,
  errors: unknown,
  url: string,
): readonly [string, ...string[]] {
  const fields = fieldsOf(errors);
  return fields.length === 0 ? [faultOf(error, url)] : [`${error.code}:`, ...fields];
}

/** The fields that the bridge names in its refusal, one a line. */
export function fieldsOf(errors: unknown): string[] {
  const list = Array.isArray(errors)
    ? (errors as readonly { readonly path?: unknown; readonly message?: unknown }[])
    : [];
  return list.map(({ path, message }) => `  ${path}: ${message}`);
}
