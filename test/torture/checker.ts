/**
 * The property that the torture suite checks, as a pure function over what was observed.
 *
 * For each listener: the canonical events it saw are exactly the records of its rooms, each once, in cursor order, up
 * to a `bridge.reset` that it was told. For each publisher: what was acknowledged is in the log as it was sent, what was
 * refused is not, a batch is there whole or not at all, and the log holds nothing twice. Rooms are worked out here from the payload (protocol §2), so that
 * the product's own idea of an audience is never taken for granted. The state, where the stage reads it, is that of the
 * log by the model in test/support/oracle.ts.
 */

export type Law =
  | 'gap'
  | 'double'
  | 'order'
  | 'early'
  | 'foreign'
  | 'stranger'
  | 'altered'
  | 'legacy'
  | 'reset'
  | 'lost'
  | 'refused'
  | 'twice'
  | 'half'
  | 'log order'
  | 'state'
  | 'outlives';

/** A record as the log gave it at the end. */
export interface LogEntry {
  readonly id: string;
  readonly event: string;
  /** JSON text. */
  readonly payload: string;
}

export type Entry =
  | {
      readonly kind: 'event';
      /** Null for legacy events. */
      readonly id: string | null;
      readonly event: string;
      readonly payload: string;
      /** `live`, or one name per replay: order holds within each (protocol §5). */
      readonly stream: string;
    }
  | {
      readonly kind: 'reset';
      readonly reason: string;
      readonly after: string | null;
      readonly cursor: string;
      /** Told by the join of this room, and of no other one; left out: of all that is heard. */
      readonly room?: string;
    }
  /** What happened to the connection; no part of the property, but of the story that a failure tells. */
  | { readonly kind: 'note'; readonly text: string };

export interface ListenerHistory {
  readonly name: string;
  /** Each room, and the place after which the listener hears it; null: it never got that far. */
  readonly rooms: readonly { readonly room: string; readonly after: string | null }[];
  /** The tenants that its token names; null: no tokens. */
  readonly tenants: readonly string[] | null;
  readonly legacy: boolean;
  /** Whether the scenario takes from the log what the listener had not seen yet. */
  readonly mayReset: boolean;
  readonly entries: readonly Entry[];
}

export interface Publication {
  /** Found in the payload under `key`: what was meant to be one record. */
  readonly key: string;
  readonly event: string;
  readonly payload: string;
  /** `refused`: every attempt was answered by a refusal that promises that nothing was or will be accepted. */
  readonly outcome: 'acknowledged' | 'refused' | 'unknown';
  /** The ids that its acknowledgements named; more than one is an objection. */
  readonly ids: readonly string[];
  /** The same for those that were sent together: all of them are in the log, or none. */
  readonly batch?: string;
}

export interface History {
  readonly log: readonly LogEntry[];
  readonly publications: readonly Publication[];
  readonly listeners: readonly ListenerHistory[];
  /** Cursors compare within one log only: which log a cursor is of. Default: all are of one. */
  readonly logOf?: (cursor: string) => string;
  /** Logs that a fault destroyed: what was acknowledged there may be gone, and listeners must be told. */
  readonly lostLogs?: ReadonlySet<string>;
  /** The oldest place that `log` reaches back to: what was trimmed before it is no loss. */
  readonly trimmedBefore?: string | null;
}

export interface Objection {
  readonly law: Law;
  readonly who: string;
  readonly detail: string;
}

const LEGACY: Readonly<Record<string, readonly string[]>> = {
  'tickets.updated': ['ticket.updated'],
  'messages.new': ['ticket.message', 'ticket.message.created', 'message:created'],
  'messages.updated': ['message:updated'],
  'messages.deleted': [],
};

/** The rooms of protocol §2, or those that the publisher notes in the payload as `heardBy`, where they are others. */
export function roomsOf(event: string, payload: Readonly<Record<string, unknown>>): string[] {
  if (Array.isArray(payload.heardBy)) return payload.heardBy as string[];
  const kinds = ['tenant', 'ticket', 'agreement', ...(event in LEGACY ? [] : ['user']), 'queue'];
  return kinds.flatMap((kind) => {
    const id = payload[`${kind}Id`];
    return typeof id === 'string' && id !== '' ? [`${kind}:${id}`] : [];
  });
}

interface Known extends LogEntry {
  readonly rooms: readonly string[];
  readonly tenant: string;
  readonly key: string | null;
}

/** Everything that is wrong with the history; empty when the property holds. */
export function check(history: History): Objection[] {
  const objections: Objection[] = [];
  const logOf = history.logOf ?? (() => '');
  const known = new Map<string, Known>();
  for (const entry of history.log) {
    if (known.has(entry.id)) objections.push({ law: 'twice', who: 'log', detail: `${entry.id} stands in it twice` });
    known.set(entry.id, knownOf(entry));
  }
  checkLog(history, known, logOf, objections);
  // What was acknowledged and then destroyed or trimmed was still owed to nobody, but it was no stranger.
  const all = new Map(known);
  for (const { ids, event, payload } of history.publications) {
    for (const id of ids) if (!all.has(id)) all.set(id, knownOf({ id, event, payload }));
  }
  const ordered = [...all.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
  for (const listener of history.listeners) {
    objections.push(...checkListener(listener, ordered, all, logOf, history.trimmedBefore ?? null));
  }
  return objections;
}

function knownOf(entry: LogEntry): Known {
  const payload = JSON.parse(entry.payload) as Record<string, unknown>;
  return {
    ...entry,
    rooms: roomsOf(entry.event, payload),
    tenant: String(payload.tenantId),
    key: typeof payload.key === 'string' ? payload.key : null,
  };
}

function checkLog(
  { log, publications, lostLogs = new Set(), trimmedBefore = null }: History,
  known: ReadonlyMap<string, Known>,
  logOf: (cursor: string) => string,
  objections: Objection[],
): void {
  for (const [index, { id }] of log.entries()) {
    const before = log[index - 1];
    if (before !== undefined && logOf(before.id) === logOf(id) && before.id >= id) {
      objections.push({ law: 'log order', who: 'log', detail: `${id} comes after ${before.id}` });
    }
  }
  const held = new Map<string, string[]>();
  for (const { key, id } of known.values()) {
    if (key === null) continue;
    const ids = held.get(key);
    if (ids === undefined) held.set(key, [id]);
    else ids.push(id);
  }
  for (const [key, ids] of held) {
    if (ids.length > 1) objections.push({ law: 'twice', who: 'log', detail: `${key} stands at ${ids.join(' and ')}` });
  }
  // What was trimmed, or lost with its log, may be half of a batch.
  if (trimmedBefore === null && lostLogs.size === 0) checkBatches(publications, held, objections);
  for (const { key, event, payload, outcome, ids } of publications) {
    const named = new Set(ids);
    if (named.size > 1) {
      objections.push({ law: 'twice', who: key, detail: `acknowledged as ${[...named].join(' and as ')}` });
    }
    if (outcome === 'refused' && held.has(key)) {
      objections.push({ law: 'refused', who: key, detail: `was refused, yet stands at ${held.get(key)}` });
    }
    for (const id of named) {
      const record = known.get(id);
      if (record === undefined) {
        const isTrimmed = trimmedBefore !== null && logOf(id) === logOf(trimmedBefore) && id <= trimmedBefore;
        if (!isTrimmed && !lostLogs.has(logOf(id))) {
          objections.push({ law: 'lost', who: key, detail: `was acknowledged as ${id}, which the log does not hold` });
        }
      } else if (record.event !== event || record.payload !== payload) {
        objections.push({ law: 'altered', who: key, detail: `${id} holds ${excerpt(record.payload)}` });
      }
    }
  }
}

function checkBatches(
  publications: readonly Publication[],
  held: ReadonlyMap<string, readonly string[]>,
  objections: Objection[],
): void {
  const batches = Map.groupBy(
    publications.filter(({ batch }) => batch !== undefined),
    ({ batch }) => batch as string,
  );
  for (const [batch, members] of batches) {
    const missing = members.filter(({ key }) => !held.has(key));
    if (missing.length === 0 || missing.length === members.length) continue;
    const detail = `the log holds ${members.length - missing.length} of its ${members.length} events`;
    objections.push({ law: 'half', who: batch, detail });
  }
}

function checkListener(
  listener: ListenerHistory,
  ordered: readonly Known[],
  all: ReadonlyMap<string, Known>,
  logOf: (cursor: string) => string,
  trimmedBefore: string | null,
): Objection[] {
  const objections: Objection[] = [];
  const object = (law: Law, detail: string): void => void objections.push({ law, who: listener.name, detail });
  const placeOf = new Map(listener.rooms.map(({ room, after }) => [room, after]));
  const mayHear = ({ tenant, rooms }: Known): boolean =>
    (listener.tenants === null || listener.tenants.includes(tenant)) && rooms.some((room) => placeOf.has(room));

  const seen = new Set<string>();
  const segmentsOf = new Map<string, Segment[]>(
    listener.rooms.map(({ room, after }) => [room, [{ from: after, newest: null }]]),
  );
  const lastOf = new Map<string, string>();
  for (const [index, entry] of listener.entries.entries()) {
    if (entry.kind === 'note') continue;
    if (entry.kind === 'reset') {
      if (!listener.mayReset) object('reset', `was told ${entry.reason} after ${entry.after} without a cause`);
      for (const [room, segments] of segmentsOf) {
        if ((entry.room ?? room) === room) segments.push({ from: entry.cursor, newest: null });
      }
      if (entry.room === undefined) lastOf.clear();
      continue;
    }
    if (entry.id === null) continue;
    const { id, stream } = entry;
    const record = all.get(id);
    if (record === undefined) {
      object('stranger', `saw ${id} (${entry.event}), which the log does not hold`);
      continue;
    }
    if (!mayHear(record)) object('foreign', `saw ${id} of ${record.tenant}, ${record.rooms.join(' ')}`);
    if (seen.has(id)) object('double', `saw ${id} again in ${stream}`);
    seen.add(id);
    if (record.event !== entry.event || record.payload !== entry.payload) {
      object('altered', `saw ${id} as ${entry.event} ${excerpt(entry.payload)}`);
    }
    const last = lastOf.get(stream);
    if (last !== undefined && logOf(last) === logOf(id) && last >= id) {
      object('order', `saw ${id} after ${last} in ${stream}`);
    }
    lastOf.set(stream, id);
    for (const room of record.rooms) {
      const segment = segmentsOf.get(room)?.at(-1);
      if (segment !== undefined && (segment.newest === null || segment.newest < id)) segment.newest = id;
    }
    if (listener.legacy && !hasGroupBefore(listener.entries, index, entry.event)) {
      object('legacy', `saw ${id} without its group right before it`);
    }
    const isEarly = record.rooms.every((room) => {
      const after = placeOf.get(room);
      return after === undefined || after === null || (logOf(after) === logOf(id) && id <= after);
    });
    if (isEarly && mayHear(record)) object('early', `saw ${id}, which lies before the place it listens from`);
  }

  for (const record of ordered) {
    if (seen.has(record.id) || !mayHear(record)) continue;
    if (record.rooms.some((room) => isOwed(record.id, segmentsOf.get(room) ?? [], logOf, trimmedBefore))) {
      object('gap', `never saw ${record.id} (${record.event}, ${record.rooms.join(' ')})`);
    }
  }
  return objections;
}

/** What a listener hears of one room between two resets. */
interface Segment {
  /** After this: where the listener begins, or where the reset said that it goes on. Null: it never got that far. */
  readonly from: string | null;
  newest: string | null;
}

function isOwed(
  id: string,
  segments: readonly Segment[],
  logOf: (cursor: string) => string,
  trimmedBefore: string | null,
): boolean {
  const isAfter = (place: string): boolean => logOf(place) === logOf(id) && id > place;
  const isTrimmed = trimmedBefore !== null && !isAfter(trimmedBefore) && logOf(trimmedBefore) === logOf(id);
  return segments.some(({ from, newest }, index) => {
    if (from === null || !isAfter(from)) return false;
    // What came after the last event before a reset is what the reset is about.
    if (newest !== null && logOf(newest) === logOf(id) && id < newest) return true;
    return index === segments.length - 1 && !isTrimmed;
  });
}

function hasGroupBefore(entries: readonly Entry[], index: number, event: string): boolean {
  let at = index;
  return (LEGACY[event] ?? []).toReversed().every((name) => {
    // A note is the runner's own: an ack is told by a promise, later than the events that came right after it.
    do at--;
    while (entries[at]?.kind === 'note');
    const entry = entries[at];
    return entry?.kind === 'event' && entry.id === null && entry.event === name;
  });
}

function excerpt(text: string): string {
  return text.length > 160 ? `${text.slice(0, 160)}… (${text.length} characters)` : text;
}

/** What one listener lived through around the place of an objection, for the report of a failure. */
export function story(listener: ListenerHistory, about: string | null = null, most = 40): string[] {
  const lines: string[] = [];
  let centre = 0;
  for (const entry of listener.entries) {
    let line: string;
    if (entry.kind === 'note') line = `-- ${entry.text}`;
    else if (entry.kind === 'reset')
      line = `reset ${entry.reason} of ${entry.room ?? 'all'} after ${entry.after}, on from ${entry.cursor}`;
    else line = `${entry.id ?? '(no cursor)'} ${entry.event} ${entry.stream}`;
    if (lines.at(-1) !== line) lines.push(line);
    const isBefore = entry.kind === 'event' && entry.id !== null && about !== null && entry.id <= about;
    if (isBefore || about === null) centre = lines.length;
  }
  const places = listener.rooms.map(({ room, after }) => `${room} after ${after}`).join(', ');
  const begin = Math.max(0, Math.min(centre - most / 2, lines.length - most));
  const end = Math.min(lines.length, begin + most);
  return [
    `${listener.name} listens to ${places}`,
    ...(begin > 0 ? [`… ${begin} lines before`] : []),
    ...lines.slice(begin, end),
    ...(end < lines.length ? [`… ${lines.length - end} lines after`] : []),
  ];
}

/** The first cursor that an objection speaks of. */
export function subjectOf({ detail }: Objection): string | null {
  return /\b[0-9a-z]+-[0-9a-z]+-[\w-]+/.exec(detail)?.[0] ?? null;
}
