/**
 * `/console` in a real Chromium against a real bridge: what an operator sees and does, by mouse and keyboard, with and
 * without tokens; and what the page must never do: contact another origin, break its policy, or run an event's content.
 * Needs `npm run build:pages`.
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { after, afterEach, before, describe, test } from 'node:test';
import { SignJWT } from 'jose';
import { type Browser, type BrowserContextOptions, chromium, type Locator, type Page } from 'playwright-core';
import type { Config } from '../../src/config.ts';
import { TRANSPORTS } from '../../src/contract/names.ts';
import { messageNew, startBridge, type TestBridge, ticketUpdated } from '../support/bridge.ts';
import { CHROMIUM, FLAGS } from '../support/browser.ts';
import { freePort } from '../support/ports.ts';
import { until } from '../support/until.ts';

const VIEWS = ['overview', 'tail', 'publish', 'parity'] as const;
const SECRET = 'a secret of at least thirty-two bytes';
const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');

const token = (claims: object): Promise<string> =>
  new SignJWT({ ...claims })
    .setProtectedHeader({ alg: 'HS256' })
    .setExpirationTime('1h')
    .sign(new TextEncoder().encode(SECRET));

/** A page, its errors and the URLs that it requested. */
interface Watched {
  readonly page: Page;
  readonly faults: string[];
  readonly urls: string[];
}

describe('the console in Chromium', { skip: CHROMIUM === null ? 'chromium is not installed' : false }, () => {
  let browser: Browser;
  before(async () => {
    assert.ok(existsSync('dist/pages/console.html'), 'the pages are not built: npm run build:pages');
    browser = await chromium.launch({ executablePath: CHROMIUM as string, args: FLAGS });
  });
  after(() => browser.close());
  const closing: (() => unknown)[] = [];
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close();
  });

  async function start(options: Partial<Config> = {}): Promise<TestBridge> {
    const bridge = await startBridge(options);
    closing.push(bridge.close);
    return bridge;
  }

  /** Opens a view in a fresh page. `faults` collects console errors, page errors and policy violations. */
  async function open(url: string, view = 'overview', options: BrowserContextOptions = {}): Promise<Watched> {
    const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
    closing.push(() => context.close());
    const page = await context.newPage();
    page.setDefaultTimeout(20_000);
    const faults: string[] = [];
    const urls: string[] = [];
    page.on('console', (message) => {
      if (message.type() === 'error' || message.type() === 'warning') faults.push(message.text());
    });
    page.on('pageerror', (error) => faults.push(error.message));
    page.on('request', (request) => urls.push(request.url()));
    page.on('websocket', (socket) => urls.push(socket.url().replace(/^ws/, 'http')));
    await page.goto(`${url}/console#${view}`);
    await page.getByText('Server up').waitFor();
    return { page, faults, urls };
  }

  async function tail(page: Page, id: string, kind = 'tenant'): Promise<void> {
    await page.getByLabel('Kind').selectOption(kind);
    await page.getByLabel('Id', { exact: true }).fill(id);
    await page.getByRole('button', { name: 'Tail this room' }).click();
    await page.getByText('Tail: live over').waitFor();
  }

  async function goTo(page: Page, view: (typeof VIEWS)[number]): Promise<void> {
    await page.locator(`nav a[href="#${view}"]`).click();
    await page.locator(`nav a[href="#${view}"][aria-current=page]`).waitFor();
  }

  async function connectAll(page: Page): Promise<void> {
    await page.getByRole('button', { name: 'Connect all four' }).click();
    await until('all four open', async () => (await page.locator('[data-state=open]').count()) === 4);
  }

  const events = (page: Page): Locator => page.locator('[role=listbox] [role=option]');

  const overflow = (page: Page): Promise<number> =>
    page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth');

  test('every view loads without an error and contacts only the bridge', async () => {
    const bridge = await start({ extraEvents: ['leads.updated'] });
    await bridge.publish('tickets.updated', ticketUpdated());
    const { page, faults, urls } = await open(bridge.url);
    for (const view of VIEWS) {
      await goTo(page, view);
    }
    await connectAll(page);
    await goTo(page, 'tail');
    await tail(page, 'tenant-1');
    assert.deepEqual(faults, []);
    const { origin } = new URL(bridge.url);
    assert.deepEqual(
      urls.filter((url) => new URL(url).origin !== origin && !url.startsWith('data:')),
      [],
    );
  });

  for (const address of ['', '/a/b', '/a/b/']) {
    test(`the address ${address || '/'} redirects to it, and it links to the check and the reference`, async () => {
      const bridge = await start({ basePath: address.replace(/\/$/, '') });
      const { page } = await open(bridge.url);
      for (const [link, title] of [
        ['connection check', 'Connection check · Roomcast'],
        ['reference', 'Roomcast API'],
      ] as const) {
        await page.goto(new URL(address, bridge.url).href);
        await page.getByText('Server up', { exact: true }).waitFor();
        assert.equal(page.url(), `${bridge.url}/console`);
        await page.getByRole('link', { name: link }).click();
        await until(title, async () => (await page.title()) === title);
      }
    });
  }

  test('statistics, charts and rooms; a click tails a room', async () => {
    const bridge = await start();
    const { page } = await open(bridge.url);
    await bridge.publish('tickets.updated', ticketUpdated());
    await page.getByRole('button', { name: 'tenant:tenant-1' }).waitFor();
    assert.equal(await page.locator('canvas').count(), 2);
    await page.getByText('As a table').first().click();
    await until('a table of the chart', async () => (await page.locator('.chart tbody tr').count()) > 1);
    await page.getByRole('button', { name: 'Listeners' }).click();
    await page.getByText('No listeners on this node').waitFor();
    await page.getByRole('button', { name: 'Show rooms with traffic' }).click();
    await page.getByRole('button', { name: 'tenant:tenant-1' }).click();
    await page.getByText('Tail: live over websocket').waitFor();
    assert.match(page.url(), /#tail$/);
    // The room's history from the log appears at once.
    await events(page).filter({ hasText: 'tickets.updated' }).first().waitFor();
  });

  test('the tail shows the active signals of its rooms, as text, until they end', async () => {
    const bridge = await start({ signals: ['tickets.typing'] });
    const { page, faults } = await open(bridge.url, 'tail');
    await tail(page, 'ticket-9', 'ticket');
    const send = (ttlSeconds: number) =>
      bridge.signal('tickets.typing', 'ticket:ticket-9', { name: '<img src=x onerror=alert(1)>' }, { ttlSeconds });
    await send(60);
    await page.getByRole('row', { name: 'tickets.typing ticket:ticket-9' }).getByText('<img src=x').waitFor();
    assert.equal(await events(page).count(), 0, 'a signal is no event');
    await send(0);
    await page.getByText('Active signals').waitFor({ state: 'detached' });
    assert.deepEqual(faults, []);
  });

  test('the tail shows new events, filters, pauses and copies', async () => {
    const bridge = await start();
    const { page } = await open(bridge.url, 'tail');
    await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
    await tail(page, 'tenant-1');
    const published = await bridge.publish('messages.new', messageNew());
    const row = events(page).filter({ hasText: published.id });
    await row.click();
    await page.getByLabel('Payload as JSON').getByText('"tenantId": "tenant-1"').waitFor();
    await page.getByRole('button', { name: 'Copy payload' }).click();
    await page.getByText('Copied').waitFor();
    const copied = JSON.parse(await page.evaluate<string>('navigator.clipboard.readText()')) as { tenantId: string };
    assert.equal(copied.tenantId, 'tenant-1');

    await page.getByRole('button', { name: 'Pause' }).click();
    await bridge.publish('tickets.updated', ticketUpdated());
    await page.getByText('Paused: 1 new').waitFor();
    assert.equal(await events(page).count(), 1);
    await page.getByRole('button', { name: 'Continue' }).click();
    await until('both', async () => (await events(page).count()) === 2);

    await page.getByLabel('Filter by event').selectOption('messages.new');
    await until('filtered', async () => (await events(page).count()) === 1);
    await bridge.publish('tickets.updated', ticketUpdated());
    const { id } = await bridge.publish('messages.new', messageNew());
    await events(page).filter({ hasText: id }).waitFor();
    assert.equal(await events(page).count(), 2);
    await page.getByRole('button', { name: 'Clear' }).click();
    await page.getByText('No events yet').waitFor();
    await page.getByRole('button', { name: 'Stop tailing tenant:tenant-1' }).click();
    await page.getByText('Tail: no rooms').waitFor();
  });

  test('the tail keeps the newest 500 events', async () => {
    const bridge = await start();
    const { page, faults } = await open(bridge.url, 'tail');
    await tail(page, 'tenant-1');
    let last = '';
    for (let batch = 0; batch < 30; batch++) {
      const events = Array.from({ length: 100 }, () => ({ event: 'tickets.updated', payload: ticketUpdated() }));
      last = (await bridge.post({ events })).body.results.at(-1)?.id ?? '';
    }
    await events(page).filter({ hasText: last }).waitFor();
    await page.getByText('The newest 500').waitFor();
    assert.equal(await events(page).first().getAttribute('aria-setsize'), '500');
    assert.ok((await events(page).count()) < 100, 'only the visible rows are rendered');
    await until('it scrolls as if all were there', () =>
      page.evaluate<boolean>(`(() => {
        const list = document.querySelector('[role=listbox]');
        const row = list.querySelector('[role=option]').getBoundingClientRect().height;
        return Math.abs(list.scrollHeight - 500 * row) < row;
      })()`),
    );
    await page.getByRole('listbox').focus();
    await page.keyboard.press('End');
    await until('the last of them', async () => (await events(page).last().getAttribute('aria-posinset')) === '500');
    assert.equal(await events(page).last().getAttribute('aria-selected'), 'true');
    assert.deepEqual(faults, []);
  });

  test('new events do not move the rows of a list that is scrolled down', async () => {
    const bridge = await start();
    const { page } = await open(bridge.url, 'tail');
    await tail(page, 'tenant-1');
    const publishMore = (): Promise<unknown> =>
      bridge.post({
        events: Array.from({ length: 50 }, () => ({ event: 'tickets.updated', payload: ticketUpdated() })),
      });
    await publishMore();
    await page.getByText('50 shown').waitFor();
    await page.getByRole('listbox').hover();
    await page.mouse.wheel(0, 600);
    const topmost = (): Promise<string> =>
      page.evaluate(`(() => {
        const { left, top } = document.querySelector('[role=listbox]').getBoundingClientRect();
        return document.elementFromPoint(left + 20, top + 20).closest('[role=option]').id;
      })()`);
    await until('scrolled', () => page.evaluate<boolean>('document.querySelector("[role=listbox]").scrollTop > 0'));
    const read = await topmost();
    await publishMore();
    await page.getByText('100 shown').waitFor();
    assert.equal(await topmost(), read);
    // A clicked row is removed when it scrolls away; the arrow keys still work.
    await page.locator(`#${read}`).click();
    await page.getByRole('listbox').evaluate((list) => list.scrollTo({ top: 0 }));
    await page.keyboard.press('ArrowDown');
    await until('the next one', async () => (await page.locator('[aria-selected=true]').count()) === 1);
    assert.notEqual(await page.locator('[aria-selected=true]').getAttribute('id'), read);
  });

  test('on a narrow screen every control and every word of a refusal fits its panel', async () => {
    const bridge = await start({ authMode: 'jwt', jwtSecret: SECRET });
    const { page } = await open(bridge.url, 'tail', { viewport: { width: 360, height: 800 } });
    await page.getByLabel('Id', { exact: true }).fill('a-tenant-with-a-long-name');
    await page.getByRole('button', { name: 'Tail this room' }).click();
    await page.getByText('Tail: refused').waitFor();
    for (const view of VIEWS) {
      await goTo(page, view);
      const outside = await page.evaluate<
        string[]
      >(`[...document.querySelectorAll('.panel :is(input, select, button, bdi, p)')]
        .filter((element) => {
          const panel = element.closest('.panel');
          const edge = panel.getBoundingClientRect().right - parseFloat(getComputedStyle(panel).paddingRight);
          return element.getBoundingClientRect().right > edge + 1 || element.scrollWidth > element.clientWidth + 1;
        })
        .map((element) => element.outerHTML.slice(0, 120))`);
      assert.deepEqual(outside, [], view);
    }
  });

  test('the form publishes, shows errors at their fields, and the tail shows the event', async () => {
    const bridge = await start({ extraEvents: ['leads.updated'] });
    const { page } = await open(bridge.url, 'publish');
    await page.getByLabel('ticketStatus').fill('');
    await page.getByLabel('ticketUpdatedAt').fill('yesterday');
    await page.getByRole('button', { name: 'Publish', exact: true }).click();
    await page.getByText('Not published.').waitFor();
    for (const name of ['ticketStatus', 'ticketUpdatedAt']) {
      const field = page.getByLabel(name);
      assert.equal(await field.getAttribute('aria-invalid'), 'true');
      const fault = await field.getAttribute('aria-describedby');
      assert.notEqual((await page.locator(`[id="${fault}"]`).textContent()) ?? '', '');
    }
    assert.equal(await page.getByLabel('tenantId').getAttribute('aria-invalid'), 'false');
    assert.equal(await page.evaluate('document.activeElement?.id'), 'input-ticketStatus');

    await page.getByLabel('ticketStatus').fill('CLOSED');
    await page.getByLabel('ticketUpdatedAt').fill('2024-06-01T12:00:00.000Z');
    await page.getByLabel('ticket (JSON object)').fill('{ "subject": ');
    await page.getByRole('button', { name: 'Publish', exact: true }).click();
    await page.getByText('is not JSON').waitFor();
    await page.getByLabel('ticket (JSON object)').fill('{ "subject": "Olá" }');
    await page.getByRole('button', { name: 'Publish', exact: true }).click();
    await page.getByText('Published.').waitFor();
    await events(page).filter({ hasText: 'tickets.updated' }).first().waitFor();

    await page.getByLabel('Event', { exact: true }).selectOption('messages.new');
    await page.getByRole('button', { name: 'Publish', exact: true }).click();
    await events(page).filter({ hasText: 'messages.new' }).first().waitFor();
    await page.getByLabel('Event', { exact: true }).selectOption('leads.updated');
    await page.getByLabel('More keys').fill('{ "stage": "won" }');
    await page.getByRole('button', { name: 'Publish', exact: true }).click();
    await events(page).filter({ hasText: 'leads.updated' }).first().waitFor();
  });

  test('with declared kinds: fields, rooms of the tail, and a named audience whose faults are marked', async () => {
    const bridge = await start({ roomKinds: ['queue', 'team'], extraEvents: ['notes.added'] });
    const { page } = await open(bridge.url, 'publish');
    await tail(page, 'b', 'queue');
    await page.getByLabel('Event', { exact: true }).selectOption('notes.added');
    await page.getByLabel('teamId').fill('y');
    await page.getByLabel('Rooms,').fill('queue:b kueue:c');
    await page.getByRole('button', { name: 'Publish', exact: true }).click();
    await page.getByText('/rooms/1 must be the name of a room').waitFor();
    assert.equal(await page.getByLabel('Rooms,').getAttribute('aria-invalid'), 'true');
    await page.getByLabel('Rooms,').fill('queue:b, user:ana');
    await page.getByLabel('Tenant,').fill('another');
    await page.getByRole('button', { name: 'Publish', exact: true }).click();
    await page.getByText('must be the tenantId of the payload').waitFor();
    await page.getByLabel('Tenant,').fill('');
    await page.getByRole('button', { name: 'Publish', exact: true }).click();
    await page.getByText('Published.').waitFor();
    await events(page).filter({ hasText: 'notes.added' }).first().waitFor();
    const answer = await fetch(`${bridge.url}/events?queueId=b`);
    const page1 = (await answer.json()) as { events: { rooms: string[]; payload: object }[] };
    assert.deepEqual(
      page1.events.map(({ rooms, payload }) => [rooms, payload]),
      [[['queue:b', 'user:ana'], { tenantId: 'console', ticketId: 'test-ticket', teamId: 'y' }]],
    );
  });

  test('the test event for a change of a message means the message published last', async () => {
    const bridge = await start();
    const { page } = await open(bridge.url, 'publish');
    const publish = async (event: string): Promise<void> => {
      await page.getByLabel('Event', { exact: true }).selectOption(event);
      if (event === 'messages.updated') await page.getByLabel('messageStatus').selectOption('read');
      await page.getByRole('button', { name: 'Publish', exact: true }).click();
      await events(page).filter({ hasText: event }).first().waitFor();
    };
    const state = async (): Promise<unknown[]> => {
      const answer = await fetch(`${bridge.url}/tickets/test-ticket/messages?tenantId=console`);
      return ((await answer.json()) as { items: { messageStatus?: string }[] }).items.map((item) => item.messageStatus);
    };
    await publish('messages.new');
    await publish('messages.updated');
    assert.deepEqual(await state(), ['read']);
    await publish('messages.deleted');
    assert.deepEqual(await state(), []);
  });

  for (const kind of ['queue', 'user']) {
    test(`the parity view of a ${kind} room`, async () => {
      const bridge = await start({ roomKinds: ['queue'] });
      const { page, faults } = await open(bridge.url, 'parity');
      await page.getByLabel('Kind').selectOption(kind);
      await page.getByLabel('Id', { exact: true }).fill('a');
      await connectAll(page);
      await page.getByRole('button', { name: /^Publish \d+ test events/ }).click();
      await page.locator('.verdict', { hasText: '40 events agree on all four.' }).waitFor();
      assert.deepEqual(faults, []);
      const answer = await fetch(`${bridge.url}/events?tenantId=console`);
      assert.deepEqual(((await answer.json()) as { events: unknown[] }).events, [], 'only the room hears them');
    });
  }

  test('with tokens: asks for one, says what it lacks, keeps it out of URLs, forgets it', async () => {
    const bridge = await start({ authMode: 'jwt', jwtSecret: SECRET });
    const { page, urls } = await open(bridge.url);
    const use = async (text: string): Promise<void> => {
      await page.locator('input[type=password]').fill(text);
      await page.getByRole('button', { name: 'Use token' }).click();
    };
    await page.getByText('This server needs a token').waitFor();
    await use('not a token');
    await page.getByText('unauthorized').waitFor();

    const listener = await token({ tenantId: 'acme', scope: 'subscribe publish' });
    await use(listener);
    await page.getByText('Without admin: no statistics').waitFor();
    await goTo(page, 'publish');
    await until('its tenant filled in', async () => (await page.getByLabel('tenantId').inputValue()) === 'acme');
    await page.getByRole('button', { name: 'Publish', exact: true }).click();
    await page.getByText('Published.').waitFor();
    await events(page).filter({ hasText: 'tickets.updated' }).first().waitFor();
    await goTo(page, 'tail');
    await page.getByLabel('Id', { exact: true }).fill('globex');
    await page.getByRole('button', { name: 'Tail this room' }).click();
    await page.getByText('Listening needs a token with the scope').waitFor();
    await goTo(page, 'parity');
    await connectAll(page);

    const admin = await token({ tenantId: '*', scope: 'admin' });
    await use(admin);
    await page.getByText('Server up', { exact: true }).waitFor();
    await goTo(page, 'publish');
    await page.getByRole('button', { name: 'Publish', exact: true }).click();
    await page.getByText('Publishing needs a token with the scope').waitFor();
    await page.reload();
    await page.getByText('Server up', { exact: true }).waitFor();
    assert.deepEqual(
      urls.filter((url) => url.includes(listener) || url.includes(admin) || url.includes('access_token')),
      [],
    );
    await page.getByRole('button', { name: 'Forget token' }).click();
    await page.getByText('This server needs a token').waitFor();
    const kept = () =>
      page.evaluate<string>(
        'Object.keys(sessionStorage).concat(Object.keys(localStorage).filter((key) => localStorage[key].includes("ey"))).join()',
      );
    await until('nothing is kept', async () => (await kept()) === '');
  });

  test('hostile ids and payloads stay text and break nothing', async () => {
    const bridge = await start();
    const ids = [
      '<img/src=x/onerror=document.title="owned">',
      '"><script>document.title="owned"</script>',
      '\u202Egnp.exe',
      'ل'.repeat(128),
      'W'.repeat(128),
      '{{constructor.constructor("document.title=1")()}}',
      '__proto__',
    ].map((id) => id.replaceAll(/[\s,]/g, '_'));
    const { page, faults } = await open(bridge.url, 'tail', { viewport: { width: 360, height: 800 } });
    for (const id of ids) await tail(page, id);
    for (const tenantId of ids) {
      await bridge.publish(
        'tickets.updated',
        ticketUpdated({ tenantId, ticketId: tenantId, ticket: { html: `<b>${tenantId}</b>` } }),
      );
    }
    await until('all shown', async () => (await events(page).count()) === ids.length);
    const outside = await page.evaluate<number>(`[...document.querySelectorAll('.chip button')].filter((button) =>
      button.scrollWidth > button.clientWidth || button.getBoundingClientRect().right > innerWidth).length`);
    assert.equal(outside, 0, 'each room can be removed');
    for (const at of ids.keys()) {
      await events(page).nth(at).click();
      const shown = await page.getByLabel('Payload as JSON').textContent();
      assert.doesNotMatch(shown ?? '', /\u202E/, 'direction marks are escaped');
      const { ticket } = JSON.parse(shown ?? '') as { ticket: { html: string } };
      assert.equal(ticket.html, `<b>${ids[ids.length - 1 - at]}</b>`);
    }
    assert.equal(await overflow(page), 0);
    await goTo(page, 'overview');
    await until(
      'rooms named',
      async () => (await page.locator('section.panel th[scope=row] button').count()) > ids.length,
    );
    assert.equal(await overflow(page), 0);
    assert.equal(await page.title(), 'Roomcast console');
    assert.equal(await page.locator('main img, main script').count(), 0);
    assert.deepEqual(faults, []);
  });

  test('a payload of a megabyte shows its beginning, and the rest on request', async () => {
    const bridge = await start();
    const { page } = await open(bridge.url, 'tail');
    await tail(page, 'tenant-1');
    const long = 'x'.repeat(1_000_000);
    await bridge.publish('tickets.updated', ticketUpdated({ ticket: { long, end: 'the-end' } }));
    await events(page).first().click();
    const json = page.getByLabel('Payload as JSON');
    await json.getByText('"tenantId": "tenant-1"').waitFor();
    assert.ok(((await json.textContent()) ?? '').length < 30_000);
    await page.getByRole('button', { name: 'Show all' }).click();
    await until('the end', async () => ((await json.textContent()) ?? '').includes('the-end'));
    assert.equal(await overflow(page), 0);
  });

  test('the parity view: test events, each transport cut once, and all four agree', async () => {
    const bridge = await start();
    const { page, faults } = await open(bridge.url, 'parity');
    await connectAll(page);
    await page.getByRole('button', { name: /^Publish \d+ test events/ }).click();
    await page.locator('tr[data-agreement=agree]').first().waitFor();
    for (const transport of TRANSPORTS) {
      const card = page.locator(`[data-transport=${transport}]`);
      await card.getByRole('button').click();
      await card.and(page.locator('[data-state=cut]')).waitFor();
    }
    await page.locator('.verdict', { hasText: '40 events agree on all four.' }).waitFor();
    for (const transport of TRANSPORTS) {
      const card = page.locator(`[data-transport=${transport}]`);
      const [, missed, caughtUp, how] =
        /missed (\d+), caught up (\d+); (.*?)(?:Cut|$)/.exec((await card.textContent()) ?? '') ?? [];
      assert.ok(Number(missed) > 0, `${transport} missed some`);
      assert.equal(caughtUp, missed, transport);
      const expected = transport === 'sse' ? /last id/ : transport === 'longpoll' ? /cursor/ : /recovered/;
      assert.match(how ?? '', expected);
      assert.match((await card.textContent()) ?? '', /Duplicates0Out of order0/);
    }
    assert.equal(await page.locator('tr[data-agreement=agree]').count(), 40);
    assert.deepEqual(faults, []);
  });

  test('the parity view in a busy room: missed events count once, and all events agree', async () => {
    const bridge = await start();
    const { page } = await open(bridge.url, 'parity');
    await page.getByLabel('Id', { exact: true }).fill('tenant-1');
    await connectAll(page);
    const card = page.locator('[data-transport=sse]');
    const cutWhile = async (batches: number, total: number): Promise<string> => {
      await card.getByRole('button').click();
      await card.and(page.locator('[data-state=cut]')).waitFor();
      for (let batch = 0; batch < batches; batch++) {
        const events = Array.from({ length: 100 }, () => ({ event: 'tickets.updated', payload: ticketUpdated() }));
        await bridge.post({ events });
      }
      await card.and(page.locator('[data-state=open]')).waitFor();
      await page.locator('.verdict', { hasText: `${total} events agree on all four.` }).waitFor();
      return (await card.textContent()) ?? '';
    };
    assert.match(await cutWhile(5, 500), /Received500Duplicates.*missed (\d+), caught up \1;/);
    assert.match(await cutWhile(1, 600), /Received600Duplicates.*missed (\d+), caught up \1;/);
    assert.equal(await page.locator('tr[data-agreement]').count(), 150, 'the newest are shown');
  });

  test('the console reports that the server is gone, and reconnects by itself', async () => {
    const port = await freePort();
    const first = await startBridge({ port, drainMs: 200 });
    closing.push(first.close);
    const { page } = await open(first.url, 'tail');
    await tail(page, 'tenant-1');
    await first.close();
    await page.getByText('Server does not answer').waitFor();
    const second = await start({ port });
    await page.getByText('Server up', { exact: true }).waitFor();
    await page.getByText('Tail: live over').waitFor();
    const { id } = await second.publish('tickets.updated', ticketUpdated());
    await events(page).filter({ hasText: id }).waitFor();
  });

  test('under a base path and another socket path', async () => {
    const bridge = await start({ basePath: '/rt', socketPath: '/rt/live' });
    const { page, faults } = await open(bridge.url, 'tail');
    await tail(page, 'tenant-1');
    await page.getByText('Tail: live over websocket').waitFor();
    const { id } = await bridge.publish('tickets.updated', ticketUpdated());
    await events(page).filter({ hasText: id }).waitFor();
    await goTo(page, 'parity');
    await connectAll(page);
    assert.deepEqual(faults, []);
  });

  test('the keyboard reaches and operates all controls', async () => {
    const bridge = await start();
    const { page } = await open(bridge.url, 'overview');
    const focused = (): Promise<string> =>
      page.evaluate('(document.activeElement?.ariaLabel ?? document.activeElement?.textContent ?? "").trim()');
    const tabTo = async (what: RegExp): Promise<void> => {
      for (let presses = 0; presses < 60; presses++) {
        await page.keyboard.press('Tab');
        if (what.test(await focused())) return;
      }
      assert.fail(`${what} was not reached`);
    };
    await tabTo(/^Tail$/);
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'Rooms tailed' }).waitFor();
    await tabTo(/tenant/);
    await page.keyboard.press('Tab');
    await page.keyboard.type('tenant-1');
    await page.keyboard.press('Enter');
    await page.getByText('Tail: live over').waitFor();
    const first = await bridge.publish('tickets.updated', ticketUpdated({ ticketStatus: 'FIRST' }));
    const second = await bridge.publish('tickets.updated', ticketUpdated({ ticketStatus: 'SECOND' }));
    await events(page).filter({ hasText: first.id }).waitFor();
    await events(page).filter({ hasText: second.id }).waitFor();
    await tabTo(/^Events, newest first$/);
    await page.keyboard.press('ArrowDown');
    await page.getByLabel('Payload as JSON').getByText('SECOND').waitFor();
    await page.keyboard.press('ArrowDown');
    await page.getByLabel('Payload as JSON').getByText('FIRST').waitFor();
    assert.equal(await page.getByRole('listbox').getAttribute('aria-activedescendant'), `event-${first.id}`);
    const outline = await page.evaluate<string>('getComputedStyle(document.activeElement).outlineStyle');
    assert.equal(outline, 'solid');
  });

  for (const colorScheme of ['light', 'dark'] as const) {
    test(`the accessibility audit finds nothing serious, ${colorScheme}; no horizontal scrolling`, async () => {
      const bridge = await start();
      const axe = await readFile(AXE, 'utf8');
      await bridge.publish('tickets.updated', ticketUpdated());
      const { page } = await open(bridge.url, 'tail', { colorScheme, bypassCSP: true });
      await tail(page, 'tenant-1');
      await events(page).first().click();
      await goTo(page, 'publish');
      for (const view of VIEWS) {
        await goTo(page, view);
        if (view === 'publish') {
          await page.getByLabel('tenantId').fill('');
          await page.getByRole('button', { name: 'Publish', exact: true }).click();
          await page.getByText('Not published').waitFor();
        }
        if (view === 'parity') {
          await page.getByRole('button', { name: 'Connect all four' }).click();
          await page.getByRole('button', { name: /^Publish \d+/ }).click();
          await page.locator('tr[data-agreement=agree]').first().waitFor();
        }
        for (const width of [360, 768, 1440]) {
          await page.setViewportSize({ width, height: 900 });
          assert.equal(await overflow(page), 0, `${view} at ${width}`);
          if (width === 768) continue;
          await page.evaluate(axe);
          const { violations } = await page.evaluate<{
            violations: { id: string; impact: string; nodes: { html: string; failureSummary: string }[] }[];
          }>('axe.run(document, { resultTypes: ["violations"] })');
          const serious = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
          assert.deepEqual(
            serious.map(({ id, nodes }) => `${id}: ${nodes[0]?.html} ${nodes[0]?.failureSummary}`),
            [],
            `${view} at ${width}`,
          );
        }
      }
    });
  }
});
