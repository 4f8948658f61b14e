/**
 * What Find asks of the bridge: the people that a search means, and all about the one that is chosen. It asks again while
 * the view is open and the tab is visible. The texts of tokens never get here.
 */
import { RoomcastError } from '../../client/http.ts';
import type { LogAnswer } from '../../contract/log.ts';
import type { ConnectionItem, OperatorPage, RefusalItem } from '../../contract/operating.ts';
import { ALL_TENANTS, formatRoom, isRoomId, type Room } from '../../contract/rooms.ts';
import type { Access } from './access.ts';
import { type Diagnosis, diagnose, type Evidence, type Level, type RoomTraffic, refusedRoom } from './diagnosis.ts';
import { type FindQuery, formatReading, type Reading } from './find-query.ts';
import { createChanges, type Model, type Mutable } from './model.ts';
import type { RevocationItem } from './operating.ts';

/** A user, or a connection of which no user is known. */
export interface Person {
  readonly key: string;
  readonly sub: string | null;
  readonly connections: readonly ConnectionItem[];
  /** Newest first. */
  readonly refusals: readonly RefusalItem[];
}

/** A person, and the verdict as far as the list of them shows it. */
export interface Assessed extends Person {
  readonly diagnosis: Diagnosis;
}

/** A meaning of the text, and how many connections it has: null while this is unknown. */
export interface Meaning {
  readonly reading: Reading;
  readonly count: number | null;
}

/** All about the chosen person. */
export interface Dossier {
  readonly person: Person;
  readonly evidence: Evidence;
  readonly diagnosis: Diagnosis;
}

export interface Finder extends Model {
  readonly state: 'idle' | 'searching' | 'shown' | 'failed';
  readonly error: RoomcastError | null;
  readonly query: FindQuery | null;
  readonly meanings: readonly Meaning[];
  readonly reading: Reading | null;
  /** Those whose verdict is worst first. */
  readonly people: readonly Assessed[];
  /** Whether there are more connections than are shown. */
  readonly hasMore: boolean;
  readonly missing: readonly string[];
  /** The room that is searched for, or of which the person misses events. */
  readonly about: RoomTraffic | null;
  /** The newest refusals of nobody known, if the search found nobody. */
  readonly strangers: readonly RefusalItem[];
  readonly dossier: Dossier | null;
  /** When the answers came, in milliseconds since 1970. */
  readonly askedAtMs: number;
  search(query: FindQuery | null): void;
  choose(reading: Reading): void;
  select(key: string): void;
  showMore(): void;
  /** Starts to refresh. @returns ends it */
  watch(): () => void;
  /** Asks again now. */
  refresh(): void;
  /** @returns how many connections it closed @throws {RoomcastError} */
  disconnect(connections: readonly ConnectionItem[]): Promise<number>;
  /** @throws {RoomcastError} */
  revoke(what: { readonly sub?: string; readonly tenantId?: string }): Promise<void>;
  /** @throws {RoomcastError} */
  lift(revocation: RevocationItem): Promise<void>;
}

const REFRESH_MS = 3_000;
/** What changes seldom, and costs the log a look. */
const SLOW_REFRESH_MS = 15_000;
export const PAGE = 100;
/** More connections than a page can list usefully. */
export const MAX_SHOWN = 1_000;
const MAX_REFUSALS = 200;
const MAX_STRANGERS = 20;
/** Rooms of a person whose newest event is looked up. */
const MAX_TRAFFIC_ROOMS = 8;
/** Requests of one look into the log. */
const MAX_LOOKS = 4;
/** The verdict waits no longer for what makes it better: the log may hang. */
const PATIENCE_MS = 2_000;
/** The longest time between two polls of a client that works. */
const POLL_GAP_MS = 8_000;

type ConnectionQuery = Readonly<Record<string, string | number>>;

/** The queries of `GET /connections` that this reading means. Their answers are joined. */
function queriesOf({ kind, name }: Reading): readonly ConnectionQuery[] {
  switch (kind) {
    case 'user':
      // Without tokens nobody has a `sub`, but the room says whose connection it is.
      return [{ sub: name }, ...(isRoomId(name) ? [{ room: formatRoom('user', name) }] : [])];
    case 'tenant':
      return [{ tenantId: name }, { room: formatRoom('tenant', name) }];
    case 'room':
      return [{ room: name }];
    case 'address':
      return [{ address: name }];
    case 'connection':
      return [];
  }
}

interface Listing {
  readonly connections: readonly ConnectionItem[];
  readonly hasMore: boolean;
  readonly missing: readonly string[];
}

const NOTHING_FOUND: Listing = { connections: [], hasMore: false, missing: [] };

export function createFinder(access: Access): Finder {
  const finder: Mutable<Finder> = {
    changes: createChanges(),
    state: 'idle',
    error: null,
    query: null,
    meanings: [],
    reading: null,
    people: [],
    hasMore: false,
    missing: [],
    about: null,
    strangers: [],
    dossier: null,
    askedAtMs: 0,
    search,
    choose(reading) {
      finder.reading = reading;
      finder.dossier = null;
      limit = PAGE;
      restart();
    },
    select(key) {
      selectedKey = key;
      const person = finder.people.find((one) => one.key === key);
      if (person !== undefined) finder.dossier = dossierOf(person, [], finder.about, finder.missing);
      restart();
    },
    showMore() {
      limit = Math.min(MAX_SHOWN, limit + PAGE);
      restart();
    },
    watch() {
      isWatched = true;
      restart();
      // A hidden tab asks nothing; a tab that is shown again asks at once.
      const follow = (): void => (document.hidden ? clearTimeout(timer) : restart());
      document.addEventListener('visibilitychange', follow);
      return () => {
        isWatched = false;
        clearTimeout(timer);
        document.removeEventListener('visibilitychange', follow);
      };
    },
    refresh: restart,
    async disconnect(connections) {
      const outcomes = await Promise.all(connections.map(({ id }) => closeOne(id)));
      restart();
      return outcomes.reduce((sum, closed) => sum + closed, 0);
    },
    async revoke(what) {
      const headers = { 'content-type': 'application/json' };
      await access.request('revocations', { method: 'POST', body: JSON.stringify(what), headers });
      slowAtMs = 0;
      restart();
    },
    async lift({ id }) {
      await access.request(`revocations/${encodeURIComponent(id)}`, { method: 'DELETE' });
      slowAtMs = 0;
      restart();
    },
  };

  let limit = PAGE;
  let selectedKey: string | null = null;
  let isWatched = false;
  /** Counts searches, so that an answer to an earlier one is ignored. */
  let generation = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let slowAtMs = 0;
  let revocations: readonly RevocationItem[] = [];
  const traffic = new Map<string, RoomTraffic>();
  let polls: { readonly reading: string; readonly listing: Listing; readonly atMs: number } | null = null;

  function search(query: FindQuery | null): void {
    Object.assign(finder, { query, meanings: [], reading: null, people: [], about: null, dossier: null, error: null });
    finder.state = query === null ? 'idle' : 'searching';
    finder.strangers = [];
    limit = PAGE;
    selectedKey = null;
    slowAtMs = 0;
    traffic.clear();
    restart();
    finder.changes.notify();
  }

  function restart(): void {
    clearTimeout(timer);
    if (finder.query !== null && isWatched) void run(++generation, finder.query);
  }

  async function run(started: number, query: FindQuery): Promise<void> {
    const isCurrent = (): boolean => started === generation;
    if (document.hidden) return;
    try {
      await ask(query, isCurrent);
      if (!isCurrent()) return;
      finder.error = null;
      finder.state = 'shown';
    } catch (error) {
      if (!isCurrent()) return;
      finder.error = error instanceof RoomcastError ? error : new RoomcastError('unreachable', String(error));
      if (finder.state === 'searching' || !finder.error.passing) finder.state = 'failed';
    }
    finder.changes.notify();
    if (isWatched) timer = setTimeout(restart, finder.state === 'failed' ? 2 * REFRESH_MS : REFRESH_MS);
  }

  async function ask(query: FindQuery, isCurrent: () => boolean): Promise<void> {
    if (finder.reading === null) {
      // Each meaning is asked once; the likeliest that has connections is then followed.
      const listings = await Promise.all(query.readings.map((reading) => connectionsOf(reading, PAGE)));
      if (!isCurrent()) return;
      finder.meanings = query.readings.map((reading, index) => ({
        reading,
        count: (listings[index] as Listing).connections.length,
      }));
      const first = finder.meanings.find(({ count }) => count !== null && count > 0) ?? finder.meanings[0];
      finder.reading = (first as Meaning).reading;
    }
    const reading = finder.reading as Reading;
    const isSlow = Date.now() - slowAtMs > SLOW_REFRESH_MS;
    const about = query.about ?? (reading.kind === 'room' ? (reading.name as Room) : null);
    const [listed, refusals, kept] = await Promise.all([
      connectionsOf(reading, limit),
      refusalsOf(reading),
      isSlow ? soon(revocationsKept(), revocations) : revocations,
    ]);
    const aboutTraffic = about === null ? null : await trafficOf(about, [], isSlow);
    if (!isCurrent()) return;
    const listing = withPolls(listed, reading);
    revocations = kept;
    if (isSlow) slowAtMs = Date.now();
    finder.people = worstFirst(peopleOf(reading, listing, refusals), aboutTraffic);
    finder.hasMore = listing.hasMore;
    finder.missing = listing.missing;
    finder.about = aboutTraffic;
    finder.askedAtMs = Date.now();
    finder.meanings = finder.meanings.map((meaning) =>
      formatReading(meaning.reading) === formatReading(reading)
        ? { reading, count: listing.connections.length }
        : meaning,
    );
    const isNobody = listing.connections.length === 0 && refusals.length === 0;
    finder.strangers = isNobody ? await strangers() : [];
    if (!isCurrent()) return;
    const chosen = finder.people.find(({ key }) => key === selectedKey) ?? finder.people[0];
    if (chosen === undefined) {
      finder.dossier = null;
      return;
    }
    finder.changes.notify();
    const person = await wholePerson(chosen, reading);
    const tenants = person.connections.flatMap(({ tenantIds }) => tenantIds);
    const rooms = [...new Set(person.connections.flatMap((one) => one.rooms as readonly Room[]))].slice(
      0,
      MAX_TRAFFIC_ROOMS,
    );
    const [own, ...looks] = await Promise.all([
      about === null ? null : trafficOf(about, tenants, isSlow),
      ...rooms.map((room) => trafficOf(room, tenants, isSlow)),
    ]);
    if (isCurrent()) finder.dossier = dossierOf(person, looks, own, finder.missing);
  }

  /** Between two polls a client is not connected; it comes back at once, if it does. */
  function withPolls(listing: Listing, reading: Reading): Listing {
    const isSame = polls !== null && polls.reading === formatReading(reading);
    if (listing.connections.length > 0) {
      const areAll = listing.connections.every(({ transport }) => transport === 'longpoll');
      polls = areAll ? { reading: formatReading(reading), listing, atMs: Date.now() } : null;
    } else if (polls !== null && isSame && Date.now() - polls.atMs < POLL_GAP_MS) return polls.listing;
    return listing;
  }

  function dossierOf(
    person: Person,
    looks: readonly RoomTraffic[],
    about: RoomTraffic | null,
    missing: readonly string[],
  ): Dossier {
    const evidence: Evidence = {
      nowMs: Date.now(),
      connections: person.connections,
      refusals: person.refusals,
      traffic: looks,
      about,
      revocation: revocationOf(person),
      missing,
    };
    return { person, evidence, diagnosis: diagnose(evidence) };
  }

  function revocationOf({ sub, connections }: Person): RevocationItem | null {
    const tenants = connections.flatMap(({ tenantIds }) => tenantIds);
    const matches = (one: RevocationItem): boolean =>
      one.jti === null &&
      sub !== null &&
      one.sub === sub &&
      (one.tenantId === null || tenants.length === 0 || tenants.includes(one.tenantId));
    return revocations.find(matches) ?? null;
  }

  /** A list of a room's connections has neither all connections of a user nor all that was refused. */
  async function wholePerson(person: Person, reading: Reading): Promise<Person> {
    if (person.sub !== null && reading.kind !== 'user') {
      const ofUser: Reading = { kind: 'user', name: person.sub };
      const [listing, refusals] = await Promise.all([connectionsOf(ofUser, PAGE), refusalsOf(ofUser)]);
      return { ...person, connections: listing.connections, refusals };
    }
    const [only] = person.connections;
    if (person.sub === null && only !== undefined && reading.kind !== 'address' && reading.kind !== 'user') {
      return { ...person, refusals: await refusalsWhere({ address: only.address }) };
    }
    return person;
  }

  async function connectionsOf(reading: Reading, atMost: number): Promise<Listing> {
    if (reading.kind === 'connection') {
      const one = await orNull(access.request<ConnectionItem>(`connections/${encodeURIComponent(reading.name)}`));
      return one === null ? NOTHING_FOUND : { ...NOTHING_FOUND, connections: [one] };
    }
    const pages = await Promise.all(
      queriesOf(reading).map((query) =>
        access.request<OperatorPage<ConnectionItem>>('connections', { query: { ...query, limit: atMost } }),
      ),
    );
    const byId = new Map(pages.flatMap(({ items }) => items).map((item) => [item.id, item]));
    return {
      connections: [...byId.values()],
      hasMore: pages.some(({ nextPage }) => nextPage !== null),
      missing: [...new Set(pages.flatMap(({ missing }) => missing))],
    };
  }

  const refusalsWhere = async (query: ConnectionQuery): Promise<readonly RefusalItem[]> =>
    (await access.request<OperatorPage<RefusalItem>>('refusals', { query: { limit: MAX_REFUSALS, ...query } })).items;

  async function refusalsOf({ kind, name }: Reading): Promise<readonly RefusalItem[]> {
    if (kind === 'user') return refusalsWhere({ sub: name });
    if (kind === 'address') return refusalsWhere({ address: name });
    if (kind === 'connection') return [];
    const newest = await refusalsWhere({});
    if (kind === 'tenant') return newest.filter(({ tenantIds }) => tenantIds.includes(name));
    return newest.filter((refusal) => refusedRoom(refusal) === name);
  }

  const strangers = async (): Promise<readonly RefusalItem[]> =>
    (await refusalsWhere({})).filter(({ sub }) => sub === null).slice(0, MAX_STRANGERS);

  /** A token may be for fewer routes than Find asks; then it shows less. */
  async function revocationsKept(): Promise<readonly RevocationItem[]> {
    try {
      return (await access.request<{ items: readonly RevocationItem[] }>('revocations', { query: { limit: 1000 } }))
        .items;
    } catch {
      return [];
    }
  }

  /**
   * The newest event of a room, of these tenants if it has one.
   * @param isFresh whether an earlier answer is too old
   */
  async function trafficOf(room: Room, tenants: readonly string[], isFresh: boolean): Promise<RoomTraffic> {
    const key = `${room}\n${tenants.join(',')}`;
    const known = traffic.get(key);
    if (known !== undefined && !isFresh) return known;
    const own = tenants.filter((tenantId) => tenantId !== ALL_TENANTS);
    const unknown: RoomTraffic = { room, last: null, isSearched: false, elsewhere: null };
    const looks = Promise.all([newestIn(room, []), own.length === 0 ? null : newestIn(room, own)]);
    const [ofAny, ofOwn] = await soon(looks, [unknown, null]);
    const isElsewhere = ofOwn !== null && ofOwn.last !== null && (ofAny.last?.id ?? '') > ofOwn.last.id;
    const found = { ...(ofOwn?.last ? ofOwn : ofAny), elsewhere: isElsewhere ? ofAny.last : null };
    traffic.set(key, found);
    return found;
  }

  async function newestIn(room: Room, tenantId: readonly string[]): Promise<RoomTraffic> {
    let before: string | undefined;
    try {
      for (let looks = 0; looks < MAX_LOOKS; looks++) {
        const query = { room, tenantId, limit: 1, before };
        const { events, scannedThrough, more } = await access.request<LogAnswer>('log', { query });
        const [last] = events;
        if (last !== undefined || !more) return { room, last: last ?? null, isSearched: true, elsewhere: null };
        before = scannedThrough;
      }
    } catch {
      // The verdict does without; faults of the log are shown by the statistics.
    }
    return { room, last: null, isSearched: false, elsewhere: null };
  }

  async function closeOne(id: string): Promise<number> {
    const path = `connections/${encodeURIComponent(id)}`;
    const answer = await orNull(access.request<{ closed: number }>(path, { method: 'DELETE' }));
    return answer?.closed ?? 0;
  }

  access.changes.subscribe(restart);
  return finder;
}

const RANKS: Readonly<Record<Level, number>> = { bad: 0, fair: 1, good: 2 };

function worstFirst(people: readonly Person[], about: RoomTraffic | null): readonly Assessed[] {
  const nowMs = Date.now();
  return people
    .map((person) => ({
      ...person,
      diagnosis: diagnose({ ...person, nowMs, traffic: [], about, revocation: null, missing: [] }),
    }))
    .toSorted((one, other) => RANKS[one.diagnosis.level] - RANKS[other.diagnosis.level]);
}

/** The value, or the other one if it takes too long. */
function soon<T>(asked: Promise<T>, otherwise: NoInfer<T>): Promise<T> {
  return Promise.race([asked, new Promise<T>((resolve) => setTimeout(resolve, PATIENCE_MS, otherwise))]);
}

/** A 404 is an answer, too: it is gone. */
async function orNull<T>(asked: Promise<T>): Promise<T | null> {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof RoomcastError && error.status === 404) return null;
    throw error;
  }
}

/** Connections and refusals by user. A search for a user yields that user also if nothing is known of them. */
function peopleOf(reading: Reading, { connections }: Listing, refusals: readonly RefusalItem[]): readonly Person[] {
  const people = new Map<string, { -readonly [Key in keyof Person]: Person[Key] }>();
  const isUser = reading.kind === 'user';
  const add = (key: string, sub: string | null) => {
    const person = people.get(key) ?? { key, sub, connections: [], refusals: [] };
    people.set(key, person);
    return person;
  };
  if (isUser) add(`user:${reading.name}`, reading.name);
  for (const connection of connections) {
    const { sub, id } = connection;
    const person = isUser
      ? add(`user:${reading.name}`, reading.name)
      : sub === null
        ? add(`connection:${id}`, null)
        : add(`user:${sub}`, sub);
    person.connections = [...person.connections, connection];
  }
  for (const refusal of refusals) {
    const { sub, address } = refusal;
    const only = reading.kind === 'address' && connections.length === 1 ? connections[0] : undefined;
    const anonymous = only !== undefined && only.sub === null ? `connection:${only.id}` : `address:${address}`;
    const person = isUser
      ? add(`user:${reading.name}`, reading.name)
      : sub === null
        ? add(anonymous, null)
        : add(`user:${sub}`, sub);
    person.refusals = [...person.refusals, refusal];
  }
  return [...people.values()];
}
