/** The log and the nodes, each with a clear state. */
import type { NodeFacts, Stats } from '../../contract/stats.ts';
import { Card, type Column, DataTable, Fact, State, Time, type Tone } from './elements.tsx';
import { bytes, count, dateAndTime, duration, milliseconds, NOTHING } from './format.ts';
import type { Sample } from './history.ts';
import { sumOfTransports, type Verdict } from './overview-verdicts.ts';
import { hrefOf } from './route.ts';
import { overviewTexts } from './texts/overview.ts';

export function LogCard({ stats, verdict }: { readonly stats: Stats; readonly verdict: Verdict }) {
  const t = overviewTexts().log;
  const { engine, fault, records, bytes: size, oldest, newest } = stats.log;
  return (
    <Card title={t.title} actions={<a href={hrefOf('log')}>{t.look}</a>}>
      <p>
        <State tone={verdict.tone}>{verdict.says}</State>
      </p>
      {verdict.tone === 'bad' && (
        <p class="note">
          {verdict.remark} {fault !== null && <code>{fault}</code>}
        </p>
      )}
      <dl class="facts">
        <Fact name={t.engine}>{engine === 'redis' ? 'Redis' : 'SQLite'}</Fact>
        <Fact name={t.records}>{records === null ? NOTHING : count(records)}</Fact>
        <Fact name={engine === 'redis' ? t.memory : t.size}>{bytes(size)}</Fact>
        <Fact name={t.oldest}>{oldest === null ? NOTHING : <Time at={oldest.at} />}</Fact>
        <Fact name={t.newest}>{newest === null ? NOTHING : <Time at={newest.at} />}</Fact>
        {stats.redis !== null && stats.redis.tailLag.count > 0 && (
          <Fact name={t.tailLag}>
            {t.tail(milliseconds(stats.redis.tailLag.p50Seconds), milliseconds(stats.redis.tailLag.p99Seconds))}
          </Fact>
        )}
      </dl>
    </Card>
  );
}

/** A node that missed three announcements is gone for the others. */
const ANNOUNCED_MS = 16_000;

interface NodeRow extends Partial<NodeFacts> {
  readonly id: string;
  readonly tone: Tone;
  readonly state: string;
}

export function NodesCard({ stats, samples }: { readonly stats: Stats; readonly samples: readonly Sample[] }) {
  const t = overviewTexts().nodes;
  const { node, replayed, resets, silentNodes } = stats;
  const recent = samples.filter(({ atMs }) => atMs > Date.now() - 900_000);
  const maxLag = Math.max(0, ...recent.map(({ loopMaxSeconds }) => loopMaxSeconds ?? 0));
  const columns: Column<NodeRow>[] = [
    { title: t.node, value: (row) => <NodeName of={row} isHere={row.id === node.id} /> },
    { title: t.state, value: ({ tone, state }) => <State tone={tone}>{state}</State> },
    { title: t.version, value: ({ version }) => version },
    {
      title: t.connections,
      isNumber: true,
      value: ({ connections }) => (connections === undefined ? NOTHING : count(sumOfTransports(connections))),
    },
    {
      title: t.uptime,
      isNumber: true,
      value: ({ startedAt }) =>
        startedAt === undefined ? NOTHING : duration((Date.now() - Date.parse(startedAt)) / 1_000),
    },
  ];
  return (
    <Card title={t.title}>
      <DataTable label={t.title} columns={columns} rows={rowsOf(stats)} keyOf={({ id }) => id} />
      {silentNodes !== null && silentNodes.length > 0 && <p class="note">{t.silentNote}</p>}
      <dl class="facts">
        <Fact name={t.loop}>{t.loopNow(milliseconds(node.eventLoopLag.meanSeconds), milliseconds(maxLag))}</Fact>
        <Fact name={t.memory}>{t.memoryNow(bytes(node.memory.rssBytes), bytes(node.memory.heapUsedBytes))}</Fact>
        <Fact name={t.replayed}>{count(replayed)}</Fact>
        <Fact name={t.resets}>{count(resets)}</Fact>
      </dl>
    </Card>
  );
}

function NodeName({ of, isHere }: { readonly of: NodeRow; readonly isHere: boolean }) {
  const t = overviewTexts().nodes;
  return (
    <>
      <bdi>{of.host ?? of.id.slice(0, 8)}</bdi> {of.pid}
      {isHere && <span class="note"> {t.here}</span>}
    </>
  );
}

/** The node that answers, the others that announced themselves, and those that fell silent. */
function rowsOf({ node, connections, nodes, silentNodes }: Stats): NodeRow[] {
  const t = overviewTexts().nodes;
  const { id, host, pid, version, startedAt } = node;
  const names = host === null || pid === null ? {} : { host, pid };
  const here: NodeRow = { id, ...names, version, startedAt, connections, ...stateOf(node) };
  const others = (nodes ?? []).filter((other) => other.id !== id);
  // Its uptime is unknown: perhaps it runs, and cannot reach Redis.
  const silent = (silentNodes ?? []).map(({ startedAt, ...other }) => ({
    ...other,
    tone: 'bad' as const,
    state: t.silent(dateAndTime(Date.parse(other.silentSince))),
  }));
  return [here, ...silent, ...others.map((other) => ({ ...other, tone: 'good' as const, state: t.up }))];
}

function stateOf({ draining, announcedAt }: Stats['node']): Pick<NodeRow, 'tone' | 'state'> {
  const t = overviewTexts().nodes;
  if (draining) return { tone: 'warn', state: t.draining };
  if (announcedAt === null) return { tone: 'bad', state: t.neverAnnounced };
  const announcedAtMs = Date.parse(announcedAt);
  if (Date.now() - announcedAtMs > ANNOUNCED_MS) {
    return { tone: 'bad', state: t.unannounced(dateAndTime(announcedAtMs)) };
  }
  return { tone: 'good', state: t.up };
}
