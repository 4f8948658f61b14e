/**
 * docs/deploy: each proxy's configuration works as it stands. It runs in the real program, with the ports and paths of
 * this test put in. Every transport passes, nothing is held back, metrics stay inside, and no log holds a token.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { EventSource } from 'eventsource';
import { io } from 'socket.io-client';
import { messageNew, metric, startBridge, type TestBridge, ticketUpdated } from '../support/bridge.ts';
import { CLIENTS } from '../support/clients.ts';
import { startCutProxy } from '../support/cut-proxy.ts';
import { deployed, fitted } from '../support/deployed.ts';
import { freePort } from '../support/ports.ts';
import { programPath } from '../support/proxies.ts';
import { until } from '../support/until.ts';

const root = mkdtempSync(join(tmpdir(), 'roomcast-deploy-proxies-'));
// Proxies give up root for a user of their own.
chmodSync(root, 0o777);
after(() => rmSync(root, { recursive: true, force: true, maxRetries: 5 }));

/** Bytes that no log may hold. */
const SECRET = 'a-token-that-stands-in-a-URL';
const MAX_PER_ADDRESS = 4;
const SSE_CONNECTIONS = 'roomcast_connections{transport="sse"}';

interface Place {
  readonly port: number;
  /** The bridge's. */
  readonly upstreamPort: string;
  /** Of this proxy alone. */
  readonly folder: string;
  readonly logs: string;
  readonly conf: string;
}

interface Command {
  readonly program: string;
  readonly args: readonly string[];
}

interface Proxy {
  readonly program: string;
  /** The configuration, for this place. */
  readonly text: (place: Place) => string;
  readonly args: (place: Place) => readonly string[];
  /** False: it notices that a client has left only when it writes to it. */
  readonly noticesLeaving: boolean;
  /** What writes its access log, where it does not do so itself. */
  readonly logger?: (place: Place) => Command;
}

/** Debian's folder. */
const APACHE_MODULES = '/usr/lib/apache2/modules';

const PROXIES: Readonly<Record<string, Proxy>> = {
  nginx: {
    program: 'nginx',
    noticesLeaving: true,
    text: ({ port, upstreamPort, folder, logs }) => {
      const conf = fitted('nginx.conf', [
        ['listen 80;', `listen 127.0.0.1:${port};`],
        [/server 127\.0\.0\.1:4003;/, `server 127.0.0.1:${upstreamPort} max_fails=0;`],
        ['/var/log/nginx', logs],
      ]);
      const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
      return `daemon off; master_process off; pid ${folder}/pid; error_log ${logs}/error warn;
        events { worker_connections 512; }
        http {
          ${temporary.map((name) => `${name}_temp_path ${folder}/${name};`).join(' ')}
          gzip on; gzip_types text/event-stream application/json;
          ${conf}
        }`;
    },
    args: ({ folder, conf }) => ['-p', folder, '-c', conf, '-e', join(folder, 'logs/error')],
  },
  haproxy: {
    program: 'haproxy',
    noticesLeaving: true,
    text: ({ port, upstreamPort }) =>
      fitted('haproxy.cfg', [
        // The limit of open files of the user who runs this test.
        ['maxconn 50000', 'maxconn 500'],
        ['bind :8080', `bind 127.0.0.1:${port}`],
        // The names of compose.yaml, and Docker's resolver.
        [/node\d:4003/, `127.0.0.1:${upstreamPort}`],
        [/resolvers docker\n(?: .*\n)+/, ''],
        [/ resolvers docker/, ''],
      ]),
    args: ({ conf }) => ['-db', '-f', conf],
  },
  apache: {
    program: 'apache2',
    noticesLeaving: false,
    text: ({ port, upstreamPort, folder, logs }) => {
      const conf = fitted('apache.conf', [
        ['<VirtualHost *:80>', `<VirtualHost 127.0.0.1:${port}>`],
        ['127.0.0.1:4003', `127.0.0.1:${upstreamPort}`],
        // biome-ignore lint/suspicious/noTemplateCurlyInString: Apache's own variable.
        ['${APACHE_LOG_DIR}', logs],
        ['/etc/apache2', resolve('docs/deploy')],
      ]);
      // What Debian loads, and what the configuration asks for.
      const asked = /`a2enmod ([\w ]+)`/.exec(conf)?.[1]?.split(' ') ?? [];
      const modules = ['mpm_event', 'authz_core', 'alias', 'deflate', 'env', 'filter', 'setenvif', ...asked];
      return `ServerRoot ${folder}
        ServerName proxy.test
        PidFile ${folder}/pid
        DefaultRuntimeDir ${folder}
        Listen 127.0.0.1:${port}
        ErrorLog ${logs}/error
        ${modules.map((name) => `LoadModule ${name}_module ${APACHE_MODULES}/mod_${name}.so`).join('\n')}
        AddOutputFilterByType DEFLATE text/event-stream application/json
        ${conf}`;
    },
    args: ({ conf }) => ['-X', '-f', conf],
  },
  caddy: {
    program: 'caddy',
    noticesLeaving: true,
    text: ({ port, upstreamPort }) =>
      fitted('Caddyfile', [
        [/^\{$/, '{\n\tadmin off'],
        [/^:80 \{$/, `:${port} {\n\tbind 127.0.0.1`],
        ['127.0.0.1:4003', `127.0.0.1:${upstreamPort}`],
      ]),
    args: ({ conf }) => ['run', '--config', conf, '--adapter', 'caddyfile'],
  },
  varnish: {
    program: 'varnishd',
    noticesLeaving: true,
    text: ({ upstreamPort }) => fitted('default.vcl', [['"4003"', `"${upstreamPort}"`]]),
    args: ({ port, folder, conf }) => {
      const options = /with `(-p [^`]+)`/.exec(deployed('default.vcl'))?.[1]?.split(' ') ?? [];
      return ['-F', '-n', join(folder, 'state'), '-f', conf, '-a', `127.0.0.1:${port}`, ...options];
    },
    logger: ({ folder, logs }) => {
      const format = /varnishncsa -F '([^']+)'/.exec(deployed('default.vcl'))?.[1] as string;
      return { program: 'varnishncsa', args: ['-n', join(folder, 'state'), '-F', format, '-w', join(logs, 'access')] };
    },
  },
};

const isOpen = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => socket.destroy());
    socket.on('close', (failed) => resolve(!failed)).on('error', () => {});
  });

// At the same time: they mostly wait.
describe('the proxies of docs/deploy', { concurrency: true }, () => {
  for (const [name, proxy] of Object.entries(PROXIES)) {
    const skip = programPath(proxy.program) === null ? `${proxy.program} is not installed` : false;
    describe(name, { skip, concurrency: 1 }, () => {
      let bridge: TestBridge;
      let place: Place;
      let url: string;
      const children: ChildProcess[] = [];

      function start(program: string, args: readonly string[]): ChildProcess {
        const output = openSync(join(place.logs, `output of ${program}`), 'w');
        const env = { ...process.env, HOME: place.folder, XDG_DATA_HOME: place.folder, XDG_CONFIG_HOME: place.folder };
        const child = spawn(programPath(program) as string, args, { stdio: ['ignore', output, output], env });
        children.push(child);
        return child;
      }
      const logged = (): string =>
        readdirSync(place.logs)
          .map((file) => readFileSync(join(place.logs, file), 'utf8'))
          .join('\n');
      /** All that one connection answers to these bytes, until it ends or until two quiet seconds have passed. */
      const raw = (bytes: string): Promise<string> =>
        new Promise((resolve) => {
          let answer = '';
          const socket = connect(place.port, '127.0.0.1', () => socket.write(bytes));
          socket.setTimeout(2000, () => socket.destroy());
          socket.on('data', (chunk) => {
            answer += chunk;
          });
          socket.on('error', () => {}).on('close', () => resolve(answer));
        });
      const get = (target: string, ...headers: string[]): string =>
        `${[`GET ${target} HTTP/1.1`, 'Host: 127.0.0.1', ...headers].join('\r\n')}\r\n\r\n`;

      before(async () => {
        // No heartbeat within the test: what comes must not wait for one.
        bridge = await startBridge({
          trustProxy: 1,
          maxConnectionsPerAddress: MAX_PER_ADDRESS,
          heartbeatMs: 3_600_000,
        });
        const folder = join(root, name);
        place = {
          port: await freePort(),
          upstreamPort: new URL(bridge.url).port,
          folder,
          logs: join(folder, 'logs'),
          conf: join(folder, 'conf'),
        };
        for (const path of [place.folder, place.logs]) {
          mkdirSync(path);
          chmodSync(path, 0o777);
        }
        writeFileSync(place.conf, proxy.text(place));
        url = `http://127.0.0.1:${place.port}`;
        const child = start(proxy.program, proxy.args(place));
        await until(`${name} serves`, async () => {
          assert.equal(child.exitCode, null, `${name} did not start: ${logged()}`);
          return (await isOpen(place.port)) && (await fetch(`${url}/healthz`)).ok;
        });
        const logger = proxy.logger?.(place);
        if (logger !== undefined) start(logger.program, logger.args);
      });
      after(async () => {
        for (const child of children) {
          if (child.exitCode !== null) continue;
          const exited = once(child, 'exit');
          child.kill('SIGKILL');
          await exited;
        }
        await bridge.close();
      });

      test('the client’s own address counts', async () => {
        // The fifth is one too many, also with another address made up in front.
        const streams = await Promise.all(
          Array.from({ length: MAX_PER_ADDRESS + 1 }, async (_, index) => {
            const headers = { 'x-forwarded-for': `192.0.2.${index}` };
            const asked = request(`${url}/sse?tenantId=t`, { localAddress: '127.0.0.2', headers, agent: false }).end();
            const [stream] = await once(asked, 'response');
            // A proxy may reset a connection whose client leaves.
            for (const side of [asked, stream]) side.on('error', () => {});
            return stream as IncomingMessage;
          }),
        );
        assert.deepEqual(streams.map(({ statusCode }) => statusCode).sort(), [
          ...Array.from({ length: MAX_PER_ADDRESS }, () => 200),
          503,
        ]);
        for (const stream of streams) stream.destroy();
        if (!proxy.noticesLeaving) return;
        await until('the bridge has noticed that they left', async () => (await metric(bridge, SSE_CONNECTIONS)) === 0);
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
        const body = JSON.stringify({ event: 'tickets.updated', payload: ticketUpdated({ ticketId: 'a/b' }) });
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
        assert.equal((await fetch(`${url}/tickets/a%2Fb?tenantId=tenant-1`)).status, 200, 'an id may hold a slash');
      });

      for (const transport of ['websocket', 'polling', 'sse', 'longpoll']) {
        test(`${transport}: after a cut, each event comes once and in order`, async (t) => {
          const cutter = await startCutProxy(url);
          t.after(cutter.close);
          const client = await (CLIENTS[transport] as (typeof CLIENTS)[string]).connect(
            cutter.url,
            { tenantId: ['tenant-1'] },
            { legacy: false },
          );
          t.after(client.close);
          const heard = (): unknown[] => client.heard.map(({ id }) => id);
          const ids = [(await bridge.publish('messages.new', messageNew())).id];
          await until('it hears the first', () => heard().includes(ids[0]));
          cutter.cut();
          for (let count = 0; count < 3; count++) ids.push((await bridge.publish('messages.new', messageNew())).id);
          await until('it hears the newest', () => heard().includes(ids.at(-1)));
          assert.deepEqual(heard(), ids);
          assert.deepEqual(client.resets, []);
        });
      }

      test('metrics stay inside, however their path is spelled', async () => {
        const spellings = [
          ...['/metrics', '/metrics/', '/metrics?x=1', '/metrics#x', '//metrics', '/./metrics', '/x/../metrics'],
          ...['/%6detrics', '/%6Detrics', '/metric%73', '/%2e/metrics', '/x/%2E%2e/metrics', '/x/..%2fmetrics'],
          ...['/x\\..\\metrics', '/x/..%5cmetrics', '/metrics/.', '/metrics/x/..', '/%2fmetrics', '/x/../%6detrics'],
          ...[
            'http://127.0.0.1/metrics',
            'http://127.0.0.1/%6detrics',
            'http://127.0.0.1/x/../metrics',
            '/..//metrics',
          ],
        ];
        const shown: string[] = [];
        for (const target of spellings) {
          const answer = await raw(get(target, 'Connection: close'));
          if (answer.includes('roomcast_')) shown.push(target);
          // haproxy and Varnish compare the path as it came; the bridge, which they pass it to, knows no such route.
          else assert.match(answer.split('\r\n', 1)[0] ?? '', /^HTTP\/1\.[01] 4\d\d /, target);
        }
        assert.deepEqual(shown, []);
      });

      test('metrics stay inside for a second request on a connection that became a stream', async () => {
        const upgrade = ['Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13'];
        const key = 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==';
        const firsts = [
          get('/sse?tenantId=t&life=1'),
          get('/healthz', ...upgrade, key),
          get('/socket.io/?EIO=4&transport=websocket&sid=unknown', ...upgrade, key),
        ];
        for (const answer of await Promise.all(firsts.map((first) => raw(first + get('/metrics'))))) {
          assert.match(answer, /^HTTP\/1\.1 /);
          assert.ok(!answer.includes('roomcast_'), answer);
        }
      });

      test('no node is there: EventSource is told to come back, and does', async () => {
        // The next test is the last of this proxy: its bridge moves to the same port again.
        const { port } = new URL(bridge.url);
        await bridge.close();
        const codes: string[] = [];
        const source = new EventSource(`${url}/sse?tenantId=tenant-1&access_token=${SECRET}`);
        try {
          source.addEventListener('bridge.error', ({ data }) => codes.push(JSON.parse(data).code));
          await until('it is told', () => codes.includes('unavailable'));
          assert.notEqual(source.readyState, source.CLOSED);
          const other = await raw(get(`/sse?tenantId=tenant-1&access_token=${SECRET}`, 'Connection: close'));
          assert.ok(other === '' || /^HTTP\/1\.[01] 50[23] /.test(other), `others get the status: ${other}`);
          bridge = await startBridge({ port: Number(port) });
          const opened = new Promise((resolve) => source.addEventListener('bridge.cursor', resolve));
          await opened;
        } finally {
          source.close();
        }
      });

      test('no log holds a token of a URL, of the page that a request came from, or of a header', async () => {
        const headers = `Referer: https://app.example/?access_token=${SECRET}\r\nAuthorization: Bearer ${SECRET}\r\nCookie: access_token=${SECRET}`;
        const query = `tenantId=tenant-1&access_token=${SECRET}&pass=${SECRET}`;
        const targets = [
          ...[`/events?${query}`, `/sse?life=1&${query}`, `/socket.io/?EIO=4&transport=polling&${query}`],
          ...[`/metrics?${query}`, `/nowhere?${query}`, `http://127.0.0.1/events?${query}`, `/x/../../../y?${query}`],
          ...[`/%zz?${query}`, `/events#?${query}`, `/events?${query}&${'x'.repeat(100_000)}`],
        ];
        await Promise.all(targets.map((target) => raw(get(target, headers, 'Connection: close'))));
        // No valid request: bytes that no header may hold, a method and a version that do not exist, a broken upgrade.
        await raw(`GET /events?${query} HTTP/1.1\r\n${headers}\r\nHost: a b\r\nX: \u0001\r\n\r\n`);
        await raw(`GET  /events?${query} HTTP/9.9\r\n${headers}\r\n\r\n`);
        await raw(`BREW /events?${query} HTTP/1.1\r\nHost: a\r\n${headers}\r\nConnection: close\r\n\r\n`);
        await raw(
          `POST /events?${query} HTTP/1.1\r\nHost: a\r\n${headers}\r\nContent-Length: 9\r\nContent-Length: 8\r\n\r\n`,
        );
        await raw(
          get(`/socket.io/?EIO=4&transport=websocket&${query}`, headers, 'Connection: Upgrade', 'Upgrade: websocket'),
        );
        // A node that goes away while a stream is open.
        const stream = await fetch(`${url}/sse?${query}`, {
          headers: { referer: `https://app.example/?pass=${SECRET}` },
        });
        await bridge.close();
        await stream.text().catch(() => {});
        await raw(get(`/events?${query}`, headers, 'Connection: close'));
        await raw(get('/the-last', headers, 'Connection: close'));
        await until('all is logged', () => logged().includes('/the-last'));
        assert.ok(logged().includes('/events'), 'the path is logged');
        assert.doesNotMatch(logged(), new RegExp(`.*${SECRET}.*`));
      });
    });
  }
});
