/**
 * docs/deploy: what an operator copies works as it stands. Alerts and dashboard are checked by promtool and against what a
 * bridge really exposes. The proxies' configurations: deploy-proxies.test.ts.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { after, test } from 'node:test';
import { promisify } from 'node:util';
import { messageNew, startBridge, ticketUpdated } from '../support/bridge.ts';
import { deployed, fitted } from '../support/deployed.ts';
import { programPath } from '../support/proxies.ts';
import { startServer } from '../support/server.ts';

const run = promisify(execFile);
const directory = mkdtempSync(join(tmpdir(), 'roomcast-deploy-'));
after(() => rmSync(directory, { recursive: true, force: true, maxRetries: 5 }));

const without = (program: string): { skip?: string } =>
  programPath(program) === null ? { skip: `${program} is not installed` } : {};

test('promtool accepts the alert rules, and each fires when it should', without('promtool'), async () => {
  await run('promtool', ['check', 'rules', 'docs/deploy/alerts.yaml']);
  await run('promtool', ['test', 'rules', 'docs/deploy/alerts.test.yaml']);
  const alerts = [...deployed('alerts.yaml').matchAll(/- alert: (\w+)/g)].map(([, name]) => name);
  const tested = [...deployed('alerts.test.yaml').matchAll(/alertname: (\w+)\n\s+exp_alerts/g)].map(([, name]) => name);
  assert.deepEqual(tested.sort(), alerts.sort(), 'each alert has a test in which it fires');
});

/** Metrics and their labels as a bridge that has seen everything once exposes them. */
async function exposed(): Promise<Map<string, Set<string>>> {
  const bridge = await startBridge({ maxConnections: 1 });
  try {
    await bridge.publish('tickets.updated', ticketUpdated());
    await assert.rejects(bridge.publish('messages.old', {}));
    const stream = await fetch(`${bridge.url}/sse?tenantId=tenant-1&after=unknown`);
    await fetch(`${bridge.url}/sse?tenantId=tenant-1`);
    await bridge.publish('messages.new', messageNew());
    const text = await (await fetch(`${bridge.url}/metrics`)).text();
    await stream.body?.cancel();
    const labels = new Map<string, Set<string>>();
    for (const [, name = '', inner = ''] of text.matchAll(/^(\w+)(?:\{(.*)\})? /gm)) {
      const known = labels.get(name) ?? new Set(['instance', 'job']);
      for (const [, label = ''] of inner.matchAll(/(\w+)="/g)) known.add(label);
      labels.set(name, known);
    }
    return labels.set('up', new Set(['instance', 'job']));
  } finally {
    await bridge.close();
  }
}

interface Dashboard {
  readonly panels: readonly {
    readonly title: string;
    readonly description?: string;
    readonly targets?: readonly { readonly expr: string }[];
    readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  }[];
  readonly templating: { readonly list: readonly { readonly name: string }[] };
}

test('dashboard and alerts ask for metrics and labels that are there, in PromQL that is right', async () => {
  const { panels, templating } = JSON.parse(deployed('grafana.json')) as Dashboard;
  assert.deepEqual(
    templating.list.map(({ name }) => name),
    ['datasource', 'instance'],
  );
  const asked = panels.flatMap(({ title, targets = [] }) => targets.map(({ expr }) => ({ title, expr })));
  assert.ok(asked.length >= 25);
  for (const [, title = '', expr = ''] of deployed('alerts.yaml').matchAll(/alert: (\w+)\n\s+expr: (.+)/g)) {
    asked.push({ title, expr });
  }
  const known = await exposed();
  for (const { title, expr } of asked) {
    const names = [...expr.matchAll(/\b(?:ws|roomcast|process|nodejs)_\w+|\bup\b/g)].map(([name]) => name);
    assert.ok(names.length > 0, title);
    const labels = new Set(names.flatMap((name) => [...(known.get(name) ?? [])]));
    for (const name of names) assert.ok(known.has(name), `${title}: there is no ${name}`);
    for (const [, list = ''] of expr.matchAll(/\b(?:by|on) \(([^)]*)\)|\{([^}]*)\}/g)) {
      for (const label of list.split(/, */).filter(Boolean))
        assert.ok(labels.has(label), `${title}: no label ${label}`);
    }
    for (const [, label = ''] of expr.matchAll(/[{,](\w+)=~?"/g)) assert.ok(labels.has(label), `${title}: no ${label}`);
  }
  if (programPath('promtool') === null) return;
  // A rule's expression is any PromQL; Grafana's variables are not.
  const rules = asked.map(({ expr }, index) => {
    const plain = expr.replaceAll('$__rate_interval', '5m').replaceAll('$instance', '.*');
    return `      - record: panel_${index}\n        expr: ${JSON.stringify(plain)}\n`;
  });
  const file = join(directory, 'panels.yaml');
  writeFileSync(file, `groups:\n  - name: panels\n    rules:\n${rules.join('')}`);
  await run('promtool', ['check', 'rules', '--lint=none', file]);
});

test('the panels of the dashboard say what they show, and do not overlap', () => {
  const { panels } = JSON.parse(deployed('grafana.json')) as Dashboard;
  const taken = new Set<string>();
  for (const { title, description, targets, gridPos } of panels) {
    if (targets !== undefined) assert.ok(description, title);
    assert.ok(gridPos.x + gridPos.w <= 24, title);
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
        assert.ok(!taken.has(`${x},${y}`), title);
        taken.add(`${x},${y}`);
      }
    }
  }
});

test('systemd takes the unit', without('systemd-analyze'), async () => {
  const unit = fitted('roomcast.service', [
    [/^ExecStart=.*$/, `ExecStart=${process.execPath} main.js`],
    [/^EnvironmentFile=.*$/, ''],
  ]);
  const file = join(directory, 'roomcast.service');
  writeFileSync(file, unit);
  const { stderr } = await run('systemd-analyze', ['verify', '--man=no', file]);
  assert.doesNotMatch(stderr, /roomcast\.service/);
});

test('the image is built of what each stage has copied by then, its command serves, and its check finds that', async (context) => {
  const stages: string[] = [];
  const names = new Map<string, string>();
  const npm = (script: string, cwd: string) => run('npm', ['run', script], { cwd });
  let command: string[] = [];
  let check: string[] = [];
  for (const line of readFileSync('Dockerfile', 'utf8').replaceAll('\\\n', '').split('\n')) {
    const [instruction = '', ...words] = line.trim().split(/\s+/);
    const stage = stages.at(-1) ?? '';
    if (instruction === 'FROM') {
      stages.push(join(directory, `stage-${stages.length}`));
      mkdirSync(stages.at(-1) as string);
      if (words[1] === 'AS') names.set(words[2] as string, stages.at(-1) as string);
    } else if (instruction === 'COPY') {
      const source = names.get(words[0]?.replace('--from=', '') ?? '');
      for (const path of source === undefined ? words.slice(0, -1) : words.slice(1, -1)) {
        const from = source === undefined ? resolve(path) : path.replace('/app', source);
        cpSync(from, join(stage, basename(path)), { recursive: true });
      }
    } else if (instruction === 'RUN' && words[0] === 'npm' && words[1] === 'ci') {
      // What it would fetch is here already; what it runs by itself when that is there is not.
      if (words.includes('--omit=dev')) mkdirSync(join(stage, 'node_modules'));
      else symlinkSync(resolve('node_modules'), join(stage, 'node_modules'));
      if (!words.includes('--ignore-scripts')) await npm('prepare', stage);
    } else if (instruction === 'RUN' && words[0] === 'npm') {
      await npm(words[2] as string, stage);
    } else if (instruction === 'HEALTHCHECK') {
      check = JSON.parse(words.slice(words.indexOf('CMD') + 1).join(' ')) as string[];
    } else if (instruction === 'CMD') {
      command = JSON.parse(words.join(' ')) as string[];
    }
  }
  const final = stages.at(-1) as string;
  rmSync(join(final, 'node_modules'), { recursive: true });
  symlinkSync(resolve('node_modules'), join(final, 'node_modules'));
  // With the slash at its end that the server lets pass.
  const env = { STORE_URL: 'sqlite::memory:', BASE_PATH: '/bridge/' };
  const server = await startServer(env, { args: command.slice(1), cwd: final });
  context.after(() => server.end('SIGKILL'));
  const page = await fetch(`${server.url}/console`);
  assert.equal(page.status, 200);
  await run(process.execPath, check.slice(1), { env: { ...env, PORT: new URL(server.url).port } });
  assert.equal(await server.end('SIGTERM'), 0);
});

test('an install without development dependencies has nothing to build, and goes through', async () => {
  const folder = join(directory, 'production');
  mkdirSync(join(folder, 'node_modules'), { recursive: true });
  cpSync('package.json', join(folder, 'package.json'));
  await run('npm', ['run', 'prepare'], { cwd: folder });
});
