/**
 * `npm run bench -- [--quick] [--only a[,b]] [--runs N] [--json FILE] [--page FILE] [--dir DIR] [--profile DIR]
 * [--against DIR] [--centrifugo PROGRAM] [--durable-streams PROGRAM] [--list]`: this bridge beside its peers, each target a
 * ratio within one run.
 *
 * Entrants are measured in turn, so that what the machine does meanwhile hits all alike; figures are medians. Writes
 * docs/performance.md, unless `--quick`. `--dir` is where the log goes, `--profile` where the bridge's CPU profiles go.
 * `--against` is another tree of this bridge, which takes part in the scenarios that `--only` names, else in a, c and e.
 * The programs are looked up on PATH unless a path is given.
 */
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { before, type CaseResult, type Entrant, type Figures, resultsOf, type Scenario } from './figures.ts';
import { describeMachine, isMemoryBacked, openFilesLimit } from './machine.ts';
import { cores, makeDirectory } from './processes.ts';
import { summary } from './profile.ts';
import { type ScenarioReport, sectionOf, writeJson, writePage } from './report.ts';
import { catchUp } from './scenarios/catch-up.ts';
import { socketIoFanOut, sseFanOut } from './scenarios/fan-out.ts';
import { idle } from './scenarios/idle.ts';
import { latency } from './scenarios/latency.ts';
import type { Size } from './scenarios/measures.ts';
import { operators } from './scenarios/operating.ts';
import { publish } from './scenarios/publish.ts';
import { redis } from './scenarios/redis.ts';
import { rooms } from './scenarios/rooms.ts';
import { signals } from './scenarios/signals.ts';
import { withStage } from './stage.ts';

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    only: { type: 'string' },
    runs: { type: 'string' },
    json: { type: 'string' },
    page: { type: 'string' },
    profile: { type: 'string' },
    against: { type: 'string' },
    centrifugo: { type: 'string', default: 'centrifugo' },
    'durable-streams': { type: 'string', default: 'durable-streams-server' },
    dir: { type: 'string' },
    list: { type: 'boolean', default: false },
  },
});

/** By the letters of docs/performance.md. */
const SCENARIOS = {
  a: sseFanOut,
  b: socketIoFanOut,
  c: latency,
  d: idle,
  e: publish,
  f: rooms,
  g: catchUp,
  h: redis,
  i: signals,
  j: operators,
} as const;
/** Besides its connections a process has its log, its threads and its libraries open. */
const FILES_BESIDES = 500;
const BRIDGE = 'src/main.ts';

const runs = values.runs === undefined ? null : Number(values.runs);
if (runs !== null && (!Number.isSafeInteger(runs) || runs < 1)) refuse('--runs takes a whole number above 0');
const notes = new Set<string>();
const most = openFilesLimit() - FILES_BESIDES;
const size: Size = {
  quick: values.quick,
  connections(wanted) {
    if (wanted > most) note(`OPEN FILES: ${wanted} connections do not fit the limit (ulimit -n), so there are ${most}`);
    return Math.min(wanted, most);
  },
};
const root = fileURLToPath(new URL('../..', import.meta.url));
const bridge = join(root, BRIDGE);
const profileTo = values.profile === undefined ? null : resolve(values.profile);
const other = values.against === undefined ? null : resolve(values.against, BRIDGE);
const pathOf = (program: string): string => (program.includes('/') ? resolve(program) : program);
const programs = {
  centrifugo: pathOf(values.centrifugo),
  durableStreams: pathOf(values['durable-streams']),
};
const only = values.only?.split(',') ?? Object.keys(SCENARIOS);
const unknown = only.find((name) => !Object.hasOwn(SCENARIOS, name));
if (unknown !== undefined) refuse(`no scenario is called ${unknown}; there are ${Object.keys(SCENARIOS).join(', ')}`);
const chosen = only.map((name) => withOther(SCENARIOS[name as keyof typeof SCENARIOS](size)));
if (values.list) {
  for (const { name, title } of chosen) console.log(`${name}  ${title}`);
  process.exit(0);
}

const directory = makeDirectory(values.dir ?? tmpdir());
const setting = {
  command: commandOf(),
  date: new Date().toISOString().slice(0, 10),
  machine: describeMachine(),
  cores,
};
console.log(setting.machine);
if (cores === null) note('NOT PINNED: there is no taskset, or one core only; server and load disturb each other');
if (isMemoryBacked(directory)) note(`NO DISK: ${directory} is in memory, so that a sync costs nothing; see --dir`);

const runsOf = (scenario: Scenario): number => runs ?? (values.quick ? 1 : scenario.runs);
const total = chosen
  .flatMap((scenario) =>
    scenario.cases.flatMap(({ entrants }) => entrants.map((one) => (one.once ? 1 : runsOf(scenario)))),
  )
  .reduce((sum, count) => sum + count, 0);
const startedAt = performance.now();
let done = 0;
let failures = 0;
const reports: ScenarioReport[] = [];
for (const scenario of chosen) {
  const report = await play(scenario);
  reports.push(report);
  console.log(`\n${scenario.name}. ${scenario.title}\n\n${sectionOf(report)}\n`);
  // Written as it goes: a long bench that is ended early leaves what it has.
  if (values.page !== undefined || !values.quick) {
    writePage(values.page ?? join(root, 'docs/performance.md'), [report], setting);
  }
  if (values.json !== undefined) writeJson(values.json, reports, setting);
}
if (profileTo !== null) console.log(`${summary(profileTo)}\n`);
for (const text of notes) console.log(text);
const missed = reports.flatMap(({ targets }) => targets).filter(({ holds }) => holds === false).length;
const minutes = ((performance.now() - startedAt) / 60_000).toFixed(1);
console.log(`${done} measurements in ${minutes} min, ${failures} failed; ${missed} targets missed`);
process.exit(failures > 0 ? 1 : 0);

async function play(scenario: Scenario): Promise<ScenarioReport> {
  const cases = new Map<string, CaseResult>();
  const skipped = new Map<string, string>();
  for (const { name, entrants } of scenario.cases) {
    const result = new Map<string, (Figures | null)[]>(entrants.map((one) => [one.name, []]));
    for (let run = 1; run <= runsOf(scenario); run++) {
      for (const one of entrants.filter(({ once }) => run === 1 || !once)) {
        done++;
        const missing = one.missing(programs);
        if (missing !== null) {
          if (!skipped.has(one.name)) note(`SKIPPED ${one.name}: ${missing}`);
          skipped.set(one.name, missing);
          continue;
        }
        const what = `[${done}/${total}] ${scenario.name}, ${name}, run ${run}: ${one.name}`;
        result.get(one.name)?.push(await measure(one, what));
      }
    }
    cases.set(name, result);
  }
  const results = resultsOf(cases);
  return { scenario, runs: runsOf(scenario), cases, results, targets: scenario.targets(results), skipped };
}

/** The other tree's bridge takes part beside ours. */
function withOther(scenario: Scenario): Scenario {
  if (other === null || (values.only === undefined && !scenario.isCompared)) return scenario;
  const beside = (one: Entrant): Entrant[] => {
    if (!one.isBridge) return [one];
    const measure: Entrant['measure'] = (stage) =>
      withStage({ ...stage.options, bridge: other, profileTo: null }, one.measure);
    return [one, { ...one, name: before(one.name), measure }];
  };
  return {
    ...scenario,
    cases: scenario.cases.map((one) => ({ ...one, entrants: one.entrants.flatMap(beside) })),
  };
}

async function measure(one: Entrant, what: string): Promise<Figures | null> {
  const isTerminal = process.stdout.isTTY;
  const say = (text: string): void => {
    if (isTerminal) process.stdout.write(`\r\x1b[K${what}: ${text}`);
  };
  say('…');
  const from = performance.now();
  let tells: string;
  let figures: Figures | null = null;
  try {
    figures = await withStage({ directory, bridge, profileTo, programs, say }, one.measure);
    tells = Object.entries(figures)
      .map(([key, value]) => `${key} ${Number(value.toPrecision(4))}`)
      .join(', ');
  } catch (error) {
    failures++;
    tells = `FAILED, ${error instanceof Error ? error.message : String(error)}`;
  }
  console.log(`${isTerminal ? '\r\x1b[K' : ''}${what}: ${tells} (${((performance.now() - from) / 1000).toFixed(1)} s)`);
  return figures;
}

/** Said when it is found, and again at the end, where it is seen. */
function note(text: string): void {
  if (!notes.has(text)) console.log(`!! ${text}`);
  notes.add(text);
}

/** What decides the figures; files and directories do not. */
function commandOf(): string {
  const options = [
    ...(values.quick ? ['--quick'] : []),
    ...(values.only === undefined ? [] : [`--only ${values.only}`]),
    ...(values.runs === undefined ? [] : [`--runs ${values.runs}`]),
    ...(other === null ? [] : ['--against DIR']),
  ];
  return ['npm run bench', ...(options.length > 0 ? ['--', ...options] : [])].join(' ');
}

function refuse(text: string): never {
  console.error(text);
  process.exit(2);
}
