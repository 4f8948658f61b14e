/**
 * docs/deploy: what an operator copies works as it stands. The proxies' configurations run in the real programs, with
 * ports put in; alerts and dashboard are checked by promtool and against what a bridge really exposes.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { EventSource } from 'eventsource';
import { io } from 'socket.io-client';
import { messageNew, startBridge, type TestBridge, ticketUpdated } from '../support/bridge.ts';
import { freePort } from '../support/ports.ts';
import { programPath } from '../support/proxies.ts';
import { startServer } from '../support/server.ts';
import { until } from '../support/until.ts';

const run = promisify(execFile);
const directory = mkdtempSync(join(tmpdir(), 'roomcast-deploy-'));
// Proxies give up root for a user of their own.
chmodSync(directory, 0o777);
after(() => rmSync(directory, { recursive: true, force: true, maxRetries: 5 }));

const deployed = (name: string): string => readFileSync(`docs/deploy/${name}`, 'utf8');
const without = (program: string): { skip?: string } =>
  programPath(program) === null ? { skip: `${program} is not installed` } : {};

/** The file with these things in their places; each must be there. */
function fitted(name: string, places: readonly (readonly [string | RegExp, string])[]): string {
  return places.reduce((text, [place, value]) => {
    const changed = text.replaceAll(typeof place === 'string' ? place : new RegExp(place, 'gm'), value);
    assert.notEqual(changed, text, `${place} is not in ${name}`);
    return changed;
  }, deployed(name));
}

const PROXIES = {
  nginx: (port: number, upstream: string) => {
    const file = join(directory, 'nginx.conf');
    const conf = fitted('nginx.conf', [
      ['listen 80;', `listen 127.0.0.1:${port};`],
      [/server 127\.0\.0\.1:4003;/, `server ${upstream} max_fails=0;`],
    ]);
    const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
    writeFileSync(
      file,
      `daemon off; master_process off; pid ${directory}/pid; error_log ${directory}/error warn;
      events { worker_connections 512; }
      http {
        access_log off; ${temporary.map((name) => `${name}_temp_path ${directory}/${name};`).join(' ')}
        gzip on; gzip_types text/event-stream application/json;
        ${conf}
      }`,
    );
    return ['-p', directory, '-c', file];
  },
  haproxy: (port: number, upstream: string) => {
    const file = join(directory, 'haproxy.cfg');
    const conf = fitted('haproxy.cfg', [
      // The limit of open files of whoever runs this test.
      ['maxconn 50000', 'maxconn 500'],
      ['bind :8080', `bind 127.0.0.1:${port}`],
      // The names of compose.yaml, and Docker's resolver.
      [/node\d:4003/, upstream],
      [/resolvers docker\n(?: .*\n)+/, ''],
      [/ resolvers docker/, ''],
    ]);
    writeFileSync(file, conf);
    return ['-db', '-f', file];
  },
} as const;

const isOpen = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => socket.destroy());
    socket.on('close', (failed) => resolve(!failed)).on('error', () => {});
  });

for (const [name, argumentsOf] of Object.entries(PROXIES)) {
  describe(`${name}, as docs/deploy has it`, without(name), () => {
    let bridge: TestBridge;
    let child: ChildProcess;
    let url: string;

    before(async () => {
      bridge = await startBridge({ trustProxy: 1, maxConnectionsPerAddress: 4 });
      const port = await freePort();
      const args = argumentsOf(port, new URL(bridge.url).host);
      child = spawn(programPath(name) as string, args, { stdio: ['ignore', 'ignore', 'inherit'] });
      url = `http://127.0.0.1:${port}`;
      await until(`${name} serves`, async () => {
        assert.equal(child.exitCode, null, `${name} did not start`);
        return (await isOpen(port)) && (await fetch(`${url}/healthz`)).ok;
      });
    });
    after(async () => {
      if (child.exitCode === null) {
        const exited = once(child, 'exit');
        child.kill('SIGKILL');
        await exited;
      }
      await bridge.close();
    });

    for (const transport of ['websocket', 'polling']) {
      test(`Socket.IO by ${transport}: an event comes while the connection is open`, async () => {
        const socket = io(url, { transports: [transport], forceNew: true });
        try {
          const heard: string[] = [];
          socket.on('messages.new', (_payload, cursor: string) => heard.push(cursor));
          assert.equal((await socket.emitWithAck('join-tenant', 'tenant-1')).ok, true);
          const { id } = await bridge.publish('messages.new', messageNew());
          await until('it is heard', () => heard.includes(id));
          assert.equal(socket.io.engine.transport.name, transport);
        } finally {
          socket.close();
        }
      });
    }

    test('SSE: an event comes while the stream is open, not compressed', async () => {
      const response = await fetch(`${url}/sse?tenantId=tenant-1&legacy=false`, {
        headers: { 'accept-encoding': 'gzip' },
      });
      assert.equal(response.headers.get('content-encoding'), null);
      assert.match(response.headers.get('cache-control') ?? '', /no-transform/);
      let text = '';
      const reading = (async () => {
        const decoder = new TextDecoder();
        for await (const chunk of response.body as ReadableStream<Uint8Array>) {
          text += decoder.decode(chunk);
          if (text.includes('event: messages.new')) return;
        }
      })();
      await until('it begins', () => text.includes('event: bridge.cursor'));
      const { id } = await bridge.publish('messages.new', messageNew());
      await reading;
      assert.ok(text.includes(`id: ${id}`));
    });

    test('publishing, state, and a long poll that waits', async () => {
      const body = JSON.stringify({ event: 'tickets.updated', payload: ticketUpdated() });
      const posted = await fetch(`${url}/events`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body,
      });
      assert.equal(posted.status, 201);
      const { id } = (await posted.json()) as { id: string };
      const waiting = fetch(`${url}/events?tenantId=tenant-1&after=${id}&wait=20`);
      const next = await bridge.publish('messages.new', messageNew());
      const page = (await (await waiting).json()) as { events: { id: string }[] };
      assert.deepEqual(
        page.events.map((event) => event.id),
        [next.id],
      );
      assert.equal((await fetch(`${url}/tickets?tenantId=tenant-1`)).status, 200);
    });

    test('metrics stay inside, and the client’s own address counts', async () => {
      assert.equal((await fetch(`${url}/metrics`)).status, 404);
      // All come from one address: the fifth is one too many, also with another address made up in front.
      const streams = await Promise.all(
        Array.from({ length: 5 }, (_, index) =>
          fetch(`${url}/sse?tenantId=t`, { headers: { 'x-forwarded-for': `192.0.2.${index}` } }),
        ),
      );
      assert.deepEqual(streams.map(({ status }) => status).sort(), [200, 200, 200, 200, 503]);
      for (const { body } of streams) await body?.cancel();
    });

    test('no node is there: EventSource is told to come back, and does', async () => {
      // The last test of this proxy: its bridge moves to the same port again.
      const { port } = new URL(bridge.url);
      await bridge.close();
      const codes: string[] = [];
      const source = new EventSource(`${url}/sse?tenantId=tenant-1`);
      try {
        source.addEventListener('bridge.error', ({ data }) => codes.push(JSON.parse(data).code));
        await until('it is told', () => codes.includes('unavailable'));
        assert.notEqual(source.readyState, source.CLOSED);
        assert.ok([502, 503].includes((await fetch(`${url}/sse?tenantId=tenant-1`)).status), 'others get the status');
        bridge = await startBridge({ port: Number(port) });
        const opened = new Promise((resolve) => source.addEventListener('bridge.cursor', resolve));
        await opened;
      } finally {
        source.close();
      }
    });
  });
}

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
