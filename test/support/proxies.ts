/**
 * Real intermediaries in front of a bridge, each configured as people have them: nginx with its defaults and with one
 * that ignores what the answer says of buffering, or with a short timeout; Apache without `upgrade=`; haproxy that refuses upgrades, or goes round two nodes; squid and tinyproxy as forward proxies.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, chmodSync, constants, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { freePort } from './ports.ts';
import { until } from './until.ts';

export type ProxyName =
  | 'nginx'
  | 'nginx, buffering'
  | 'nginx, impatient'
  | 'apache2'
  | 'haproxy'
  | 'haproxy, two nodes'
  | 'squid'
  | 'tinyproxy';

/** The program's path, or null when it is not installed. */
export function programPath(name: string): string | null {
  for (const directory of [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/usr/bin']) {
    try {
      accessSync(join(directory, name), constants.X_OK);
      return join(directory, name);
    } catch {
      // Not in this one.
    }
  }
  return null;
}

export const programOf = (name: ProxyName): string => name.split(',')[0] as string;

export interface Proxy {
  /** Reverse proxies: in place of the bridge. Forward proxies: what a browser is told to use. */
  readonly url: string;
  close(): Promise<void>;
}

function isListening(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.on('connect', () => resolve(true)).on('error', () => resolve(false));
    socket.on('connect', () => socket.destroy());
  });
}

/**
 * @param upstreamUrl the bridge, or several nodes with commas between them; forward proxies do not need it
 * @param lines in addition, for nginx's `location`
 */
export async function startProxy(name: ProxyName, upstreamUrl: string, lines = ''): Promise<Proxy> {
  const directory = mkdtempSync(join(tmpdir(), 'roomcast-proxy-'));
  // Proxies give up root for a user of their own.
  chmodSync(directory, 0o777);
  const port = await freePort();
  const file = join(directory, 'proxy.conf');
  const { text, args } = CONFIGS[name](
    port,
    upstreamUrl
      .split(',')
      .map((url) => new URL(url).host)
      .join(','),
    directory,
    file,
    lines,
  );
  writeFileSync(file, text);
  const child: ChildProcess = spawn(programPath(programOf(name)) as string, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (chunk) => {
      output += chunk;
    });
  }
  await until(`${name} listens`, async () => {
    if (child.exitCode !== null) throw new Error(`${name} did not start: ${output}`);
    return isListening(port);
  });
  return {
    url: `http://127.0.0.1:${port}`,
    async close() {
      const exited = once(child, 'exit');
      child.kill('SIGKILL');
      await exited;
      // nginx's workers and squid's child end a moment after their master.
      await until(`${name} is gone`, async () => !(await isListening(port)));
      rmSync(directory, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

const nginx = (own: string) => (port: number, upstream: string, directory: string, file: string, more: string) => ({
  text: `
    daemon off; master_process off; pid ${directory}/pid; error_log ${directory}/error warn;
    events { worker_connections 512; }
    http {
      access_log off;
      client_body_temp_path ${directory}/1; proxy_temp_path ${directory}/2; fastcgi_temp_path ${directory}/3;
      uwsgi_temp_path ${directory}/4; scgi_temp_path ${directory}/5;
      gzip on; gzip_types text/event-stream application/json; gzip_proxied any;
      server { listen 127.0.0.1:${port}; location / { proxy_pass http://${upstream}; ${own} ${more} } }
    }`,
  args: ['-p', directory, '-c', file],
});

const apache = (port: number, upstream: string, directory: string, file: string) => ({
  text: `
    ServerRoot ${directory}
    PidFile ${directory}/pid
    ErrorLog ${directory}/error
    ServerName localhost
    Listen 127.0.0.1:${port}
    ${['mpm_event', 'authz_core', 'proxy', 'proxy_http']
      .map((module) => `LoadModule ${module}_module /usr/lib/apache2/modules/mod_${module}.so`)
      .join('\n')}
    ProxyPass "/" "http://${upstream}/"
  `,
  args: ['-X', '-f', file],
});

const CONFIGS: Readonly<
  Record<
    ProxyName,
    (port: number, upstream: string, directory: string, file: string, more: string) => { text: string; args: string[] }
  >
> = {
  nginx: nginx(''),
  'nginx, buffering': nginx('proxy_ignore_headers X-Accel-Buffering;'),
  'nginx, impatient': nginx('proxy_read_timeout 1s;'),
  apache2: apache,
  'haproxy, two nodes': (port, upstream, _directory, file) => ({
    text: `
defaults
  mode http
  timeout connect 5s
  timeout client 50s
  timeout server 50s
frontend front
  bind 127.0.0.1:${port}
  default_backend back
backend back
  balance roundrobin
${upstream
  .split(',')
  .map((host, n) => `  server node${n} ${host}`)
  .join('\n')}
`,
    args: ['-db', '-f', file],
  }),
  haproxy: (port, upstream, _directory, file) => ({
    text: `
defaults
  mode http
  timeout connect 5s
  timeout client 50s
  timeout server 50s
frontend front
  bind 127.0.0.1:${port}
  http-request deny deny_status 403 if { req.hdr(Upgrade) -m found }
  default_backend back
backend back
  server one ${upstream}
`,
    args: ['-db', '-f', file],
  }),
  squid: (port, _upstream, directory, file) => ({
    text: `
http_port 127.0.0.1:${port}
acl CONNECT method CONNECT
acl loop dst 127.0.0.0/8
http_access deny CONNECT
http_access allow loop
http_access deny all
cache deny all
pid_filename ${directory}/pid
access_log none
cache_log ${directory}/log
coredump_dir ${directory}
shutdown_lifetime 0 seconds
visible_hostname proxy.test
pinger_enable off
`,
    args: ['-N', '-f', file],
  }),
  tinyproxy: (port, _upstream, _directory, file) => ({
    text: `Port ${port}\nListen 127.0.0.1\nTimeout 20\nMaxClients 100\nLogLevel Warning\nAllow 127.0.0.1\nConnectPort 443\n`,
    args: ['-d', '-c', file],
  }),
};
