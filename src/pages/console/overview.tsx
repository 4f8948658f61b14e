/**
 * The Overview: what matters first (does the log take writes, are deliveries up to date, who is connected, are refusals
 * rising), then the last minutes as charts, then the rooms, the refusals, the log and the nodes.
 */
import type { ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { TRANSPORTS, type TransportName } from '../../contract/names.ts';
import type { OperatorPage, RefusalItem } from '../../contract/operating.ts';
import type { Stats } from '../../contract/stats.ts';
import { language } from '../language.ts';
import type { Access } from './access.ts';
import { Chart, type Series } from './chart.tsx';
import { Badge, Button, Card, DataTable, EmptyState, Notice, Scroll, State, Time } from './elements.tsx';
import { count, dateAndTime, milliseconds, rate, TRANSPORT_LABELS } from './format.ts';
import { createHistoryFeed, type HistoryFeed, type Sample } from './history.ts';
import { useModels } from './model.ts';
import { LogCard, NodesCard } from './overview-nodes.tsx';
import { Rooms } from './overview-rooms.tsx';
import {
  connectedVerdict,
  deliveryVerdict,
  logVerdict,
  outages,
  refusalVerdict,
  type Verdict,
} from './overview-verdicts.ts';
import { hrefOf, replaceParameters, route } from './route.ts';
import type { StatsFeed } from './stats.ts';
import { overviewTexts } from './texts/overview.ts';
import type { ThemeChoice } from './theme.ts';

interface OverviewProps {
  readonly access: Access;
  readonly feed: StatsFeed;
  readonly theme: ThemeChoice;
}

/** Minutes that the charts show. */
const RANGES = [5, 15, 60] as const;
type Range = (typeof RANGES)[number];

export function Overview({ access, feed, theme }: OverviewProps) {
  useModels(feed, language, route);
  const [hour] = useState(() => createHistoryFeed(access, 10));
  useEffect(() => hour.follow(), [hour]);
  useModels(hour);
  const { stats, state } = feed;
  const failedAtMs = useRef<number | null>(null);
  if (stats === null) return <NoStats state={state} />;
  if (stats.log.healthy && stats.log.reached) failedAtMs.current = null;
  else failedAtMs.current ??= Date.parse(stats.at);
  const { samples } = hour;
  const log = logVerdict(stats, samples, failedAtMs.current);
  return (
    <>
      <Verdicts stats={stats} samples={samples} log={log} />
      <Charts access={access} hour={hour} stats={stats} theme={theme} />
      <div class="columns even details">
        <Rooms access={access} rooms={stats.rooms} />
        <div class="stack">
          <Refusals access={access} />
          <LogCard stats={stats} verdict={log} />
          <NodesCard stats={stats} samples={samples} />
        </div>
      </div>
    </>
  );
}

function NoStats({ state }: { readonly state: StatsFeed['state'] }) {
  const t = overviewTexts();
  if (state === 'loading') return <EmptyState title={t.loading} />;
  if (state === 'unreachable') return <EmptyState title={t.away}>{t.awayNext}</EmptyState>;
  return <EmptyState title={t.refused}>{t.refusedNext}</EmptyState>;
}

interface VerdictsProps {
  readonly stats: Stats;
  readonly samples: readonly Sample[];
  readonly log: Verdict;
}

function Verdicts({ stats, samples, log }: VerdictsProps) {
  const t = overviewTexts();
  const { connections } = stats;
  const refusals = refusalVerdict(samples);
  return (
    <section aria-label={t.state} class="verdicts">
      <VerdictCard title={t.log.title} verdict={log} />
      <VerdictCard title={t.fanout.title} verdict={deliveryVerdict(stats, samples)} />
      <VerdictCard title={t.connected.title} verdict={connectedVerdict(stats, samples)}>
        <dl class="shares">
          {TRANSPORTS.filter((name) => connections[name] > 0).map((name) => (
            <div key={name}>
              <dt>{TRANSPORT_LABELS[name]}</dt>
              <dd>{count(connections[name])}</dd>
            </div>
          ))}
        </dl>
      </VerdictCard>
      <VerdictCard title={t.refusals.title} verdict={refusals}>
        {refusals.tone !== 'good' && <a href={hrefOf('find')}>{t.refusals.find}</a>}
      </VerdictCard>
    </section>
  );
}

interface VerdictCardProps {
  readonly title: string;
  readonly verdict: Verdict;
  readonly children?: ComponentChildren;
}

function VerdictCard({ title, verdict: { tone, says, remark }, children }: VerdictCardProps) {
  return (
    <Card title={title} class="verdict-card">
      <p class="says">
        <State tone={tone}>{says}</State>
      </p>
      <p class="note">{remark}</p>
      {children}
    </Card>
  );
}

interface ChartsProps {
  readonly access: Access;
  readonly hour: HistoryFeed;
  readonly stats: Stats;
  readonly theme: ThemeChoice;
}

function Charts({ access, hour, stats, theme }: ChartsProps) {
  const texts = overviewTexts();
  const t = texts.charts;
  const range: Range = RANGES.find((minutes) => String(minutes) === route.current.parameters.range) ?? 15;
  const [minutes] = useState(() => createHistoryFeed(access, 1));
  useEffect(() => (range === 5 ? minutes.follow() : undefined), [minutes, range]);
  useModels(minutes);
  const [quantile, setQuantile] = useState<'p99' | 'p50'>('p99');
  const { samples, node } = range === 5 ? minutes : hour;
  const spanMs = range * 60_000;
  const instants = samples.map(({ atMs }) => atMs);
  const marks = outages(samples);
  const isShort = node !== null && Date.parse(node.startedAt) > Date.now() - spanMs;
  const host = stats.nodes !== null && stats.nodes.length > 1 ? nameOf(stats, node?.id) : null;
  const shared = { instants, spanMs, marks, theme };
  const series = (label: string, color: string, value: (sample: Sample) => number | null): Series => ({
    label,
    color,
    values: samples.map(value),
  });
  return (
    <section class="history" aria-labelledby="history">
      <div class="bar">
        <h3 id="history">{host === null ? t.title : t.titleOf(host)}</h3>
        {/* biome-ignore lint/a11y/useSemanticElements: a fieldset is no flex item in every browser */}
        <div class="ranges" role="group" aria-label={texts.range}>
          {RANGES.map((minutes) => (
            <Button
              key={minutes}
              isPressed={minutes === range}
              onClick={() => replaceParameters({ ...route.current.parameters, range: String(minutes) })}
            >
              {texts.minutes(minutes)}
            </Button>
          ))}
        </div>
      </div>
      <p class="note">
        {isShort && node !== null && t.began(dateAndTime(Date.parse(node.startedAt)))} {marks.length > 0 && t.marked}
      </p>
      <div class="charts">
        <Chart
          {...shared}
          title={t.accepted}
          note={t.acceptedNote}
          series={[series(t.accepted, '--series-1', ({ accepted }) => accepted)]}
          format={rate}
          empty={t.waiting}
        />
        <Chart
          {...shared}
          title={t.delivered}
          note={t.deliveredNote}
          series={byTransport(samples, ({ delivered }) => delivered)}
          format={rate}
          empty={samples.length === 0 ? t.waiting : t.noDeliveries}
        />
        <Chart
          {...shared}
          title={t.lag}
          note={
            <>
              {quantile === 'p99' ? t.lagP99 : t.lagP50}{' '}
              <button type="button" class="link" onClick={() => setQuantile(quantile === 'p99' ? 'p50' : 'p99')}>
                {quantile === 'p99' ? t.showP50 : t.showP99}
              </button>
            </>
          }
          series={byTransport(samples, (sample) => sample[quantile])}
          format={milliseconds}
          empty={samples.length === 0 ? t.waiting : t.noLag}
        />
        <Chart
          {...shared}
          title={t.connections}
          series={byTransport(samples, ({ connections }) => connections)}
          format={whole}
          isCount
          empty={samples.length === 0 ? t.waiting : t.noConnections}
        />
        <Chart
          {...shared}
          title={t.trouble}
          note={t.perPoint(range === 5 ? 1 : 10)}
          series={[
            series(t.refused, '--series-2', ({ refused }) => refused),
            series(t.slowConsumers, '--series-4', ({ slowConsumers }) => slowConsumers),
            series(t.resets, '--series-1', ({ resets }) => resets),
          ]}
          format={whole}
          isCount
          empty={t.waiting}
        />
        <Chart
          {...shared}
          title={t.loop}
          note={t.loopNote}
          series={[series(t.longestTurn, '--series-1', ({ loopMaxSeconds }) => loopMaxSeconds)]}
          format={milliseconds}
          empty={t.waiting}
        />
      </div>
    </section>
  );
}

const whole = (value: number | null): string => (value === null ? '–' : count(value));

/** Only the transports that were used, so that a quiet chart stays quiet; each always has its own colour. */
function byTransport(
  samples: readonly Sample[],
  of: (sample: Sample) => Readonly<Record<TransportName, number | null>>,
): Series[] {
  return TRANSPORTS.map((name, index) => ({
    label: TRANSPORT_LABELS[name],
    color: `--series-${index + 1}`,
    values: samples.map((sample) => of(sample)[name]),
  })).filter(({ values }) => values.some((value) => value !== null && value > 0));
}

function nameOf({ nodes }: Stats, id: string | undefined): string | null {
  const node = nodes?.find((other) => other.id === id);
  return node === undefined ? null : `${node.host} ${node.pid}`;
}

const REFUSALS_MS = 5_000;
const MAX_REFUSALS = 100;
const MAX_GROUPS = 6;

function Refusals({ access }: { readonly access: Access }) {
  const t = overviewTexts().refusals;
  const [page, setPage] = useState<OperatorPage<RefusalItem> | null>(null);
  const [fault, setFault] = useState<string | null>(null);
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let isOver = false;
    async function ask(): Promise<void> {
      try {
        const next = await access.request<OperatorPage<RefusalItem>>('refusals', { query: { limit: MAX_REFUSALS } });
        if (isOver) return;
        setPage(next);
        setFault(null);
      } catch (error) {
        if (isOver) return;
        // While the server is away, the frame says so.
        const { status, message } = error as { readonly status: number | null; readonly message: string };
        setFault(status === 403 ? message : null);
      }
      timer = setTimeout(() => void ask(), REFUSALS_MS);
    }
    void ask();
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [access]);
  return (
    <Card title={t.newest} note={t.newestNote} class="refusals">
      {fault !== null && <Notice tone="warn">{fault}</Notice>}
      {page !== null && page.items.length === 0 && <EmptyState title={t.empty}>{t.emptyNote}</EmptyState>}
      {page !== null && page.items.length > 0 && (
        <Scroll label={t.newest}>
          <DataTable
            label={t.newest}
            columns={[
              { title: t.who, value: ({ item }) => <Who of={item} /> },
              { title: t.what, value: ({ item }) => <bdi>{item.what}</bdi> },
              {
                title: t.why,
                value: ({ item, times }) => (
                  <span title={item.message}>
                    <Badge tone="warn">{item.code}</Badge> {times > 1 && `× ${count(times)}`}
                  </span>
                ),
              },
              { title: t.when, value: ({ item }) => <Time at={item.at} /> },
            ]}
            rows={groupsOf(page.items)}
            keyOf={({ key }) => key}
          />
        </Scroll>
      )}
    </Card>
  );
}

/** The same refusals of the same person are one row, with the newest of them. */
function groupsOf(items: readonly RefusalItem[]) {
  const groups = Map.groupBy(items, ({ sub, address, what, code }) => JSON.stringify([sub ?? address, what, code]));
  return [...groups]
    .slice(0, MAX_GROUPS)
    .map(([key, same]) => ({ key, item: same[0] as RefusalItem, times: same.length }));
}

function Who({ of: { sub, address } }: { readonly of: RefusalItem }) {
  return (
    <a href={hrefOf('find', { q: sub === null ? address : `user:${sub}` })}>
      <bdi>{sub ?? address}</bdi>
    </a>
  );
}
