/** What the bench makes of its measurements: commit times from the bridge's histogram, ratios over runs, verdicts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createPrometheus } from '../../src/metrics/prometheus.ts';
import { type Commits, commitsBetween, parseCommits } from './commits.ts';
import { atLeast, type Figures, resultsOf, type Scenario } from './figures.ts';
import { sectionOf } from './report.ts';

test("commit times are those between two readings of the bridge's own metrics", async () => {
  const sampleStore = async () => ({ records: 0, oldestAcceptedAtMs: null });
  const prometheus = createPrometheus({ roomLabel: 'room', maxRooms: 10, sampleStore });
  async function read(): Promise<Commits> {
    const { body, release } = await prometheus.scrape('text');
    release();
    return parseCommits(String(body));
  }
  // Before the run: what must not count.
  for (let one = 0; one < 50; one++) prometheus.metrics.publishDuration(0.2);
  const before = await read();
  // 98 in (1 ms, 2.5 ms], then 2 in (5 ms, 10 ms]: the 99th of 100 is the first of these two, half of their bucket.
  for (let one = 0; one < 98; one++) prometheus.metrics.publishDuration(0.002);
  for (let one = 0; one < 2; one++) prometheus.metrics.publishDuration(0.008);
  const { commitMs, commitP99Ms } = commitsBetween(before, await read());
  assert.equal(Number(commitMs.toFixed(3)), 2.12);
  assert.equal(Number(commitP99Ms.toFixed(3)), 7.5);

  // A few slow ones pull the mean beyond the bucket of the median.
  for (let one = 0; one < 10; one++) prometheus.metrics.publishDuration(1);
  assert.equal(commitsBetween(before, await read()).commitMs, 2.5);
});

test('ratios are taken within a run, of the runs that both made', () => {
  const rates = (...all: (number | null)[]): (Figures | null)[] =>
    all.map((perSecond) => (perSecond === null ? null : { perSecond }));
  const results = resultsOf(
    new Map([
      [
        'case',
        new Map([
          ['ours', rates(10, 40, 90)],
          ['peer', rates(10, 20, 30)],
          ['failed once', rates(10, null, 10)],
          ['one run', rates(5)],
        ]),
      ],
    ]),
  );
  assert.equal(results.median('case', 'ours', 'perSecond'), 40);
  assert.equal(results.ratio('case', 'ours', 'peer', 'perSecond'), 2);
  assert.equal(results.ratio('case', 'ours', 'failed once', 'perSecond'), 5);
  assert.equal(results.ratio('case', 'ours', 'one run', 'perSecond'), 2);
  assert.equal(results.ratio('case', 'ours', 'the tree before', 'perSecond'), null);
});

test('a target is held, missed, or not measured, and a table says who made one run only', () => {
  const entrant = { missing: () => null, measure: async () => ({}), isBridge: false };
  const scenario: Scenario = {
    ...{ name: 'x', title: 'X', runs: 2, isCompared: false },
    cases: [
      {
        name: 'case',
        columns: [{ key: 'perSecond', heading: 'events/s', compared: true }],
        entrants: [
          { ...entrant, name: 'ours' },
          { ...entrant, name: 'peer', once: true },
        ],
      },
    ],
    targets: ({ ratio }) => [
      atLeast('held', ratio('case', 'ours', 'peer', 'perSecond'), 2),
      atLeast('missed', ratio('case', 'ours', 'peer', 'perSecond'), 2.1),
      atLeast('absent', ratio('case', 'ours', 'nobody', 'perSecond'), 1),
    ],
  };
  const cases = new Map([
    [
      'case',
      new Map([
        ['ours', [{ perSecond: 20 }, { perSecond: 30 }]],
        ['peer', [{ perSecond: 10 }]],
      ]),
    ],
  ]);
  const results = resultsOf(cases);
  const targets = scenario.targets(results);
  const section = sectionOf({ scenario, runs: 2, cases, results, targets, skipped: new Map() });
  assert.match(section, /^\| ours +\| +25 \| +\|$/m);
  assert.match(section, /^\| peer, one run +\| +10 \| +2\.00 \|$/m);
  assert.match(section, /^\| held +\| +≥ 2 × \| 2\.00 \| +yes \|$/m);
  assert.match(section, /^\| missed +\| +≥ 2\.1 × \| 2\.00 \| +\*\*no\*\* \|$/m);
  assert.match(section, /^\| absent +\| +≥ 1 × \| +— \| not measured \|$/m);
});
