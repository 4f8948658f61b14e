/**
 * protocol §11 in a real browser, against a bridge without configuration: a page of this machine on another port uses every
 * transport, directly and through a development proxy; a page of another site, or one that rebinds its name, uses none.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createServer, request } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { type Browser, chromium } from 'playwright-core';
import { startBridge, type TestBridge, ticketUpdated } from '../support/bridge.ts';
import { CHROMIUM, FLAGS } from '../support/browser.ts';

const CLIENT = readFileSync('node_modules/socket.io-client/dist/socket.io.min.js');

/** What a page gets from `base`, by transport: an event that it published, or `refused`. */
const TRY = `async (base) => {
  const body = (tenantId) => JSON.stringify({ event: 'tickets.updated', payload: { ...window.ticket, tenantId } });
  const publish = async (tenantId) => {
    const headers = { 'content-type': 'application/json', 'idempotency-key': crypto.randomUUID?.() ?? tenantId };
    return (await fetch(base + '/events', { method: 'POST', headers, credentials: 'include', body: body(tenantId) })).status;
  };
  const silence = () => new Promise((resolve) => setTimeout(resolve, 10_000, 'silent'));
  const outcome = (attempt) => Promise.race([attempt().catch(() => 'refused'), silence()]);
  const socket = (transport) => new Promise((resolve, reject) => {
    const client = io(base || undefined, { transports: [transport], reconnection: false, withCredentials: true });
    client.on('connect_error', reject);
    client.on('tickets.updated', () => resolve('heard'));
    client.on('connect', () => client.emit('join-tenant', transport, () => publish(transport)));
  });
  const found = {
    publish: await outcome(async () => String(await publish('p'))),
    poll: await outcome(async () => {
      const response = await fetch(base + '/events?tenantId=p', { credentials: 'include', headers: { 'if-none-match': 'x' } });
      return response.ok ? 'heard ' + (await response.json()).events.length : 'refused';
    }),
    sse: await outcome(() => new Promise((resolve, reject) => {
      const source = new EventSource(base + '/sse?tenantId=sse', { withCredentials: true });
      source.onerror = reject;
      source.addEventListener('tickets.updated', () => resolve('heard'));
      source.onopen = () => publish('sse');
    })),
    websocket: await outcome(() => socket('websocket')),
    polling: await outcome(() => socket('polling')),
  };
  return found;
}`;
const EVERYTHING = { publish: '201', poll: 'heard 1', sse: 'heard', websocket: 'heard', polling: 'heard' };
const NOTHING = { publish: 'refused', poll: 'refused', sse: 'refused', websocket: 'refused', polling: 'refused' };

describe('in Chromium', { skip: CHROMIUM === null ? 'chromium is not installed' : false }, () => {
  let bridge: TestBridge;
  let browser: Browser;
  let port: number;
  /** Serves the page and, as a development server does, passes the bridge's paths on with the bridge's own Host. */
  const server = createServer((incoming, outgoing) => {
    if (incoming.url === '/socket.io.js') return outgoing.end(CLIENT);
    if (incoming.url === '/page') {
      const ticket = JSON.stringify(ticketUpdated());
      outgoing.writeHead(200, { 'content-type': 'text/html' });
      return outgoing.end(`<script src="/socket.io.js"></script><script>window.ticket = ${ticket}</script>`);
    }
    const { host } = new URL(bridge.url);
    const options = { method: incoming.method, headers: { ...incoming.headers, host } };
    const passed = request(bridge.url + incoming.url, options, (answer) => {
      outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(outgoing);
    });
    outgoing.on('close', () => passed.destroy());
    passed.on('error', () => outgoing.destroy());
    incoming.pipe(passed);
  });
  server.on('upgrade', (incoming, socket) => {
    const { host, port: bridgePort } = new URL(bridge.url);
    const upstream = connect(Number(bridgePort), '127.0.0.1');
    const lines = Object.entries({ ...incoming.headers, host }).map(([name, value]) => `${name}: ${value}\r\n`);
    upstream.write(`GET ${incoming.url} HTTP/1.1\r\n${lines.join('')}\r\n`);
    upstream.pipe(socket).pipe(upstream);
    for (const end of [upstream, socket]) end.on('error', () => end.destroy());
  });

  before(async () => {
    bridge = await startBridge();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    port = (server.address() as AddressInfo).port;
    const rules = '--host-resolver-rules=MAP *.test 127.0.0.1';
    browser = await chromium.launch({
      executablePath: CHROMIUM as string,
      args: [...FLAGS, rules, '--disable-features=LocalNetworkAccessChecks'],
    });
  });
  after(async () => {
    await browser.close();
    await bridge.close();
    server.closeAllConnections();
    server.close();
  });

  async function tryFrom(origin: string, base: string): Promise<unknown> {
    const context = await browser.newContext();
    const page = await context.newPage();
    // A page that rebinds its name came from the attacker's address, before the name led to the bridge.
    await page.route(/\/(page|socket\.io\.js)$/, async (route) => {
      const { pathname } = new URL(route.request().url());
      await route.fulfill({ response: await route.fetch({ url: `http://127.0.0.1:${port}${pathname}` }) });
    });
    await page.goto(`${origin}/page`);
    const found = await page.evaluate(`(${TRY})(${JSON.stringify(base)})`);
    await context.close();
    return found;
  }

  test('a page of this machine on another port uses every transport', async () => {
    for (const origin of [`http://127.0.0.1:${port}`, `http://localhost:${port}`]) {
      for (const base of [bridge.url, bridge.url.replace('127.0.0.1', 'localhost')]) {
        assert.deepEqual(await tryFrom(origin, base), { ...EVERYTHING, poll: await heardOf() }, `${origin} ${base}`);
      }
    }
  });

  test('so does a page behind a development proxy that rewrites Host', async () => {
    assert.deepEqual(await tryFrom(`http://localhost:${port}`, ''), { ...EVERYTHING, poll: await heardOf() });
  });

  test('a page of another site, and one that rebinds its name to the bridge, use none', async () => {
    assert.deepEqual(await tryFrom(`http://evil.test:${port}`, bridge.url), NOTHING);
    const rebound = `http://rebound.test:${new URL(bridge.url).port}`;
    assert.deepEqual(await tryFrom(rebound, ''), { ...NOTHING, publish: '421' });
  });

  /** Each publish of `p` was one more record. */
  async function heardOf(): Promise<string> {
    const response = await fetch(`${bridge.url}/events?tenantId=p`);
    return `heard ${((await response.json()) as { events: unknown[] }).events.length}`;
  }
});
