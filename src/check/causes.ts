/**
 * The cause of a failure, where the measurements name it: most often a reverse proxy in front of the server that needs a
 * few lines. Headers by which proxies introduce themselves are hints only: they choose which lines a reader sees, and
 * whether the proxy is the server's or the reader's. Pure; texts.ts has the words.
 */
import type { CheckResult, Greeting } from './result.ts';

/** Reverse proxies whose configuration the check knows. */
export type ProxyName = 'nginx' | 'apache' | 'caddy' | 'haproxy' | 'traefik';

export type CauseCode =
  /** A proxy in front of the server sent the handshake on without `Upgrade`, or with a `Connection` that voids it. */
  | 'upgradeDropped'
  /** The same, by a proxy in the reader's network. */
  | 'upgradeDroppedOnTheWay'
  /** The handshake never reached the server. */
  | 'upgradeStopped'
  | 'buffered'
  | 'compressed'
  /** The requests of one Socket.IO session go to several nodes. */
  | 'notSticky'
  | 'idle';

export interface Cause {
  readonly code: CauseCode;
  readonly values: Readonly<Record<string, string | number>>;
  /** Null: a proxy that does not introduce itself. */
  readonly proxy: ProxyName | null;
  /** Of the proxy; if it is unknown, of each that is configured so. */
  readonly remedies: readonly Remedy[];
}

export interface Remedy {
  readonly proxy: ProxyName;
  /** Lines of its configuration. docs/check.md says where they go. */
  readonly lines: string;
}

const APACHE_PASS = 'ProxyPass "/" "http://127.0.0.1:4003/" upgrade=websocket';
const LINES: Readonly<Partial<Record<CauseCode, Readonly<Partial<Record<ProxyName, string>>>>>> = {
  upgradeDropped: {
    nginx: 'proxy_http_version 1.1;\nproxy_set_header Upgrade $http_upgrade;\nproxy_set_header Connection "upgrade";',
    apache: APACHE_PASS,
  },
  buffered: {
    nginx: 'proxy_buffering off;',
    apache: `SetEnv no-gzip 1\n${APACHE_PASS} flushpackets=on`,
    caddy: 'flush_interval -1',
    haproxy: 'option http-no-delay',
  },
  compressed: { apache: 'SetEnv no-gzip 1', caddy: 'encode {\n\tmatch not header Content-Type text/event-stream*\n}' },
  notSticky: {
    nginx: 'ip_hash;',
    caddy: 'lb_policy ip_hash',
    haproxy: 'balance source\nhash-type consistent',
    traefik: 'traefik.http.services.roomcast.loadbalancer.sticky.cookie=true',
  },
  idle: {
    nginx: 'proxy_read_timeout 75s;\nproxy_send_timeout 75s;',
    apache: 'Timeout 75\nProxyTimeout 75',
    haproxy: 'timeout client 75s\ntimeout server 75s\ntimeout tunnel 1h',
  },
};

/** @param failing what the verdict found. `cutMs`: after how much quiet a connection ended; null if none did */
export function causesOf(
  { websocket, polling, sse }: CheckResult,
  greeting: Greeting,
  failing: {
    readonly websocket: boolean;
    readonly sse: boolean;
    readonly polling: boolean;
    readonly cutMs: number | null;
  },
): Cause[] {
  const { proxy, via } = frontOf(greeting);
  /** Whether the fault may be in front of the server, and not in the reader's network. */
  const isOurs = via === null;
  const causes: Cause[] = [];
  const add = (code: CauseCode, values: Cause['values'] = {}): void => {
    const lines = Object.entries(LINES[code] ?? {}) as [ProxyName, string][];
    const remedies = lines
      .filter(([name]) => proxy === null || name === proxy)
      .map(([name, text]) => ({ proxy: name, lines: text }));
    causes.push({ code, values, proxy, remedies });
  };

  const { handshake } = websocket;
  if (failing.websocket && handshake !== null) {
    const isProxyFault = websocket.frames?.fault?.kind === 'proxy';
    if (handshake.kind === 'absent' && !isProxyFault) add('upgradeStopped');
    if (handshake.kind === 'arrived' && !(handshake.hasUpgrade && handshake.hasConnection)) {
      if (isOurs) add('upgradeDropped', { http: handshake.httpVersion });
      else add('upgradeDroppedOnTheWay', { via });
    }
  }
  if (failing.sse && isOurs) {
    // nginx compresses a stream piece by piece.
    if (sse.encoding !== null && proxy !== 'nginx') add('compressed', { encoding: sse.encoding });
    else if (proxy !== null) add('buffered');
  }
  const hasStrayed = polling.frames?.fault?.kind === 'otherNode';
  if (hasStrayed || (failing.polling && greeting.nodes > 1)) add('notSticky');
  if (failing.cutMs !== null && isOurs && proxy !== null)
    add('idle', { seconds: Math.round(failing.cutMs / 100) / 10 });
  return causes;
}

/** Intermediaries that name themselves in `Via` and stand in front of servers. */
const REVERSE = /caddy|varnish|cloudfront|google|vegur|fastly|envoy/i;

/** The proxy in front of the server. `via` names the proxy of the reader's network, where that one is at fault. */
function frontOf({ server, via, httpVersion, proxyHeaders }: Greeting): {
  readonly proxy: ProxyName | null;
  readonly via: string | null;
} {
  const named = `${server ?? ''} ${via ?? ''}`;
  const forward = via !== null && !REVERSE.test(via) ? via : null;
  const hasServerName = proxyHeaders.includes('x-forwarded-server');
  let proxy: ProxyName | null = null;
  if (/nginx|openresty|tengine/i.test(named)) proxy = 'nginx';
  else if (/caddy/i.test(named)) proxy = 'caddy';
  else if (/apache/i.test(named)) proxy = 'apache';
  else if (hasServerName) proxy = proxyHeaders.includes('x-real-ip') ? 'traefik' : 'apache';
  // Only nginx still speaks HTTP/1.0 by default. Forward proxies that do so name themselves.
  else if (httpVersion === '1.0' && forward === null) proxy = 'nginx';
  // Behind both, HTTP/1.0 on the last hop is the reverse proxy's, and such a hop carries no upgrade.
  const isReverse = forward === null || (proxy !== null && httpVersion === '1.0');
  return { proxy, via: isReverse ? null : forward };
}
