/** The overview: who is connected, how many events flow and how fast, and the state of the log, Redis and the nodes. */
import type { ComponentChildren } from 'preact';
import { useState } from 'preact/hooks';
import { TRANSPORTS } from '../../contract/names.ts';
import type { Room } from '../../contract/rooms.ts';
import type { RoomFigures, Stats } from '../../contract/stats.ts';
import { Chart } from './chart.tsx';
import { Fact, Scroll, State } from './elements.tsx';
import { bytes, count, duration, milliseconds, NOTHING, rate, TRANSPORT_LABELS, timeOfDay } from './format.ts';
import { useModels } from './model.ts';
import type { StatsFeed } from './stats.ts';
import type { ThemeChoice } from './theme.ts';

interface OverviewProps {
  readonly feed: StatsFeed;
  readonly theme: ThemeChoice;
  readonly openTail: (room: Room) => void;
}

export function Overview({ feed, theme, openTail }: OverviewProps) {
  useModels(feed);
  const { stats, history, state, error } = feed;
  if (stats === null) return <NoStats state={state} />;
  const now = history.at(-1);
  const instants = history.map(({ atMs }) => atMs);
  return (
    <>
      {state === 'unreachable' && (
        <p class="fault">
          These numbers are from {timeOfDay(Date.parse(stats.at))}. {error?.message}
        </p>
      )}
      <Tiles stats={stats} published={now?.published ?? null} delivered={now?.delivered ?? null} />
      <div class="charts">
        <Chart
          title="Events per second"
          instants={instants}
          series={[
            { label: 'Published', color: '--series-1', values: history.map(({ published }) => published) },
            { label: 'Delivered', color: '--series-2', values: history.map(({ delivered }) => delivered) },
          ]}
          format={rate}
          empty="Waiting for data…"
          theme={theme}
        />
        <Chart
          title="Delivery lag"
          instants={instants}
          series={[
            { label: 'Median', color: '--series-1', values: history.map(({ p50 }) => p50) },
            { label: '99th percentile', color: '--series-2', values: history.map(({ p99 }) => p99) },
          ]}
          format={milliseconds}
          empty="No deliveries to show"
          theme={theme}
        />
      </div>
      <div class="columns">
        <Rooms rooms={stats.rooms} openTail={openTail} />
        <div class="stack">
          <Log log={stats.log} />
          {stats.redis !== null && <Redis redis={stats.redis} />}
          <Node stats={stats} />
        </div>
      </div>
      {stats.nodes !== null && stats.nodes.length > 1 && <Nodes nodes={stats.nodes} here={stats.node.id} />}
    </>
  );
}

function NoStats({ state }: { readonly state: StatsFeed['state'] }) {
  if (state === 'loading') return <p class="empty">Loading statistics…</p>;
  if (state === 'unreachable') return <p class="empty">The server does not answer. The page keeps trying.</p>;
  return (
    <p class="empty">
      Statistics need a token with the scope <code>admin</code>. The other views work without it: the tail needs{' '}
      <code>subscribe</code>, publishing needs <code>publish</code>.
    </p>
  );
}

interface TilesProps {
  readonly stats: Stats;
  readonly published: number | null;
  readonly delivered: number | null;
}

function Tiles({ stats, published, delivered }: TilesProps) {
  const { connections, publishes, deliveryLag, log } = stats;
  const all = TRANSPORTS.reduce((sum, name) => sum + connections[name], 0);
  const { failed, rejected, duplicate } = publishes;
  return (
    <div class="tiles">
      <section class="tile wide" aria-labelledby="tile-connections">
        <h3 id="tile-connections">Connections</h3>
        <p class="figure">{count(all)}</p>
        <dl class="row">
          {TRANSPORTS.map((name) => (
            <div key={name}>
              <dt>{TRANSPORT_LABELS[name]}</dt>
              <dd>{count(connections[name])}</dd>
            </div>
          ))}
        </dl>
      </section>
      <Tile title="Published" figure={rate(published)}>
        {count(publishes.accepted)} accepted
        {duplicate > 0 && `, ${count(duplicate)} duplicate`}
        {rejected > 0 && `, ${count(rejected)} rejected`}
        {failed > 0 && <strong class="bad">, {count(failed)} failed</strong>}
      </Tile>
      <Tile title="Delivered" figure={rate(delivered)}>
        {count(TRANSPORTS.reduce((sum, name) => sum + stats.deliveries[name], 0))} since start
        {stats.slowConsumers > 0 && `, ${count(stats.slowConsumers)} slow consumers cut`}
      </Tile>
      <Tile title="Delivery lag, p99" figure={milliseconds(deliveryLag.recent.p99Seconds)}>
        {deliveryLag.recent.count === 0
          ? 'no deliveries in the last minute'
          : `median ${milliseconds(deliveryLag.recent.p50Seconds)}, last minute`}
      </Tile>
      <Tile title="Records kept" figure={log.records === null ? NOTHING : count(log.records)}>
        {log.bytes === null ? 'in the log' : `${bytes(log.bytes)} in the log`}
      </Tile>
    </div>
  );
}

interface TileProps {
  readonly title: string;
  readonly figure: string;
  readonly children: ComponentChildren;
}

function Tile({ title, figure, children }: TileProps) {
  const id = `tile-${title.toLowerCase().replaceAll(/[^a-z]+/g, '-')}`;
  return (
    <section class="tile" aria-labelledby={id}>
      <h3 id={id}>{title}</h3>
      <p class="figure">{figure}</p>
      <p class="note">{children}</p>
    </section>
  );
}

function Rooms({ rooms, openTail }: Pick<OverviewProps, 'openTail'> & { readonly rooms: Stats['rooms'] }) {
  const [order, setOrder] = useState<'listeners' | 'events'>('events');
  const { byListeners, byEvents } = rooms;
  const { top } = order === 'listeners' ? byListeners : byEvents;
  const others = order === 'listeners' ? byListeners.others : byEvents.others;
  const hasTenants = top.some(({ tenantId }) => tenantId !== null);
  const span = duration(byEvents.seconds + 0.5);
  const header = (name: 'listeners' | 'events', label: string) => (
    <th scope="col" class="number" aria-sort={order === name ? 'descending' : 'none'}>
      <button type="button" class="sort" onClick={() => setOrder(name)}>
        {label}
        <span aria-hidden="true">{order === name ? ' ▾' : ''}</span>
      </button>
    </th>
  );
  return (
    <section class="card" aria-labelledby="rooms">
      <h3 id="rooms">Rooms</h3>
      {top.length === 0 ? (
        <p class="empty">
          {order === 'listeners' ? 'No listeners on this node.' : `No events in the last ${span}.`}{' '}
          <button type="button" class="link" onClick={() => setOrder(order === 'listeners' ? 'events' : 'listeners')}>
            {order === 'listeners' ? 'Show rooms with traffic' : 'Show rooms with listeners'}
          </button>
        </p>
      ) : (
        <Scroll label="Rooms">
          <table>
            <thead>
              <tr>
                <th scope="col">Room</th>
                {hasTenants && <th scope="col">Tenant</th>}
                {header('listeners', 'Listeners')}
                {header('events', `Events, last ${span}`)}
              </tr>
            </thead>
            <tbody>
              {top.map((room) => (
                <RoomRow
                  key={`${room.tenantId}\n${room.room}`}
                  figures={room}
                  hasTenants={hasTenants}
                  openTail={openTail}
                />
              ))}
            </tbody>
          </table>
        </Scroll>
      )}
      {others.rooms > 0 && (
        <p class="note">
          and {count(others.rooms)} more rooms with{' '}
          {'listeners' in others ? `${count(others.listeners)} listeners` : `${count(others.events)} events`}
        </p>
      )}
    </section>
  );
}

interface RoomRowProps {
  readonly figures: RoomFigures;
  readonly hasTenants: boolean;
  readonly openTail: (room: Room) => void;
}

function RoomRow({ figures: { room, tenantId, listeners, events }, hasTenants, openTail }: RoomRowProps) {
  return (
    <tr>
      <th scope="row" class="name">
        <button type="button" class="link" title={`Tail ${room}`} onClick={() => openTail(room as Room)}>
          <bdi>{room}</bdi>
        </button>
      </th>
      {hasTenants && (
        <td class="name">
          <bdi>{tenantId}</bdi>
        </td>
      )}
      <td class="number">{count(listeners)}</td>
      <td class="number">{count(events)}</td>
    </tr>
  );
}

function Log({ log }: { readonly log: Stats['log'] }) {
  const { engine, healthy, reached, records, oldest, newest } = log;
  return (
    <section class="card" aria-labelledby="log">
      <h3 id="log">Log</h3>
      <dl class="facts">
        <Fact name="Engine">{engine === 'redis' ? 'Redis' : 'SQLite'}</Fact>
        <Fact name="State">
          <State tone={healthy && reached ? 'good' : 'bad'}>
            {!reached ? 'does not answer' : healthy ? 'accepts events' : 'accepts no events'}
          </State>
        </Fact>
        <Fact name="Records">{records === null ? NOTHING : count(records)}</Fact>
        <Fact name={engine === 'redis' ? 'Redis memory' : 'File size'}>{bytes(log.bytes)}</Fact>
        <Fact name="Oldest">
          <Edge edge={oldest} />
        </Fact>
        <Fact name="Newest">
          <Edge edge={newest} />
        </Fact>
      </dl>
    </section>
  );
}

function Edge({ edge }: { readonly edge: Stats['log']['oldest'] }) {
  if (edge === null) return <>{NOTHING}</>;
  return (
    <>
      <time dateTime={edge.at} title={edge.at}>
        {duration((Date.now() - Date.parse(edge.at)) / 1000)} ago
      </time>{' '}
      <code>{edge.cursor}</code>
    </>
  );
}

function Redis({ redis: { reached, takesWrites, tailLag } }: { readonly redis: NonNullable<Stats['redis']> }) {
  return (
    <section class="card" aria-labelledby="redis">
      <h3 id="redis">Redis</h3>
      <dl class="facts">
        <Fact name="Connection">
          <State tone={reached ? 'good' : 'bad'}>{reached ? 'answers' : 'does not answer'}</State>
        </Fact>
        <Fact name="Writes">
          <State tone={takesWrites ? 'good' : 'bad'}>{takesWrites ? 'accepted' : 'refused'}</State>
        </Fact>
        <Fact name="Tail lag, last minute">
          {tailLag.count === 0
            ? 'no records'
            : `median ${milliseconds(tailLag.p50Seconds)}, 99th percentile ${milliseconds(tailLag.p99Seconds)}`}
        </Fact>
      </dl>
    </section>
  );
}

function Node({ stats: { node, replayed, resets } }: { readonly stats: Stats }) {
  return (
    <section class="card" aria-labelledby="node">
      <h3 id="node">This node</h3>
      <dl class="facts">
        {node.host !== null && (
          <Fact name="Host">
            <bdi>{node.host}</bdi>, process {node.pid}
          </Fact>
        )}
        <Fact name="Version">{node.version}</Fact>
        <Fact name="Uptime">
          {duration(node.uptimeSeconds)}
          {node.draining && <strong class="bad">, draining</strong>}
        </Fact>
        <Fact name="Event-loop lag">
          mean {milliseconds(node.eventLoopLag.meanSeconds)}, 99th percentile{' '}
          {milliseconds(node.eventLoopLag.p99Seconds)}
        </Fact>
        <Fact name="Memory">
          {bytes(node.memory.rssBytes)}, heap {bytes(node.memory.heapUsedBytes)}
        </Fact>
        <Fact name="Replayed records">{count(replayed)}</Fact>
        <Fact name="Resets sent">{count(resets)}</Fact>
      </dl>
    </section>
  );
}

function Nodes({ nodes, here }: { readonly nodes: NonNullable<Stats['nodes']>; readonly here: string }) {
  const inOrder = [...nodes].sort((a, b) => (`${a.host} ${a.pid}` < `${b.host} ${b.pid}` ? -1 : 1));
  return (
    <section class="card" aria-labelledby="nodes">
      <h3 id="nodes">Nodes that share this log</h3>
      <Scroll label="Nodes">
        <table>
          <thead>
            <tr>
              <th scope="col">Node</th>
              <th scope="col">Version</th>
              {TRANSPORTS.map((name) => (
                <th key={name} scope="col" class="number">
                  {TRANSPORT_LABELS[name]}
                </th>
              ))}
              <th scope="col" class="number">
                Uptime
              </th>
            </tr>
          </thead>
          <tbody>
            {inOrder.map(({ id, host, pid, version, connections, startedAt }) => (
              <tr key={id}>
                <th scope="row" class="name">
                  <bdi>{host}</bdi> {pid}
                  {id === here && ' (this node)'}
                </th>
                <td>{version}</td>
                {TRANSPORTS.map((name) => (
                  <td key={name} class="number">
                    {count(connections[name])}
                  </td>
                ))}
                <td class="number">{duration((Date.now() - Date.parse(startedAt)) / 1000)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </Scroll>
    </section>
  );
}
