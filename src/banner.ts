/**
 * What a person sees when the server has started on a terminal: where things are, and who may come in. Programs read the
 * same facts from the log line `server up`.
 */
import { networkInterfaces } from 'node:os';
import { styleText } from 'node:util';
import { isLoopback } from './auth/hosts.ts';
import type { Listening } from './bridge.ts';
import type { Config } from './config.ts';
import { printable } from './contract/printable.ts';
import { version } from './http/node-monitor.ts';
import { withoutCredentials } from './store/open.ts';

/** Lines for standard output. */
export function bannerOf(config: Config, { host, port, metricsUrl }: Listening): string {
  const [first, ...others] = namesOf(host).map((name) => `http://${name}:${port}${config.basePath}`);
  const rows: [string, string | undefined][] = [
    ['Server', first],
    ...others.map((url): [string, string] => ['', url]),
    ['Console', `${first}/console`],
    ['Docs', `${first}/docs`],
    ['Check', `${first}/check`],
    ['Metrics', metricsUrl ?? `${first}/metrics`],
    ['Log', printable(withoutCredentials(config.storeUrl))],
    ['Access', accessOf(config)],
  ];
  const lines = rows.map(([label, value]) => `  ${paint('dim', label.padEnd(9))}${value}`);
  if (config.authMode === 'none' && !isLoopback(config.host)) {
    const warning = `Warning: everybody who reaches ${printable(config.host)} may publish, read and erase. Set AUTH_MODE=jwt.`;
    lines.push('', `  ${paint('yellow', warning)}`);
  }
  return ['', `  ${paint('bold', `Roomcast ${version}`)}`, '', ...lines, '', ''].join('\n');
}

function accessOf({ authMode, host, jwtSecret, jwtPublicKey, jwksUrl }: Config): string {
  if (authMode === 'none')
    return `no tokens needed${isLoopback(host) ? ', from this machine only' : ''} (AUTH_MODE=none)`;
  const keys = [jwtSecret && 'JWT_SECRET', jwtPublicKey && 'JWT_PUBLIC_KEY', jwksUrl && 'JWKS_URL'];
  return `tokens, verified by ${keys.filter((key) => key !== null).join(', ')} (AUTH_MODE=jwt)`;
}

/** What to write in a URL. Of an address that means all of this machine, the names that a person can open. */
function namesOf(host: string): readonly string[] {
  const address = host.replace(/^\[(.*)\]$/, '$1');
  if (address !== '0.0.0.0' && address !== '::') return [address.includes(':') ? `[${address}]` : address];
  const outside = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  return [
    'localhost',
    ...outside.filter(({ internal, family }) => !internal && family === 'IPv4').map(({ address }) => address),
  ];
}

function paint(style: Parameters<typeof styleText>[0], text: string): string {
  return styleText(style, text, { stream: process.stdout });
}
