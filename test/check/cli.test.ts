/** `roomcast check` as a process: its output and exit codes, on a free network and behind obstacles. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { type AddressInfo, connect, createServer as createTcpServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, type TestContext, test } from 'node:test';
import { canUseProxies, proxyFor } from '../../src/cli/proxy.ts';
import { startBridge, type TestBridge } from '../support/bridge.ts';
import { type Habits, startObstacle } from '../support/obstacles.ts';
import { freePort } from '../support/ports.ts';
import { type ProxyName, programOf, programPath, startProxy } from '../support/proxies.ts';
import { BARE_ENVIRONMENT } from '../support/server.ts';

interface Run {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function check(args: readonly string[], env: Readonly<Record<string, string>> = {}, command = 'check'): Promise<Run> {
  const child = spawn(
    process.execPath,
    ['--disable-warning=ExperimentalWarning', 'src/cli/main.ts', command, ...args],
    {
      env: { ...BARE_ENVIRONMENT, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  const run = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].on('data', (chunk) => {
      run[name] += chunk;
    });
  }
  return new Promise((resolve) => child.on('close', (code) => resolve({ code, ...run })));
}

interface Document {
  readonly level: string;
  readonly origin: string;
  readonly transport: string | null;
  readonly verdict: { readonly code: string; readonly text: string };
  readonly causes: readonly {
    readonly code: string;
    readonly text: string;
    readonly remedies: readonly { readonly proxy: string; readonly lines: string }[];
  }[];
  readonly advice: readonly { readonly code: string; readonly text: string }[];
  readonly notes: readonly { readonly code: string; readonly text: string }[];
  readonly transports: readonly {
    readonly transport: string;
    readonly outcome: string;
    readonly fault: { readonly kind: string; readonly detail: string } | null;
    readonly quiet: { readonly cutMs: number | null; readonly isDead: boolean } | null;
  }[];
}

async function documentOf(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const { code, stdout, stderr } = await check([...args, '--json'], env);
  assert.equal(stderr, '');
  const document = JSON.parse(stdout) as Document;
  const of = (name: string) =>
    document.transports.find(({ transport }) => transport === name) as Document['transports'][0];
  return { code, document, of };
}

async function listen(t: TestContext, server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

const QUICK = ['--idle', '0', '--timeout', '2'];

describe('roomcast check', () => {
  let bridge: TestBridge;
  before(async () => {
    bridge = await startBridge({
      heartbeatMs: 200,
      authMode: 'jwt',
      jwtSecret: 'a secret of thirty-two bytes or more',
    });
  });
  after(() => bridge.close());

  async function obstacle(t: TestContext, habits: Partial<Habits>): Promise<string> {
    const { url, close } = await startObstacle(bridge.url, habits);
    t.after(close);
    return url;
  }

  test('on a free network: a report in each language, exit 0', async () => {
    const { code, stdout, stderr } = await check([bridge.url, '--idle', '1']);
    assert.equal(code, 0, stdout);
    assert.equal(stderr, '', 'no progress unless standard error is a terminal');
    assert.match(stdout, /Everything works\. Live updates arrive by WebSocket\./);
    assert.match(stdout, /^WebSocket +\d+ ms +\d+ ms +\d+ ms +✓ 1 s +works$/m);
    const portuguese = await check([bridge.url, ...QUICK], { LANG: 'pt_BR.UTF-8' });
    assert.match(portuguese.stdout, /Tudo funciona\. As atualizações ao vivo chegam por WebSocket\./);
    assert.equal(portuguese.code, 0);
  });

  test('doctor is another name of it', async () => {
    const [doctor, own] = [await check(['--help'], {}, 'doctor'), await check(['--help'])];
    assert.deepEqual(doctor, own);
    assert.match(doctor.stdout, /^Usage: roomcast check /m);
  });

  test('--json: one document, and nothing else', async () => {
    const { code, document } = await documentOf([bridge.url, ...QUICK]);
    assert.equal(code, 0);
    assert.deepEqual(Object.keys(document), [
      'time',
      'origin',
      'from',
      'level',
      'verdict',
      'transport',
      'transports',
      'causes',
      'advice',
      'notes',
      'measurement',
    ]);
    assert.deepEqual([document.level, document.verdict.code, document.transport], ['good', 'good', 'websocket']);
    assert.equal(document.origin, bridge.url);
    assert.deepEqual(
      document.transports.map(({ transport, outcome, fault }) => [transport, outcome, fault]),
      [
        ['websocket', 'passes', null],
        ['polling', 'passes', null],
        ['sse', 'passes', null],
        ['longpoll', 'passes', null],
      ],
    );
  });

  test('under a base path, with another Socket.IO path, from an address pasted from a browser', async (t) => {
    const based = await startBridge({ basePath: '/rt', socketPath: '/live' });
    t.after(() => based.close());
    for (const url of [based.url, `${based.url}/`, `${based.url}/check?lang=pt#x`]) {
      assert.equal((await documentOf([url, ...QUICK])).code, 0, url);
    }
    const { code, document } = await documentOf([new URL(based.url).origin, ...QUICK]);
    assert.deepEqual([code, document.verdict.code], [2, 'notOurs']);
    const elsewhere = await documentOf([based.url, ...QUICK, '--socket-path', '/socket.io']);
    assert.deepEqual([elsewhere.code, elsewhere.document.transport], [1, 'sse']);
  });

  for (const [name, habits, verdict, transport, advised] of [
    ['upgrades are refused', { upgrade: 'refuse' }, 'websocketBlocked', 'sse', ['allowWebsocket']],
    ['frames are swallowed', { upgrade: 'swallow' }, 'websocketSilent', 'sse', ['allowWebsocket']],
    ['streams are held', { sse: 'hold' }, 'fallbackFails', 'websocket', ['letStreams']],
    [
      'upgrades are refused, streams are held',
      { upgrade: 'refuse', sse: 'hold' },
      'onlyPoll',
      'poll',
      ['allowWebsocket', 'letStreams'],
    ],
    [
      'upgrades are refused, streams too',
      { upgrade: 'refuse', sse: 'refuse' },
      'onlyPoll',
      'poll',
      ['allowWebsocket', 'letStreams'],
    ],
  ] as readonly [string, Partial<Habits>, string, string, string[]][]) {
    test(`where ${name}: ${verdict}, exit 1`, async (t) => {
      const { code, document } = await documentOf([await obstacle(t, habits), ...QUICK]);
      assert.deepEqual([document.verdict.code, document.transport, document.level], [verdict, transport, 'fair']);
      assert.deepEqual(
        document.advice.map((one) => one.code),
        advised,
      );
      assert.equal(code, 1);
    });
  }

  test('where idle connections are cut: which ones, after how long, and which ones heartbeats keep', async (t) => {
    const { hostname, port } = new URL(bridge.url);
    const idleMs = 1800;
    const relay = createTcpServer((client) => {
      const server = connect(Number(port), hostname);
      client.pipe(server).pipe(client);
      const end = (): void => {
        client.destroy();
        server.destroy();
      };
      let idle = setTimeout(end, idleMs);
      const busy = (): void => {
        clearTimeout(idle);
        idle = setTimeout(end, idleMs);
      };
      for (const socket of [client, server]) socket.on('data', busy).on('error', end).on('close', end);
      client.on('close', () => clearTimeout(idle));
    });
    const { code, document, of } = await documentOf([
      `http://127.0.0.1:${await listen(t, Object.assign(relay, { closeAllConnections() {} }) as never)}`,
      '--idle',
      '4',
      '--lang',
      'en',
    ]);
    assert.equal(code, 1);
    assert.notEqual(of('websocket').quiet?.cutMs ?? null, null);
    assert.notEqual(of('longpoll').quiet?.cutMs ?? null, null);
    assert.deepEqual([of('sse').quiet?.cutMs, of('sse').quiet?.isDead], [null, false], 'heartbeats keep it');
    assert.deepEqual([document.verdict.code, document.transport], ['cut', 'websocket']);
    assert.deepEqual(
      document.notes.map((one) => one.code),
      ['silentCut'],
    );
    assert.deepEqual(
      document.advice.map((one) => one.code),
      ['raiseIdle'],
    );
  });

  test('where the server is full: busy', async (t) => {
    const full = await startBridge({ maxConnections: 1 });
    t.after(() => full.close());
    const leaving = new AbortController();
    await fetch(`${full.url}/sse?tenantId=t`, { signal: leaving.signal });
    t.after(() => leaving.abort());
    const { code, document } = await documentOf([full.url, ...QUICK]);
    assert.deepEqual([document.verdict.code, document.advice[0]?.code], ['busy', 'wait']);
    assert.equal(code, 1, 'short requests still pass');
  });

  const answers = (answer: (request: IncomingMessage, response: ServerResponse) => void) => createServer(answer);

  for (const [name, verdict, server] of [
    ['a web page answers', 'notOurs', answers((_, response) => void response.end('<h1>Welcome</h1>'))],
    ['JSON of another kind answers', 'notOurs', answers((_, response) => json(response, '{"roomcast":"no"}'))],
    ['JSON with commands for a terminal answers', 'notOurs', answers((_, response) => json(response, HOSTILE))],
    [
      'a sign-in page lies between',
      'redirected',
      answers((_, response) => void response.writeHead(302, { location: 'https://portal.example/?secret=1' }).end()),
    ],
    ['a firewall says no', 'blocked', answers((_, response) => void response.writeHead(403).end('no'))],
    ['no answer comes', 'timeout', answers(() => {})],
    ['an endless page answers', 'notOurs', answers((_, response) => endless(response))],
    ['the connection breaks', 'unreachable', answers((_, response) => void response.destroy())],
  ] as const) {
    test(`where ${name}: one clear line, exit 2`, async (t) => {
      const url = `http://127.0.0.1:${await listen(t, server)}`;
      const { code, document } = await documentOf([url, ...QUICK]);
      assert.deepEqual([document.verdict.code, code, document.transport], [verdict, 2, null]);
      const { stdout } = await check([url, ...QUICK]);
      assert.equal(stdout.match(/^Verdict: .+$/gm)?.length, 1);
      assert.doesNotMatch(stdout, /secret|\p{Cc}\[| {3}at /u);
    });
  }

  test('where no server listens, or the name is unknown: exit 2', async () => {
    for (const [url, verdict, said] of [
      [`http://127.0.0.1:${await freePort()}`, 'refused', /^roomcast: cannot connect to .*npx roomcast serve\n$/],
      ['http://bridge.invalid', 'dns', /^$/],
    ] as const) {
      const { code, stdout, stderr } = await check([url, ...QUICK, '--json']);
      assert.deepEqual([(JSON.parse(stdout) as Document).verdict.code, code], [verdict, 2]);
      assert.match(stderr, said);
    }
  });

  test('wrong usage: one line that says what is right, exit 64', async () => {
    for (const args of [
      ['not a url'],
      ['ftp://bridge.example'],
      ['bridge.example'],
      ['http://user:hunter2@bridge.example'],
      ['http://a', 'http://b'],
      [bridge.url, '--idle', '121'],
      [bridge.url, '--idle', 'x'],
      [bridge.url, '--timeout', '0'],
      [bridge.url, '--lang', 'fr'],
      [bridge.url, '--socket-path', 'x y'],
      [bridge.url, '--nonsense'],
    ]) {
      const { code, stdout, stderr } = await check(args);
      assert.equal(code, 64, args.join(' '));
      assert.equal(stdout, '');
      assert.match(stderr, /^roomcast: .+\n$/);
      assert.doesNotMatch(stderr, /hunter2/);
    }
    const odd = await check([bridge.url], { HTTP_PROXY: 'socks5://user:hunter2@127.0.0.1:1' });
    assert.equal(odd.code, 64);
    assert.doesNotMatch(odd.stderr, /hunter2/);
  });

  // Real intermediaries.
  for (const [name, verdict, transport, causes, advice] of [
    ['nginx', 'websocketBlocked', 'sse', ['upgradeDropped'], []],
    ['nginx, buffering', 'onlyPoll', 'poll', ['upgradeDropped', 'buffered'], []],
    ['apache2', 'websocketBlocked', 'sse', ['upgradeDropped'], []],
    ['haproxy', 'websocketBlocked', 'sse', ['upgradeStopped'], ['allowWebsocket']],
  ] as readonly [ProxyName, string, string, string[], string[]][]) {
    test(`behind ${name}`, { skip: missing(name) }, async (t) => {
      const proxy = await startProxy(name, bridge.url);
      t.after(() => proxy.close());
      const { code, document } = await documentOf([proxy.url, ...QUICK]);
      assert.deepEqual([document.verdict.code, document.transport, code], [verdict, transport, 1]);
      assert.deepEqual([codesOf(document.causes), codesOf(document.advice)], [causes, advice]);
      for (const { code, remedies } of document.causes) {
        const named = code === 'upgradeStopped' ? [] : [name.replace(/2|,.*/, '')];
        assert.deepEqual(
          remedies.map(({ proxy }) => proxy),
          named,
        );
      }
    });
  }

  test('the lines that it names for nginx mend nginx', { skip: missing('nginx') }, async (t) => {
    let lines = '';
    const named: string[] = [];
    // Whoever pastes the lines of one cause runs the check again.
    for (let runs = 0; runs < 3; runs++) {
      const proxy = await startProxy('nginx, buffering', bridge.url, lines);
      t.after(() => proxy.close());
      const { document } = await documentOf([proxy.url, ...QUICK]);
      if (document.level === 'good') break;
      for (const { code, remedies } of document.causes) {
        named.push(code);
        lines += remedies[0]?.lines ?? '';
      }
    }
    assert.deepEqual(named, ['upgradeDropped', 'buffered']);
  });

  test('behind an nginx with a short timeout', { skip: missing('nginx') }, async (t) => {
    const proxy = await startProxy('nginx, impatient', bridge.url);
    t.after(() => proxy.close());
    const { document } = await documentOf([proxy.url, '--idle', '2', '--timeout', '2']);
    assert.deepEqual(codesOf(document.causes), ['upgradeDropped', 'idle']);
    assert.match(document.causes[1]?.remedies[0]?.lines ?? '', /^proxy_read_timeout 75s;$/m);
  });

  test('behind a balancer that sends one client to two nodes', { skip: missing('haproxy') }, async (t) => {
    const other = await startBridge({ heartbeatMs: 200 });
    t.after(() => other.close());
    const proxy = await startProxy('haproxy, two nodes', `${bridge.url},${other.url}`);
    t.after(() => proxy.close());
    const { document, of } = await documentOf([proxy.url, ...QUICK]);
    assert.equal(document.verdict.code, 'fallbackFails');
    assert.deepEqual(of('polling').fault, { kind: 'otherNode', detail: '' });
    assert.deepEqual(codesOf(document.causes), ['notSticky']);
    assert.deepEqual(document.advice, []);
  });

  test('where a proxy compresses the stream, or answers for a server that is down', async (t) => {
    const { document } = await documentOf([await obstacle(t, { sse: 'compress' }), ...QUICK]);
    assert.deepEqual(codesOf(document.causes), ['compressed']);
    const proxy = createServer((_, response) =>
      response.writeHead(502, { server: 'nginx' }).end('<h1>Bad Gateway</h1>'),
    );
    const down = await documentOf([`http://127.0.0.1:${await listen(t, proxy)}`, ...QUICK]);
    assert.equal(down.document.verdict.code, 'gateway');
    assert.deepEqual(codesOf(down.document.advice), ['startServer']);
  });

  test('the report names the cause and the lines to paste, in each language', { skip: missing('nginx') }, async (t) => {
    const proxy = await startProxy('nginx', bridge.url);
    t.after(() => proxy.close());
    const { stdout } = await check([proxy.url, ...QUICK]);
    assert.match(stdout, /^The cause:\n- A proxy in front of the server \(it looks like nginx\) removed the upgrade/m);
    assert.match(stdout, /^ {2}Lines for nginx:\n {4}proxy_http_version 1\.1;\n {4}proxy_set_header Upgrade/m);
    assert.doesNotMatch(stdout, /first choice|network administrator/);
    const portuguese = await check([proxy.url, ...QUICK, '--lang', 'pt']);
    assert.match(portuguese.stdout, /^A causa:\n- Um proxy na frente do servidor \(parece ser o nginx\)/m);
  });

  for (const name of ['squid', 'tinyproxy'] as const) {
    test(`through ${name} as HTTP_PROXY, which tunnels no websocket here`, { skip: missing(name) }, async (t) => {
      const proxy = await startProxy(name, bridge.url);
      t.after(() => proxy.close());
      const { code, document, of } = await documentOf([bridge.url, ...QUICK], { HTTP_PROXY: proxy.url });
      assert.deepEqual([document.verdict.code, document.transport, code], ['websocketBlocked', 'sse', 1]);
      assert.deepEqual(of('websocket').fault, { kind: 'proxy', detail: 'CONNECT 403' });
      assert.ok(document.notes.some((one) => one.code === 'via'));
      const direct = await documentOf([bridge.url, ...QUICK], { HTTP_PROXY: proxy.url, NO_PROXY: '127.0.0.1' });
      assert.equal(direct.code, 0);
    });
  }

  test('through an HTTP_PROXY that tunnels and has a password: everything passes', async (t) => {
    const seen: string[] = [];
    const proxy = await startForwardProxy(t, seen);
    const { code } = await documentOf([bridge.url, ...QUICK], { http_proxy: `http://me:p%40ss@127.0.0.1:${proxy}` });
    assert.equal(code, 0);
    assert.ok(seen.some((line) => line === `CONNECT ${new URL(bridge.url).host}`));
    assert.ok(seen.some((line) => line.startsWith(`GET ${bridge.url}/check/poll`)));
    const refused = await documentOf([bridge.url, ...QUICK], { HTTP_PROXY: `http://127.0.0.1:${proxy}` });
    assert.deepEqual([refused.document.verdict.code, refused.code], ['proxy', 2]);
  });

  const noOpenssl = programPath('openssl') === null ? 'openssl is not installed' : false;
  test('over TLS: reports an unknown certificate; with a known one everything passes, through HTTPS_PROXY too', {
    skip: noOpenssl,
  }, async (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'roomcast-check-'));
    t.after(() => rmSync(directory, { recursive: true }));
    const [key, cert] = [join(directory, 'key.pem'), join(directory, 'cert.pem')];
    execFileSync(
      'openssl',
      [
        ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'],
        ...['-subj', '/CN=bridge', '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', key, '-out', cert],
      ],
      { stdio: 'ignore' },
    );
    const target = new URL(bridge.url);
    const server = createHttpsServer({ key: readFileSync(key), cert: readFileSync(cert) }, (incoming, outgoing) => {
      const { url, method, headers } = incoming;
      const upstream = request({ port: target.port, path: url, method, headers }, (answer) => {
        outgoing.writeHead(answer.statusCode ?? 502, answer.headers).flushHeaders();
        answer.pipe(outgoing);
      });
      outgoing.on('close', () => upstream.destroy());
      upstream.on('error', () => outgoing.destroy());
      incoming.pipe(upstream);
    });
    server.on('upgrade', ({ url, headers }: IncomingMessage, client: Socket) => {
      const upstream = connect(Number(target.port), target.hostname);
      const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
      upstream.write(`GET ${url} HTTP/1.1\r\n${lines.join('')}\r\n`);
      client.pipe(upstream).pipe(client);
      for (const socket of [client, upstream]) socket.on('error', () => client.destroy());
      client.on('close', () => upstream.destroy());
    });
    const url = `https://127.0.0.1:${await listen(t, server as never)}`;
    const unknown = await documentOf([url, ...QUICK]);
    assert.deepEqual([unknown.document.verdict.code, unknown.code], ['tls', 2]);
    const plain = await documentOf([bridge.url.replace('http:', 'https:'), ...QUICK]);
    assert.deepEqual([plain.document.verdict.code, plain.code], ['tls', 2]);
    assert.equal((await documentOf([url, ...QUICK], { NODE_EXTRA_CA_CERTS: cert })).code, 0);
    const seen: string[] = [];
    const proxy = await startForwardProxy(t, seen);
    const env = { NODE_EXTRA_CA_CERTS: cert, HTTPS_PROXY: `http://me:p%40ss@127.0.0.1:${proxy}` };
    assert.equal((await documentOf([url, ...QUICK], env)).code, 0);
    assert.ok(seen.length > 0 && seen.every((line) => line === `CONNECT ${new URL(url).host}`));
  });
});

test('which proxy the environment names', () => {
  const proxy = 'http://proxy.example:3128/';
  for (const [url, env, expected] of [
    ['http://a.example', {}, null],
    ['http://a.example', { HTTP_PROXY: proxy }, proxy],
    ['https://a.example', { HTTP_PROXY: proxy }, null],
    ['https://a.example', { https_proxy: 'proxy.example:3128', HTTPS_PROXY: 'http://other' }, proxy],
    ['http://a.example', { HTTP_PROXY: '' }, null],
    ['http://a.example', { HTTP_PROXY: proxy, NO_PROXY: '*' }, null],
    ['http://a.example', { HTTP_PROXY: proxy, NO_PROXY: 'b.example, A.EXAMPLE' }, null],
    ['http://x.a.example', { HTTP_PROXY: proxy, no_proxy: '.a.example' }, null],
    ['http://xa.example', { HTTP_PROXY: proxy, NO_PROXY: 'a.example' }, proxy],
    ['http://a.example', { HTTP_PROXY: proxy, NO_PROXY: 'a.example:8080' }, proxy],
    ['http://a.example:8080', { HTTP_PROXY: proxy, NO_PROXY: 'a.example:8080' }, null],
    ['http://[::1]:4003', { HTTP_PROXY: proxy, NO_PROXY: '::1' }, null],
  ] as const) {
    assert.equal(proxyFor(new URL(url), env)?.href ?? null, expected, `${url} ${JSON.stringify(env)}`);
  }
  assert.deepEqual(
    ['22.18.0', '22.21.0', '24.4.1', '24.5.0', '25.0.0'].map((version) => canUseProxies(version)),
    [false, true, false, true, true],
  );
});

const codesOf = (messages: readonly { readonly code: string }[]): string[] => messages.map(({ code }) => code);

const HOSTILE = JSON.stringify({
  roomcast: 'check',
  timeMs: 1,
  ready: true,
  heartbeatMs: 15_000,
  socketPath: '/\u001b[2J',
  httpVersion: '1.1',
  proxyHeaders: [],
});

function json(response: ServerResponse, body: string): void {
  response.writeHead(200, { 'content-type': 'application/json' }).end(body);
}

function endless(response: ServerResponse): void {
  response.writeHead(200, { 'content-type': 'application/json' });
  const writing = setInterval(() => response.write('x'.repeat(10_000)), 5);
  response.on('close', () => clearInterval(writing));
}

function missing(name: ProxyName): string | false {
  return programPath(programOf(name)) === null ? `${programOf(name)} is not installed` : false;
}

/** A forward proxy for absolute-form and CONNECT, with a password. It records the requests in `seen`. */
async function startForwardProxy(t: TestContext, seen: string[]): Promise<number> {
  const isKnown = ({ headers }: IncomingMessage): boolean =>
    headers['proxy-authorization'] === `Basic ${Buffer.from('me:p@ss').toString('base64')}`;
  const server = createServer((incoming, outgoing) => {
    const { url = '', method, headers } = incoming;
    if (!isKnown(incoming)) return void outgoing.writeHead(407).end();
    seen.push(`${method} ${url}`);
    const upstream = request(url, { method, headers }, (answer) => {
      outgoing.writeHead(answer.statusCode ?? 502, answer.headers).flushHeaders();
      answer.pipe(outgoing);
    });
    outgoing.on('close', () => upstream.destroy());
    upstream.on('error', () => outgoing.destroy());
    incoming.pipe(upstream);
  });
  const tunnels = new Set<Socket>();
  server.on('connect', (incoming: IncomingMessage, client: Socket) => {
    if (!isKnown(incoming)) return void client.end('HTTP/1.1 407 Proxy Authentication Required\r\n\r\n');
    seen.push(`CONNECT ${incoming.url}`);
    const { hostname, port } = new URL(`http://${incoming.url}`);
    const upstream = connect(Number(port), hostname, () => client.write('HTTP/1.1 200 OK\r\n\r\n'));
    client.pipe(upstream).pipe(client);
    tunnels.add(client);
    for (const socket of [client, upstream]) socket.on('error', () => client.destroy());
    client.on('close', () => upstream.destroy());
  });
  t.after(() => {
    for (const tunnel of tunnels) tunnel.destroy();
  });
  return listen(t, server);
}
