/**
 * Pages of lists that every node has a part of (protocol §15). All parts have one order: by time, then by node, then by
 * the number of the item on its node. So a page can end anywhere, and the next one goes on with every node behind it.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { answerJson, answerStream, type BridgeContext, isSentWhole, UNCACHED_JSON } from '../answers/answer.ts';
import { invalidPage } from '../store/store.ts';
import type { Gate } from '../transports/gate.ts';
import type { Answers } from './all-nodes.ts';

export type Place = readonly [atMs: number, node: string, number: number];
export type Order = 'asc' | 'desc';
/** On one node. */
export type OwnPlace = readonly [atMs: number, number: number];

/** Items that become text in one turn of the event loop. */
const PER_TURN = 50;

/** @throws {BridgeError} `invalid_request` */
export function parsePage(page: string | null): Place | null {
  if (page === null) return null;
  try {
    const place: unknown = JSON.parse(Buffer.from(page, 'base64url').toString());
    const [atMs, node, number, ...rest] = place as Place;
    const isPlace = Number.isSafeInteger(atMs) && typeof node === 'string' && Number.isSafeInteger(number);
    if (isPlace && rest.length === 0) return [atMs, node, number];
  } catch {
    // not one of ours
  }
  throw invalidPage();
}

const pageAfter = (place: Place): string => Buffer.from(JSON.stringify(place)).toString('base64url');

/** Where the part of a node goes on. */
export function ownPlace(place: Place | null, node: string, order: Order): OwnPlace | null {
  if (place === null) return null;
  const [atMs, lastNode, number] = place;
  if (node === lastNode) return [atMs, number];
  // The whole of this instant, or nothing of it.
  return [atMs, node > lastNode === (order === 'asc') ? edgeBefore(order) : edgeBehind(order)];
}

const edgeBefore = (order: Order): number => (order === 'asc' ? -1 : Number.MAX_SAFE_INTEGER);
const edgeBehind = (order: Order): number => (order === 'asc' ? Number.MAX_SAFE_INTEGER : -1);

/** The answer of a node: for each item its place, and its JSON. Items become text one by one, so that few are in memory. */
export async function textsOf(
  node: string,
  items: AsyncIterable<readonly [OwnPlace, object]> | readonly (readonly [OwnPlace, object])[],
): Promise<string[]> {
  const texts: string[] = [];
  for await (const [[atMs, number], item] of items) {
    if (texts.length % PER_TURN === PER_TURN - 1) await nextTurn();
    texts.push(`${atMs} ${node} ${number} ${JSON.stringify({ ...item, node })}`);
  }
  return texts;
}

interface Entry {
  readonly place: Place;
  readonly json: string;
}

export function entryOf(text: string): Entry {
  const [atMs = '', node = '', number = ''] = text.split(' ', 3);
  return {
    place: [Number(atMs), node, Number(number)],
    json: text.slice(atMs.length + node.length + number.length + 3),
  };
}

function compare(a: Place, b: Place): number {
  if (a[0] !== b[0]) return a[0] - b[0];
  if (a[1] !== b[1]) return a[1] < b[1] ? -1 : 1;
  return a[2] - b[2];
}

/** Answers with a page. Each node was asked for one more than `limit`, so that it is known whether there are more. */
export async function answerPage(
  context: BridgeContext,
  gate: Pick<Gate, 'admitAnswer'>,
  { texts, missing }: Answers,
  { limit, order }: { readonly limit: number; readonly order: Order },
): Promise<Response> {
  const entries = texts.map(entryOf).sort((a, b) => (order === 'asc' ? 1 : -1) * compare(a.place, b.place));
  const items = entries.slice(0, limit);
  const last = entries.length > limit ? items.at(-1) : undefined;
  const nextPage = last === undefined ? null : pageAfter(last.place);
  const end = `],"nextPage":${JSON.stringify(nextPage)},"missing":${JSON.stringify(missing)}}`;
  const chars = items.reduce((sum, { json }) => sum + json.length, 0);
  if (isSentWhole(chars)) {
    return answerJson(context, 200, `{"items":[${items.map(({ json }) => json).join(',')}${end}`);
  }
  async function* pieces(): AsyncGenerator<string> {
    let before = '{"items":[';
    for (const [index, { json }] of items.entries()) {
      if (index % PER_TURN === PER_TURN - 1) await nextTurn();
      yield `${before}${json}`;
      before = ',';
    }
    yield end;
  }
  return answerStream(context, gate, UNCACHED_JSON, pieces());
}
