/**
 * "Why does this user see nothing?" Ten ways in which a user of a real bridge sees nothing, each with the real thing broken:
 * real clients, real proxies on the way, a real disk limit, a real Redis. A support person asks the console in a real
 * Chromium, and its verdict must name the cause. Needs `npm run build:pages`.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { EventSource } from 'eventsource';
import { type Browser, chromium, type Page } from 'playwright-core';
import { io, type Socket } from 'socket.io-client';
import { admin, call, nowS, SECRET, sign } from '../operating/support.ts';
import { ticketUpdated } from '../support/bridge.ts';
import { CHROMIUM, FLAGS } from '../support/browser.ts';
import { type Obstacle, startObstacle } from '../support/obstacles.ts';
import { missing, type RedisServer, startRedis } from '../support/redis.ts';
import { type ServerProcess, startServer } from '../support/server.ts';
import { until } from '../support/until.ts';

const TENANT = 'acme';
const JWT = { AUTH_MODE: 'jwt', JWT_SECRET: SECRET, LOG_LEVEL: 'info', RETRY_MS: '200' };

describe('why does this user see nothing?', {
  skip: CHROMIUM === null ? 'chromium is not installed' : missing('redis-server'),
}, () => {
  let browser: Browser;
  let folder: string;
  let server: ServerProcess;
  let proxy: Obstacle;
  let page: Page;
  const closing: (() => unknown)[] = [];

  before(async () => {
    assert.ok(existsSync('dist/pages/console.html'), 'the pages are not built: npm run build:pages');
    folder = mkdtempSync(join(tmpdir(), 'roomcast-incident-'));
    server = await startServer({ ...JWT, STORE_URL: `sqlite:${join(folder, 'log.db')}` });
    // The network of an office: it lets no websocket through, and holds streams back until they end.
    proxy = await startObstacle(server.url, { upgrade: 'refuse', sse: 'hold' });
    browser = await chromium.launch({ executablePath: CHROMIUM as string, args: FLAGS });
    for (const ticketId of ['41', '42']) await publish(server, { ticketId });
    // Polling is the verdict only once there was time to upgrade, so this user comes first.
    const carla = customer(proxy.url, await sign({ tenantId: TENANT, sub: 'carla' }));
    await until('carla is connected', () => carla.connected);
    await carla.emitWithAck('join-ticket', '41');
    page = await openConsole(server.url);
  });
  after(async () => {
    for (const close of closing.reverse()) await close();
    await browser?.close();
    await proxy?.close();
    await server?.end('SIGKILL');
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  });

  async function publish(to: ServerProcess, ids: Record<string, unknown>, status = 201): Promise<void> {
    const token = await sign({ tenantId: '*', sub: 'helpdesk', scope: 'publish' });
    const payload = ticketUpdated({ tenantId: TENANT, agreementId: null, ...ids });
    const answer = await call(to, 'POST /events', token, { event: 'tickets.updated', payload });
    if (status !== 0) assert.equal(answer.status, status, answer.text);
  }

  /** A stock client, which comes back by itself. */
  function customer(url: string, token: string): Socket {
    const socket = io(url, { forceNew: true, reconnectionDelay: 200, auth: { token } });
    closing.push(() => socket.disconnect());
    return socket;
  }

  async function connected(sub: string, claims: object = {}): Promise<Socket> {
    const socket = customer(server.url, await sign({ tenantId: TENANT, sub, ...claims }));
    await until(`${sub} is connected`, () => socket.connected);
    return socket;
  }

  async function openConsole(url: string, locale = 'en-GB'): Promise<Page> {
    const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, locale });
    const token = await admin();
    await context.addInitScript(`sessionStorage.setItem('roomcast:console:token', ${JSON.stringify(token)})`);
    const opened = await context.newPage();
    opened.setDefaultTimeout(20_000);
    await opened.goto(`${url}/console#find`);
    await opened.getByRole('searchbox').first().waitFor();
    return opened;
  }

  /** Types into Find, as a person does, and waits until what it says of the person, or of the server, matches. */
  async function find(text: string, cause: RegExp, at: Page = page): Promise<void> {
    const field = at.getByRole('searchbox').first();
    await field.fill(text);
    await field.press('Enter');
    await says(cause, at);
  }

  async function says(cause: RegExp, at: Page): Promise<void> {
    let said = '';
    await until(`the console names the cause ${cause}`, async () => {
      said = await at.locator('main').innerText();
      return cause.test(said);
    }).catch((error: Error) => {
      throw new Error(`${error.message}; it says: ${said}`);
    });
  }

  it('expired token', async () => {
    customer(server.url, await sign({ tenantId: TENANT, sub: 'ana', exp: nowS() - 600 }));
    await find('ana', /Refused .*: the token has expired/);
  });

  it('wrong room', async () => {
    const bruno = await connected('bruno');
    await bruno.emitWithAck('join-ticket', '41');
    await publish(server, { ticketId: '42' });
    await find('bruno ticket:42', /in no room that hears ticket:42/);
  });

  it('revoked user', async () => {
    await connected('elisa');
    assert.equal((await call(server, 'POST /revocations', await admin(), { sub: 'elisa' })).status, 201);
    await find('elisa', /the token was revoked|were revoked/);
  });

  it('wrong tenant', async () => {
    const fabio = await connected('fabio', { tenantId: 'bolt' });
    // Accepted: there may be a ticket 41 in either tenant.
    assert.equal((await fabio.emitWithAck('join-ticket', '41')).ok, true);
    await find('fabio ticket:41', /belong to the tenant acme, but its token is for bolt/);
  });

  it('wrong tenant, asked for by name', async () => {
    const source = new EventSource(
      `${server.url}/sse?tenantId=${TENANT}&access_token=${await sign({ tenantId: 'bolt', sub: 'flavia' })}`,
    );
    closing.push(() => source.close());
    await find('flavia', /may not listen to tenant:acme: its claim tenantId names bolt/);
  });

  it('narrow token', async () => {
    const gabi = await connected('gabi', { ticketIds: ['7'] });
    assert.equal((await gabi.emitWithAck('join-ticket', '41')).ok, false);
    await find('gabi', /may not join ticket:41[\s\S]*its claim ticketIds limits it to other rooms/);
  });

  it('typo in a room', async () => {
    const hugo = await connected('hugo');
    assert.equal((await hugo.emitWithAck('join', 'tikcet:41')).ok, false);
    await find('hugo', /may not join tikcet:41: this is not the name of a room/);
    const iara = await connected('iara');
    await iara.emitWithAck('join-ticket', '4l');
    await find('iara ticket:41', /in no room that hears ticket:41; it asked for ticket:4l/);
    const joao = await sign({ tenantId: TENANT, sub: 'joao' });
    assert.equal((await call(server, 'GET /sse?tiketId=41', joao)).status, 400);
    await find('joao', /tiketId .*did you mean ticketId/);
  });

  it('held SSE', async () => {
    const token = await sign({ tenantId: TENANT, sub: 'davi' });
    const source = new EventSource(`${proxy.url}/sse?ticketId=41&access_token=${token}`);
    closing.push(() => source.close());
    let heard = 0;
    source.addEventListener('tickets.updated', () => heard++);
    await until('the bridge has it', async () => {
      const { body } = await call(server, 'GET /connections?sub=davi', await admin());
      return body.items.length === 1;
    });
    await publish(server, { ticketId: '41' });
    await find('davi ticket:41', /If nothing arrives, a proxy or virus scanner on the way holds the stream back/);
    assert.equal(heard, 0);
  });

  it('blocked websocket', async () => {
    await find('carla', /its network seems to block WebSockets/);
  });

  it('the same in Portuguese', async () => {
    const em = await openConsole(server.url, 'pt-BR');
    await find('ana', /o token expirou/, em);
    await em.context().close();
  });

  it('full disk', { skip: spawnSync('prlimit', ['--version']).error !== undefined && 'no prlimit' }, async () => {
    const full = await startServer({ ...JWT, STORE_URL: `sqlite:${join(folder, 'full.db')}` });
    closing.push(() => full.end('SIGKILL'));
    await publish(full, { ticketId: '41' });
    const at = await openConsole(full.url);
    execFileSync('prlimit', ['--pid', String(full.process.pid), '--fsize=1024:']);
    // The help desk goes on as it does.
    let isOver = false;
    closing.push(() => {
      isOver = true;
    });
    void (async () => {
      while (!isOver) {
        await publish(full, { ticketId: '41' }, 0).catch(() => {});
        await sleep(300);
      }
    })();
    await find('ana', /The log takes no writes[\s\S]*full disk/, at);
    await at.goto(`${full.url}/console#overview`);
    await says(/Takes no writes/i, at);
  });

  it('Redis away', async () => {
    const redis: RedisServer = await startRedis();
    closing.push(() => redis.stop());
    const node = await startServer({ ...JWT, STORE_URL: redis.url });
    closing.push(() => node.end('SIGKILL'));
    const at = await openConsole(node.url);
    await redis.kill();
    await find('ana', /Redis does not answer/, at);
    await at.goto(`${node.url}/console#overview`);
    await says(/Redis[\s\S]{0,80}(does not answer|away|not reached)/i, at);
  });
});
