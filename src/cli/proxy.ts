/**
 * The forward proxy that the environment names, by the usual rules: `HTTPS_PROXY` for https targets, `HTTP_PROXY` for
 * http targets (lower-case names win), `NO_PROXY` for targets that need no proxy.
 *
 * Node's agents send requests through the proxy: absolute-form for http, CONNECT for https. A WebSocket to an http target
 * also needs CONNECT, as browsers do it, because proxies do not forward an upgrade. `TunnelAgent` does that.
 */
import { Agent, type ClientRequestArgs, type IncomingMessage, request as requestHttp } from 'node:http';
import { Agent as HttpsAgent, request as requestHttps } from 'node:https';
import { isIPv6 } from 'node:net';
import type { Duplex } from 'node:stream';
import { UsageError } from './arguments.ts';

type Env = Readonly<Record<string, string | undefined>>;

/** @throws {UsageError} if the variable holds no http or https URL */
export function proxyFor(target: URL, env: Env): URL | null {
  const name = target.protocol === 'https:' ? 'https_proxy' : 'http_proxy';
  const text = (env[name] ?? env[name.toUpperCase()] ?? '').trim();
  if (text === '' || isExempt(target, env.no_proxy ?? env.NO_PROXY ?? '')) return null;
  const proxy = URL.parse(/^[a-z0-9+.-]+:\/\//i.test(text) ? text : `http://${text}`);
  if (proxy === null || !['http:', 'https:'].includes(proxy.protocol)) {
    throw new UsageError(`${name.toUpperCase()} must be a proxy's address such as http://host:port`);
  }
  return proxy;
}

/** Entries of NO_PROXY: `*`, a host, a host with a port, or a domain (with or without a leading dot) and its subdomains. */
function isExempt(target: URL, list: string): boolean {
  const host = bareHost(target);
  const port = target.port || (target.protocol === 'https:' ? '443' : '80');
  return list
    .split(/[\s,]+/)
    .filter((entry) => entry !== '')
    .some((entry) => {
      if (entry === '*') return true;
      const [, name = entry, entryPort = port] = (isIPv6(entry) ? null : /^(.*?)(?::(\d+))?$/.exec(entry)) ?? [];
      const bare = name.toLowerCase().replace(/^\*?\.|^\[|\]$/g, '');
      return entryPort === port && (host === bare || host.endsWith(`.${bare}`));
    });
}

function bareHost({ hostname }: URL): string {
  return hostname.replace(/^\[|\]$/g, '').toLowerCase();
}

/** `http.Agent` supports proxies since Node 22.21 and 24.5. */
export function canUseProxies(version = process.versions.node): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major > 24 || (major === 24 && minor >= 5) || (major === 22 && minor >= 21);
}

export interface Agents {
  readonly requests: Agent;
  readonly websocket: Agent;
  close(): void;
}

export function createAgents(target: URL, proxy: URL | null): Agents {
  const isSecure = target.protocol === 'https:';
  // No keep-alive: a proxy may close an idle connection just as the next request uses it, and Node does not retry.
  const options = proxy === null ? {} : { proxyEnv: { http_proxy: proxy.href, https_proxy: proxy.href } };
  const requests = isSecure ? new HttpsAgent(options) : new Agent(options);
  const websocket = proxy === null || isSecure ? requests : new TunnelAgent(proxy);
  return {
    requests,
    websocket,
    close() {
      requests.destroy();
      websocket.destroy();
    },
  };
}

type OnConnect = (error: Error | null, socket?: Duplex) => void;

class TunnelAgent extends Agent {
  readonly #proxy: URL;

  constructor(proxy: URL) {
    super();
    this.#proxy = proxy;
  }

  override createConnection({ host, port }: ClientRequestArgs, onConnect: OnConnect): undefined {
    const { protocol, username, password } = this.#proxy;
    const authority = `${host?.includes(':') ? `[${host}]` : host}:${port}`;
    const login = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
    const request = (protocol === 'https:' ? requestHttps : requestHttp)({
      host: bareHost(this.#proxy),
      port: this.#proxy.port || (protocol === 'https:' ? 443 : 80),
      method: 'CONNECT',
      path: authority,
      headers: {
        host: authority,
        ...(username === '' ? {} : { 'proxy-authorization': `Basic ${Buffer.from(login).toString('base64')}` }),
      },
      agent: false,
    });
    request.once('connect', ({ statusCode }: IncomingMessage, socket: Duplex) => {
      if (statusCode === 200) return onConnect(null, socket);
      socket.destroy();
      // The code that Node's own tunnels use.
      onConnect(Object.assign(new Error(`CONNECT ${statusCode}`), { code: 'ERR_PROXY_TUNNEL' }));
    });
    request.once('error', onConnect);
    request.end();
    return undefined;
  }
}
