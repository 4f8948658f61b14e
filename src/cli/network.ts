/** How `roomcast doctor` reaches a bridge: Node's own HTTP, through the proxy if there is one; each fault by its kind. */
import { type Agent, type IncomingMessage, request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import { io } from 'socket.io-client';
import { Fault, type FaultKind } from '../check/result.ts';
import type { Answer, Ask, Network } from '../check/run.ts';
import { createAgents } from './proxy.ts';

export interface NodeNetwork extends Network {
  close(): void;
}

/**
 * @param base the bridge, ending in a slash
 * @param socketPath goes before what the server says of itself; null: it does not
 */
export function createNodeNetwork(base: URL, proxy: URL | null, socketPath: string | null): NodeNetwork {
  const agents = createAgents(base, proxy);
  const send = base.protocol === 'https:' ? requestHttps : requestHttp;

  function request(path: string, { accept, signal }: Ask): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const headers = { accept, 'user-agent': 'roomcast-doctor', 'cache-control': 'no-cache' };
      const outgoing = send(new URL(path, base), { agent: agents.requests, headers, signal });
      outgoing.once('response', (incoming) => {
        // What comes over a body that broke off is told to whoever reads it.
        incoming.on('error', () => {});
        if (incoming.statusCode === 407) reject(new Fault('proxy', '407'));
        else resolve(answerOf(incoming));
      });
      outgoing.once('error', (error) => reject(faultOf(error, proxy !== null)));
      outgoing.end();
    });
  }

  return {
    request,
    connect(transport, itsPath, timeoutMs) {
      return io(new URL('/check', base).href, {
        path: socketPath ?? itsPath,
        transports: [transport],
        forceNew: true,
        reconnection: false,
        timeout: timeoutMs,
        // The types know browsers only.
        agent: (transport === 'websocket' ? agents.websocket : agents.requests) as Agent & string,
      });
    },
    close: () => agents.close(),
  };
}

function answerOf(incoming: IncomingMessage): Answer {
  const { statusCode: status = 0 } = incoming;
  return {
    status,
    wasRedirected: status >= 300 && status < 400,
    header(name) {
      const value = incoming.headers[name];
      return (Array.isArray(value) ? value.join(', ') : value) ?? null;
    },
    pieces: incoming,
  };
}

const KIND_OF_CODE: Readonly<Record<string, FaultKind>> = {
  ENOTFOUND: 'dns',
  EAI_AGAIN: 'dns',
  ECONNREFUSED: 'refused',
  ETIMEDOUT: 'timeout',
  EPROTO: 'tls',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'tls',
  SELF_SIGNED_CERT_IN_CHAIN: 'tls',
  UNABLE_TO_GET_ISSUER_CERT: 'tls',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'tls',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'tls',
};

function faultOf(cause: NodeJS.ErrnoException, hasProxy: boolean): Fault {
  const { code = '', message } = cause;
  const kind = /^(CERT_|ERR_TLS|ERR_SSL)/.test(code)
    ? 'tls'
    : code.startsWith('ERR_PROXY')
      ? 'proxy'
      : code.startsWith('HPE_')
        ? 'notOurs'
        : (KIND_OF_CODE[code] ?? 'unreachable');
  // It is the proxy's name that is looked up, and the proxy that refuses.
  const isProxys = hasProxy && (kind === 'dns' || kind === 'refused');
  return new Fault(isProxys ? 'proxy' : kind, code || message, { cause });
}
