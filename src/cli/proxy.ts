/**
 * The forward proxy that the environment names, as other command lines understand it: `HTTPS_PROXY` for https targets,
 * `HTTP_PROXY` for http ones (small letters go before capitals), `NO_PROXY` for what is reached without.
 *
 * Node's own agents take requests through it: absolute-form for http, CONNECT for https. A websocket to an http target
 * needs a CONNECT too, as browsers make it, since proxies do not pass an upgrade on; that agent is here.
 */
import { Agent, type ClientRequestArgs, type IncomingMessage, request as requestHttp } from 'node:http';
import { Agent as HttpsAgent, request as requestHttps } from 'node:https';
import { isIPv6 } from 'node:net';
import type { Duplex } from 'node:stream';
import { UsageError } from './arguments.ts';

type Env = Readonly<Record<string, string | undefined>>;

/** @throws {UsageError} when the variable does not name a proxy that can be used */
export function proxyFor(target: URL, env: Env): URL | null {
  const name = target.protocol === 'https:' ? 'https_proxy' : 'http_proxy';
  const given = (env[name] ?? env[name.toUpperCase()] ?? '').trim();
  if (given === '' || isExempt(target, env.no_proxy ?? env.NO_PROXY ?? '')) return null;
  const proxy = URL.parse(/^[a-z0-9+.-]+:\/\//i.test(given) ? given : `http://${given}`);
  if (proxy === null || !['http:', 'https:'].includes(proxy.protocol)) {
    throw new UsageError(`${name.toUpperCase()} takes http://host:port`, 'doctor');
  }
  return proxy;
}

/** `*`, a host, a host with a port, or a domain with or without its leading dot, which stands for all below it too. */
function isExempt(target: URL, list: string): boolean {
  const host = bareHost(target);
  const port = target.port || (target.protocol === 'https:' ? '443' : '80');
  return list
    .split(/[\s,]+/)
    .filter((entry) => entry !== '')
    .some((entry) => {
      if (entry === '*') return true;
      const [, name = entry, itsPort = port] = (isIPv6(entry) ? null : /^(.*?)(?::(\d+))?$/.exec(entry)) ?? [];
      const bare = name.toLowerCase().replace(/^\*?\.|^\[|\]$/g, '');
      return itsPort === port && (host === bare || host.endsWith(`.${bare}`));
    });
}

function bareHost({ hostname }: URL): string {
  return hostname.replace(/^\[|\]$/g, '').toLowerCase();
}

/** Node 22.21 and 24.5 brought proxies to `http.Agent`. */
export function canUseProxies(version = process.versions.node): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major > 24 || (major === 24 && minor >= 5) || (major === 22 && minor >= 21);
}

export interface Agents {
  readonly requests: Agent;
  readonly websocket: Agent;
  close(): void;
}

/** What requests and websockets to the target go through. */
export function createAgents(target: URL, proxy: URL | null): Agents {
  const isSecure = target.protocol === 'https:';
  // Each request on a connection of its own: a proxy may close one just as it is used again, and Node does not try anew.
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

type Connected = (error: Error | null, socket?: Duplex) => void;

class TunnelAgent extends Agent {
  readonly #proxy: URL;

  constructor(proxy: URL) {
    super();
    this.#proxy = proxy;
  }

  override createConnection({ host, port }: ClientRequestArgs, connected: Connected): undefined {
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
      if (statusCode === 200) return connected(null, socket);
      socket.destroy();
      connected(tunnelError(`CONNECT ${statusCode}`));
    });
    request.once('error', connected);
    request.end();
    return undefined;
  }
}

/** With the code that Node's own tunnels have. */
function tunnelError(message: string): Error {
  return Object.assign(new Error(message), { code: 'ERR_PROXY_TUNNEL' });
}
