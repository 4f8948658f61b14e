/**
 * What the commands for operators share (protocol §15): requests with the operator's token, pages of items, and refusals
 * that say which token is needed.
 */
import { createHttp, type Query, RoomcastError } from '../client/http.ts';
import type { OperatorPage } from '../contract/operating.ts';
import { bearerToken, bridgeUrl } from './arguments.ts';
import { refusalOf } from './faults.ts';
import { complain, printJson, printText } from './output.ts';
import { type Column, table } from './terminal.ts';

export interface Operator {
  readonly url: string;
  /** @throws {RoomcastError} */
  request(
    method: 'GET' | 'POST' | 'DELETE',
    path: string,
    options?: { query?: Query; body?: object },
  ): Promise<unknown>;
}

/** Beyond the 2 s that the bridge waits for its other nodes, and the 5 s for its log. */
const TIMEOUT_MS = 10_000;

export function createOperator(
  command: string,
  values: { readonly url?: string | undefined; readonly token?: string | undefined },
): Operator {
  const url = bridgeUrl(command, values.url);
  const http = createHttp(url, bearerToken(command, values.token), { init: {} });
  return {
    url,
    request: (method, path, { query = {}, body } = {}) =>
      http.json(path, {
        method,
        query,
        ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
        signal: new AbortController().signal,
        timeoutMs: TIMEOUT_MS,
      }),
  };
}

/** The bridge's largest page. */
const MAX_PAGE = 1000;

/** After a list that ends at its limit. */
export function sayThereAreMore(limit: number): void {
  complain(`there are more than ${limit}; --limit N prints more`);
}

/** The first `limit` items of a list; says if there are more. @throws {RoomcastError} */
export async function readItems<Item>(operator: Operator, path: string, query: Query, limit: number) {
  const items: Item[] = [];
  const missing = new Set<string>();
  let page: string | undefined;
  do {
    const answer = (await operator.request('GET', path, {
      query: { ...query, limit: Math.min(MAX_PAGE, limit - items.length), page },
    })) as Partial<OperatorPage<Item>>;
    if (!Array.isArray(answer?.items)) throw new RoomcastError('unreachable', 'This is not the bridge: other JSON.');
    items.push(...answer.items);
    for (const node of answer.missing ?? []) missing.add(node);
    page = answer.nextPage ?? undefined;
  } while (page !== undefined && items.length < limit);
  for (const node of missing) {
    complain(`the node ${node} did not answer in time: what it knows is missing here; try again`);
  }
  if (page !== undefined) sayThereAreMore(limit);
  return items;
}

/** As a table, or as one JSON object a line. Without an item, `none` says so on the terminal. */
export async function show<Item>(
  items: readonly Item[],
  asJson: boolean,
  columns: readonly Column<Item>[],
  none: string,
  below?: (item: Item) => string,
): Promise<void> {
  if (asJson) for (const item of items) await printJson(item);
  else if (items.length === 0) complain(none);
  else for (const line of table(items, columns, below)) await printText(line);
}

/** Which token to give, by the status of the refusal. The sentence of a 403 says what the one that was given lacks. */
function hintOf({ status, message }: RoomcastError): string {
  if (status === 401) return ' (this command takes a token with the scope admin, in --token or ROOMCAST_TOKEN)';
  return status === 403 && /token/i.test(message) ? ' (give another one in --token or ROOMCAST_TOKEN)' : '';
}

/** Runs a command. A refusal becomes one line, with the fields at fault below it, and exit code 1. */
export async function orRefusal(url: string, run: () => Promise<number>): Promise<number> {
  try {
    return await run();
  } catch (error) {
    if (!(error instanceof RoomcastError)) throw error;
    const [sentence, ...fields] = refusalOf(error, error.problem.errors, url);
    complain(`${sentence}${hintOf(error)}`, ...fields);
    return 1;
  }
}
