/** protocol §12: metrics count exactly, in bounded memory, in both exposition formats. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import type { Room } from '../../src/contract/rooms.ts';
import { createPrometheus, type Prometheus, type PrometheusOptions } from '../../src/metrics/prometheus.ts';
import { erasureKey } from '../../src/store/store.ts';
import { messageNew, startBridge, ticketUpdated } from '../support/bridge.ts';

const OPENMETRICS = 'application/openmetrics-text; version=1.0.0';

function create(options: Partial<PrometheusOptions> = {}): Prometheus {
  return createPrometheus({
    roomLabel: 'room',
    maxRooms: 10_000,
    sampleStore: async () => ({ records: 7, oldestAcceptedAtMs: 1_717_243_200_000 }),
    ...options,
  });
}

/** The series of a family: label text → value. */
function seriesOf(text: string, name: string): Record<string, number> {
  const lines = text.split('\n').filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
  return Object.fromEntries(
    lines.map((line) => [line.slice(name.length, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ')))]),
  );
}

async function scrapeText(prometheus: Prometheus): Promise<string> {
  const { body, release } = await prometheus.scrape('text');
  release();
  return String(body);
}

async function emits(prometheus: Prometheus): Promise<Record<string, number>> {
  return seriesOf(await scrapeText(prometheus), 'ws_emit_total');
}

test('ws_emit_total counts each emitted name in each room', async () => {
  const prometheus = create();
  prometheus.metrics.emitted(['ticket.updated', 'tickets.updated'], ['tenant:t', 'ticket:1'], 't');
  prometheus.metrics.emitted(['tickets.updated'], ['tenant:t'], 't');
  assert.deepEqual(await emits(prometheus), {
    '{event="ticket.updated",room="tenant:t"}': 1,
    '{event="tickets.updated",room="tenant:t"}': 2,
    '{event="ticket.updated",room="ticket:1"}': 1,
    '{event="tickets.updated",room="ticket:1"}': 1,
  });
});

test('label values are escaped', async () => {
  const prometheus = create();
  prometheus.metrics.emitted(['tickets.updated'], ['tenant:a"b\\c{}=é'], 't');
  assert.deepEqual(await emits(prometheus), { '{event="tickets.updated",room="tenant:a\\"b\\\\c{}=é"}': 1 });
});

test('past the cap, further rooms of a kind count together and the sum stays exact', async () => {
  const prometheus = create({ maxRooms: 2 });
  for (const id of ['1', '2', '3', '4', '1', '3']) prometheus.metrics.emitted(['e'], [`ticket:${id}`, 'tenant:t'], 't');
  assert.deepEqual(await emits(prometheus), {
    '{event="e",room="ticket:1"}': 2,
    '{event="e",room="ticket:2"}': 1,
    '{event="e",room="ticket:*"}': 3,
    '{event="e",room="tenant:t"}': 6,
  });
});

test('rooms of what was erased count under {kind}:* and the sum stays exact', async () => {
  const prometheus = create({ maxRooms: 3 });
  const { emitted, erased } = prometheus.metrics;
  emitted(['a', 'b'], ['tenant:t', 'ticket:1', 'agreement:g'], 't');
  emitted(['b'], ['tenant:t', 'ticket:2', 'agreement:g'], 't');
  emitted(['b'], ['tenant:u', 'ticket:1', 'ticket:3', 'ticket:4'], 'u');
  erased(erasureKey({ tenantId: 'u', ticketId: '2' }));
  erased(erasureKey({ tenantId: 't', ticketId: 'nothing' }));
  assert.equal(Object.keys(await emits(prometheus)).length, 10);
  erased(erasureKey({ tenantId: 't', ticketId: '2' }));
  const before = {
    ...{ '{event="a",room="tenant:t"}': 1, '{event="b",room="tenant:t"}': 2, '{event="b",room="tenant:u"}': 1 },
    ...{ '{event="a",room="ticket:1"}': 1, '{event="b",room="ticket:1"}': 2, '{event="b",room="ticket:3"}': 1 },
    ...{ '{event="b",room="ticket:*"}': 2, '{event="a",room="agreement:g"}': 1, '{event="b",room="agreement:g"}': 2 },
  };
  assert.deepEqual(await emits(prometheus), before);
  erased(erasureKey({ tenantId: 't', ticketId: null }));
  assert.deepEqual(await emits(prometheus), {
    ...{ '{event="a",room="tenant:*"}': 1, '{event="b",room="tenant:*"}': 2, '{event="b",room="tenant:u"}': 1 },
    ...{ '{event="a",room="ticket:*"}': 1, '{event="b",room="ticket:*"}': 4, '{event="b",room="ticket:3"}': 1 },
    ...{ '{event="a",room="agreement:*"}': 1, '{event="b",room="agreement:*"}': 2 },
  });
  // The erased rooms no longer count toward the cap.
  emitted(['b'], ['ticket:5', 'ticket:6'], 'u');
  assert.partialDeepStrictEqual(await emits(prometheus), { '{event="b",room="ticket:6"}': 1 });
  erased(null);
  assert.deepEqual(
    Object.keys(await emits(prometheus)).filter((labels) => !labels.includes(':*')),
    [],
  );
});

test('METRICS_ROOM_LABEL=kind counts all rooms of a kind together', async () => {
  const prometheus = create({ roomLabel: 'kind' });
  prometheus.metrics.emitted(['e'], ['ticket:1', 'ticket:2', 'user:u'], 't');
  assert.deepEqual(await emits(prometheus), { '{event="e",room="ticket:*"}': 2, '{event="e",room="user:*"}': 1 });
});

test('tens of thousands of rooms each have a series', async () => {
  const prometheus = create();
  const rooms = Array.from({ length: 9_000 }, (_, index): Room => `ticket:${index}`);
  prometheus.metrics.emitted(['a', 'b'], rooms, 't');
  assert.equal(Object.keys(await emits(prometheus)).length, 18_000);
});

const ofTransports = (rest: string): Record<string, number> =>
  Object.fromEntries(['websocket', 'polling', 'sse', 'longpoll'].map((name) => [`{transport="${name}"${rest}`, 0]));

test('each other metric of the protocol has its series', async () => {
  const prometheus = create();
  const { metrics } = prometheus;
  metrics.published('tickets.updated', 'accepted', 2);
  metrics.published(null, 'rejected', 1);
  metrics.connected('sse', 1);
  metrics.connected('sse', 1);
  metrics.connected('sse', -1);
  metrics.delivered('sse', 'tickets.updated', 5);
  metrics.deliveryLag('sse', 0.003);
  metrics.publishDuration(0.2);
  metrics.replayed('polling', 9);
  metrics.reset('websocket', 'expired');
  metrics.slowConsumer('longpoll');
  metrics.refused('forbidden');
  // Scraped twice: a scrape does not count anything again.
  await scrapeText(prometheus);
  const text = await scrapeText(prometheus);
  const expected: [string, Record<string, number>][] = [
    [
      'roomcast_publishes_total',
      { '{event="tickets.updated",result="accepted"}': 2, '{event="unknown",result="rejected"}': 1 },
    ],
    [
      'roomcast_connections',
      { '{transport="websocket"}': 0, '{transport="polling"}': 0, '{transport="sse"}': 1, '{transport="longpoll"}': 0 },
    ],
    ['roomcast_deliveries_total', { '{transport="sse",event="tickets.updated"}': 5 }],
    ['roomcast_delivery_lag_seconds_count', { '{transport="sse"}': 1 }],
    ['roomcast_publish_duration_seconds_sum', { '': 0.2 }],
    // Present from the start at 0, so that the first increment is visible.
    ['roomcast_replayed_total', { ...ofTransports('}'), '{transport="polling"}': 9 }],
    [
      'roomcast_resets_total',
      {
        ...ofTransports(',reason="expired"}'),
        ...ofTransports(',reason="unknown"}'),
        '{transport="websocket",reason="expired"}': 1,
      },
    ],
    ['roomcast_slow_consumers_total', { ...ofTransports('}'), '{transport="http"}': 0, '{transport="longpoll"}': 1 }],
    ['roomcast_refused_total', { '{code="forbidden"}': 1 }],
    ['roomcast_log_records', { '': 7 }],
    ['roomcast_log_oldest_timestamp_seconds', { '': 1_717_243_200 }],
  ];
  for (const [name, series] of expected) assert.deepEqual(seriesOf(text, name), series, name);
  assert.ok(text.includes('\nprocess_cpu_seconds_total '));
});

test('a log that does not answer has no series; the rest is scraped', async () => {
  let fails = false;
  const prometheus = create({
    sampleStore: async () => {
      if (fails) throw new Error('the log hangs');
      return { records: 1, oldestAcceptedAtMs: null };
    },
  });
  assert.deepEqual(seriesOf(await scrapeText(prometheus), 'roomcast_log_records'), { '': 1 });
  assert.deepEqual(seriesOf(await scrapeText(prometheus), 'roomcast_log_oldest_timestamp_seconds'), {});
  fails = true;
  assert.deepEqual(seriesOf(await scrapeText(prometheus), 'roomcast_log_records'), {});
});

test('concurrent scrapes share one page; the next scrape gets a new one', async () => {
  let samples = 0;
  const prometheus = create({
    sampleStore: async () => {
      samples++;
      return { records: 1, oldestAcceptedAtMs: null };
    },
  });
  const pages = await Promise.all([prometheus.scrape('text'), prometheus.scrape('text')]);
  pages[0]?.release();
  // Somebody still reads the page.
  pages.push(await prometheus.scrape('text'));
  assert.equal(samples, 1);
  assert.equal(new Set(pages.map(({ body }) => body)).size, 1, 'the bytes are the same, not alike');
  for (const { release } of pages.slice(1)) release();
  prometheus.metrics.refused('forbidden');
  assert.deepEqual(seriesOf(await scrapeText(prometheus), 'roomcast_refused_total'), { '{code="forbidden"}': 1 });
  assert.equal(samples, 2);
});

test('OpenMetrics on request; the other format is unchanged after it', async () => {
  const prometheus = create();
  prometheus.metrics.emitted(['e'], ['tenant:t'], 't');
  prometheus.metrics.refused('forbidden');
  const names = (text: string) => [...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name);
  const before = names(await scrapeText(prometheus));
  const { contentType, body: bytes } = await prometheus.scrape('openmetrics');
  const body = String(bytes);
  assert.match(contentType, /^application\/openmetrics-text; version=1\.0\.0; charset=utf-8$/);
  assert.ok(body.endsWith('\n# EOF\n'));
  assert.ok(!body.includes('\n\n'), 'no empty lines');
  assert.match(body, /^# HELP ws_emit [^\n]+\n# TYPE ws_emit counter\nws_emit_total\{event="e",room="tenant:t"\} 1\n/);
  assert.match(body, /# HELP roomcast_refused [^\n]+\n# TYPE roomcast_refused counter\nroomcast_refused_total\{/);
  assert.deepEqual(names(await scrapeText(prometheus)), before);
  assert.ok(before.includes('ws_emit_total') && before.includes('roomcast_refused_total'));
});

test('promtool reports no problem', async (context) => {
  const prometheus = create();
  prometheus.metrics.emitted(['e'], ['tenant:"'], 't');
  prometheus.metrics.published('e', 'accepted', 1);
  prometheus.metrics.deliveryLag('sse', 0.1);
  const input = await scrapeText(prometheus);
  const checked = spawnSync('promtool', ['check', 'metrics'], { input, encoding: 'utf8' });
  if (checked.error !== undefined) return context.skip('promtool is not installed');
  assert.equal(checked.stdout + checked.stderr, '');
  assert.equal(checked.status, 0);
});

test('a bridge counts each accepted publish once, by name and room; duplicates and errors not', async () => {
  const bridge = await startBridge();
  const other = await startBridge({ legacyEvents: false });
  try {
    const message = messageNew({ agreementId: null });
    await bridge.post({ event: 'messages.new', payload: message });
    await bridge.post({ event: 'messages.new', payload: message });
    await bridge.post({ event: 'messages.gone', payload: message });
    await bridge.post({ events: [{ event: 'tickets.updated', payload: ticketUpdated({ agreementId: 'a' }) }] });
    await other.post({ event: 'tickets.updated', payload: ticketUpdated({ agreementId: '' }) });

    const text = await (await fetch(`${bridge.url}/metrics`)).text();
    const expected: Record<string, number> = {};
    for (const event of ['ticket.message', 'ticket.message.created', 'message:created', 'messages.new']) {
      for (const room of ['tenant:tenant-1', 'ticket:ticket-123']) expected[`{event="${event}",room="${room}"}`] = 1;
    }
    for (const event of ['ticket.updated', 'tickets.updated']) {
      for (const room of ['tenant:tenant-1', 'ticket:ticket-123', 'agreement:a']) {
        expected[`{event="${event}",room="${room}"}`] = 1;
      }
    }
    assert.deepEqual(seriesOf(text, 'ws_emit_total'), expected);
    assert.deepEqual(seriesOf(text, 'roomcast_publishes_total'), {
      '{event="messages.new",result="accepted"}': 1,
      '{event="messages.new",result="duplicate"}': 1,
      '{event="tickets.updated",result="accepted"}': 1,
      '{event="unknown",result="rejected"}': 1,
    });
    assert.deepEqual(seriesOf(text, 'roomcast_refused_total'), { '{code="unknown_event"}': 1 });
    assert.deepEqual(seriesOf(text, 'roomcast_log_records'), { '': 2 });

    const asked = await fetch(`${other.url}/metrics`, { headers: { accept: OPENMETRICS } });
    assert.match(asked.headers.get('content-type') ?? '', /^application\/openmetrics-text/);
    assert.match(asked.headers.get('vary') ?? '', /Accept/);
    assert.deepEqual(seriesOf(await asked.text(), 'ws_emit_total'), {
      '{event="tickets.updated",room="tenant:tenant-1"}': 1,
      '{event="tickets.updated",room="ticket:ticket-123"}': 1,
    });
  } finally {
    await Promise.all([bridge.close(), other.close()]);
  }
});
