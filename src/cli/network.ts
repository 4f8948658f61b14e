/** The `Network` of `roomcast check`: Node's own HTTP client, through a forward proxy if the environment names one. */
import { type Agent, type IncomingMessage, request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import { constants, createGunzip } from 'node:zlib';
import { io } from 'socket.io-client';
import type { CheckRequest, CheckResponse, Network } from '../check/network.ts';
import { CheckError, type FaultKind } from '../check/result.ts';
import { createAgents } from './proxy.ts';

export interface NodeNetwork extends Network {
  close(): void;
}

/**
 * @param base the bridge's URL, ending with a slash
 * @param socketPath overrides the path that the server reports; null: use that path
 */
export function createNodeNetwork(base: URL, proxy: URL | null, socketPath: string | null): NodeNetwork {
  const agents = createAgents(base, proxy);
  const send = base.protocol === 'https:' ? requestHttps : requestHttp;

  function request(path: string, { accept, signal }: CheckRequest): Promise<CheckResponse> {
    return new Promise((resolve, reject) => {
      const headers = {
        accept,
        'user-agent': 'roomcast-check',
        'accept-encoding': 'gzip',
        'cache-control': 'no-cache',
      };
      const outgoing = send(new URL(path, base), { agent: agents.requests, headers, signal });
      outgoing.once('response', (incoming) => {
        // An error in the body also rejects the loop that reads it; without a listener it would end the process.
        incoming.on('error', () => {});
        if (incoming.statusCode === 407) reject(new CheckError('proxy', '407'));
        else resolve(responseOf(incoming));
      });
      outgoing.once('error', (error) => reject(checkErrorOf(error, proxy !== null)));
      outgoing.end();
    });
  }

  return {
    request,
    connect(transport, { socketPath: reportedPath, timeoutMs, query }) {
      return io(new URL('/check', base).href, {
        path: socketPath ?? reportedPath,
        query,
        transports: [transport],
        forceNew: true,
        reconnection: false,
        timeout: timeoutMs,
        // Engine.IO's types know only the browser's string; in Node the option takes an http.Agent.
        agent: (transport === 'websocket' ? agents.websocket : agents.requests) as Agent & string,
      });
    },
    close: () => agents.close(),
  };
}

function responseOf(incoming: IncomingMessage): CheckResponse {
  const { statusCode: status = 0 } = incoming;
  return {
    status,
    wasRedirected: status >= 300 && status < 400,
    header(name) {
      const value = incoming.headers[name];
      return (Array.isArray(value) ? value.join(', ') : value) ?? null;
    },
    protocol: 'http/1.1',
    body: plainBodyOf(incoming),
  };
}

/** Uncompressed, as it arrives. Browsers ask for compression, so this client does, too. */
function plainBodyOf(incoming: IncomingMessage): AsyncIterable<Uint8Array> {
  if (incoming.headers['content-encoding'] !== 'gzip') return incoming;
  const plain = incoming.pipe(createGunzip({ flush: constants.Z_SYNC_FLUSH, finishFlush: constants.Z_SYNC_FLUSH }));
  incoming.on('error', (error) => plain.destroy(error)).on('aborted', () => plain.destroy());
  return plain;
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

function checkErrorOf(cause: NodeJS.ErrnoException, hasProxy: boolean): CheckError {
  const { code = '', message } = cause;
  const kind = /^(CERT_|ERR_TLS|ERR_SSL)/.test(code)
    ? 'tls'
    : code.startsWith('ERR_PROXY')
      ? 'proxy'
      : code.startsWith('HPE_')
        ? 'notOurs'
        : (KIND_OF_CODE[code] ?? 'unreachable');
  // With a proxy, Node resolves and connects to the proxy's host, so these faults are the proxy's.
  const isProxyFault = hasProxy && (kind === 'dns' || kind === 'refused');
  return new CheckError(isProxyFault ? 'proxy' : kind, code || message, { cause });
}
