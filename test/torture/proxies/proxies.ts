/**
 * Real intermediaries between the listeners and the bridge, each with a configuration made for this run: reverse proxies
 * that were set up with care and without, forward proxies of offices, and boxes that hold a response until it ends.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { createServer, request, type Server } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { join } from 'node:path';
import { freePort } from '../../support/ports.ts';
import { adopt } from '../server.ts';

/** How clients reach the bridge through it. */
export interface Way {
  readonly name: string;
  readonly url: string;
  /** What the proxy can be told by the response's headers: SSE must then pass unbuffered. */
  readonly heedsHeaders: boolean;
  readonly websocket: boolean;
  /** Cuts what is idle for so long; null: not within the run. */
  readonly idleMs: number | null;
}

export interface Proxies {
  readonly ways: readonly Way[];
  /** Not installed, or they did not start. */
  readonly absent: readonly string[];
  close(): Promise<void>;
}

const DIRECTORIES = ['/usr/sbin', '/usr/bin', '/usr/local/bin', '/usr/local/sbin'];

function find(program: string): string | null {
  return DIRECTORIES.map((directory) => join(directory, program)).find((path) => existsSync(path)) ?? null;
}

export async function startProxies(upstreamPort: number, directory: string): Promise<Proxies> {
  chmodSync(directory, 0o777);
  const ways: Way[] = [];
  const absent: string[] = [];
  const children: ChildProcess[] = [];
  const shims: Server[] = [];

  /** Starts a program in the foreground and waits until its ports take connections. */
  async function run(
    name: string,
    program: string,
    args: readonly string[],
    ports: readonly number[],
  ): Promise<boolean> {
    const path = find(program);
    if (path === null) {
      absent.push(`${name}: not installed`);
      return false;
    }
    const child = adopt(spawn(path, args, { stdio: ['ignore', 'ignore', 'pipe'] }));
    let errors = '';
    child.stderr?.on('data', (chunk) => {
      errors += chunk;
    });
    children.push(child);
    for (const port of ports) {
      if (await takesConnections(port, child)) continue;
      absent.push(`${name}: did not start: ${errors.trim().split('\n').at(-1)?.slice(0, 200)}`);
      return false;
    }
    return true;
  }
  const write = (file: string, text: string): string => {
    const path = join(directory, file);
    writeFileSync(path, text);
    return path;
  };
  const usual = { heedsHeaders: true, websocket: true, idleMs: null };
  const add = (name: string, port: number, what: Partial<Way> = {}): void =>
    void ways.push({ name, url: `http://127.0.0.1:${port}`, ...usual, ...what });
  const ports = async (count: number): Promise<number[]> => {
    const found: number[] = [];
    for (let index = 0; index < count; index++) found.push(await freePort());
    return found;
  };
  const up = `127.0.0.1:${upstreamPort}`;

  const [careless = 0, deaf = 0, good = 0] = await ports(3);
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((kind) => `${kind}_temp_path ${directory}/nginx-${kind};`)
    .join(' ');
  const nginx = write(
    'nginx.conf',
    `daemon off; worker_processes 1; pid ${directory}/nginx.pid; error_log ${directory}/nginx.log warn;
events { worker_connections 2048; }
http {
  access_log off; default_type text/plain; ${temporary}
  gzip on; gzip_types text/event-stream application/json text/plain; gzip_proxied any;
  map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
  upstream bridge { server ${up}; keepalive 64; }
  # Defaults: buffering on, HTTP/1.0 upstream, no Upgrade.
  server { listen 127.0.0.1:${careless}; location / { proxy_pass http://${up}; } }
  # The same, and the header that asks for no buffering is ignored.
  server { listen 127.0.0.1:${deaf}; location / { proxy_pass http://${up}; proxy_ignore_headers X-Accel-Buffering; } }
  server {
    listen 127.0.0.1:${good};
    proxy_http_version 1.1; proxy_set_header Host $http_host;
    proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;
    location / { proxy_pass http://bridge; }
    location /sse { proxy_pass http://bridge; proxy_buffering off; gzip off; }
  }
}
`,
  );
  if (await run('nginx', 'nginx', ['-p', directory, '-c', nginx], [careless, deaf, good])) {
    add('nginx, careless', careless, { websocket: false });
    add('nginx, deaf', deaf, { websocket: false, heedsHeaders: false });
    add('nginx, good', good);
  }

  const [plain = 0, noUpgrade = 0, short = 0, noDelay = 0] = await ports(4);
  const haproxy = write(
    'haproxy.cfg',
    `global
  maxconn 4000
defaults
  mode http
  timeout connect 5s
  timeout client 50s
  timeout server 50s
frontend plain
  bind 127.0.0.1:${plain}
  default_backend up
frontend noupgrade
  bind 127.0.0.1:${noUpgrade}
  http-request deny deny_status 403 if { req.hdr(Upgrade) -m found }
  default_backend up
frontend short
  bind 127.0.0.1:${short}
  default_backend up_short
frontend nodelay
  bind 127.0.0.1:${noDelay}
  option http-no-delay
  default_backend up_nodelay
backend up
  server s1 ${up}
backend up_nodelay
  option http-no-delay
  server s1 ${up}
backend up_short
  timeout server 3s
  timeout tunnel 3s
  server s1 ${up}
`,
  );
  if (await run('haproxy', 'haproxy', ['-f', haproxy, '-db'], [plain, noUpgrade, short, noDelay])) {
    add('haproxy, plain', plain);
    add('haproxy, no upgrade', noUpgrade, { websocket: false });
    add('haproxy, 3 s idle', short, { idleMs: 3_000 });
    add('haproxy, no delay', noDelay);
  }

  const [strict = 0, lax = 0] = await ports(2);
  const squid = write(
    'squid.conf',
    `http_port 127.0.0.1:${strict} name=strict
http_port 127.0.0.1:${lax} name=lax
acl strictport myportname strict
acl loop dst 127.0.0.0/8
http_access deny !loop
http_access deny CONNECT strictport
http_access allow loop
http_access deny all
cache deny all
pid_filename ${directory}/squid.pid
access_log none
cache_log ${directory}/squid.log
coredump_dir ${directory}
read_timeout 20 seconds
shutdown_lifetime 1 seconds
visible_hostname squid.test
pinger_enable off
`,
  );
  const forward = async (name: string, port: number, what: Partial<Way>): Promise<void> => {
    const shim = await startShim(port, upstreamPort);
    shims.push(shim);
    add(name, (shim.address() as AddressInfo).port, what);
  };
  if (await run('squid', 'squid', ['-N', '-f', squid], [strict, lax])) {
    await forward('squid, no CONNECT', strict, { websocket: false });
    await forward('squid, CONNECT', lax, { websocket: true });
  }

  const [tiny = 0] = await ports(1);
  const tinyproxy = write(
    'tinyproxy.conf',
    `Port ${tiny}\nListen 127.0.0.1\nTimeout 20\nMaxClients 200\nLogFile "${directory}/tinyproxy.log"\nLogLevel Warning\nAllow 127.0.0.1\nConnectPort 443\n`,
  );
  if (await run('tinyproxy', 'tinyproxy', ['-d', '-c', tinyproxy], [tiny])) {
    await forward('tinyproxy', tiny, { websocket: false });
  }

  const [holding = 0] = await ports(1);
  mkdirSync(join(directory, 'privoxy'), { recursive: true });
  write('privoxy/all.action', '{ +filter{hold} }\n/\n');
  write('privoxy/all.filter', 'FILTER: hold puts every text body through the filter buffer\ns@THIS-NEVER-MATCHES@x@\n');
  const privoxy = write(
    'privoxy.conf',
    `listen-address 127.0.0.1:${holding}\nconfdir ${directory}/privoxy\nlogdir ${directory}\nlogfile privoxy.log\nactionsfile all.action\nfilterfile all.filter\nbuffer-limit 4096\nsocket-timeout 60\n`,
  );
  if (await run('privoxy', 'privoxy', ['--no-daemon', privoxy], [holding])) {
    await forward('privoxy, filters', holding, { websocket: false, heedsHeaders: false });
  }

  const [mitm = 0] = await ports(1);
  const options = ['-q', '--set', `confdir=${directory}/mitm`, '--listen-host', '127.0.0.1', '-p', String(mitm)];
  if (await run('mitmproxy', 'mitmdump', options, [mitm])) {
    await forward('mitmproxy', mitm, { websocket: true, heedsHeaders: false });
  }

  return {
    ways,
    absent,
    async close() {
      for (const shim of shims) {
        shim.closeAllConnections();
        shim.close();
      }
      for (const child of children) child.kill('SIGTERM');
      await new Promise((resolve) => setTimeout(resolve, 300));
      for (const child of children) if (child.exitCode === null) child.kill('SIGKILL');
    },
  };
}

async function takesConnections(port: number, child: ChildProcess): Promise<boolean> {
  for (let tries = 0; tries < 100 && child.exitCode === null; tries++) {
    const open = await new Promise<boolean>((resolve) => {
      const socket = connect(port, '127.0.0.1', () => {
        socket.destroy();
        resolve(true);
      });
      socket.on('error', () => resolve(false));
    });
    if (open) return true;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return false;
}

/**
 * What a browser does that was told of a forward proxy: requests in absolute form, and CONNECT for websockets. Stock
 * clients of Node know no proxies, so they talk to this, which talks to the proxy.
 */
async function startShim(proxyPort: number, upstreamPort: number): Promise<Server> {
  const origin = `127.0.0.1:${upstreamPort}`;
  const server = createServer((incoming, outgoing) => {
    const onward = request(
      {
        ...{ host: '127.0.0.1', port: proxyPort, method: incoming.method, path: `http://${origin}${incoming.url}` },
        headers: { ...incoming.headers, host: origin },
      },
      (response) => {
        outgoing.writeHead(response.statusCode ?? 502, response.headers);
        outgoing.flushHeaders();
        response.pipe(outgoing);
        response.on('error', () => outgoing.destroy());
        response.on('aborted', () => outgoing.destroy());
      },
    );
    onward.on('error', () => outgoing.destroy());
    outgoing.on('close', () => onward.destroy());
    incoming.pipe(onward);
  });
  server.on('upgrade', (incoming, socket, head) => {
    const tunnel = connect(proxyPort, '127.0.0.1');
    tunnel.write(`CONNECT ${origin} HTTP/1.1\r\nHost: ${origin}\r\n\r\n`);
    tunnel.once('data', (answer) => {
      if (!/^HTTP\/1\.\d 200/.test(String(answer))) {
        socket.end('HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n');
        tunnel.destroy();
        return;
      }
      const headers = incoming.rawHeaders.reduce(
        (text, part, index, all) => (index % 2 === 0 ? `${text}${part}: ${all[index + 1]}\r\n` : text),
        '',
      );
      tunnel.write(`${incoming.method} ${incoming.url} HTTP/1.1\r\n${headers}\r\n`);
      tunnel.write(head);
      tunnel.pipe(socket).pipe(tunnel);
    });
    for (const end of [socket, tunnel]) {
      end.on('error', () => {}); // the close follows
      end.on('close', () => {
        socket.destroy();
        tunnel.destroy();
      });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return server;
}
