/**
 * `npm run demo` runs: its page, in a real browser, opens with a conversation that grows, agents in several windows see each
 * other, and after each button of the panel nothing is lost and nothing doubled, which the page is seen to notice.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, afterEach, before, describe, test } from 'node:test';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { CHROMIUM, FLAGS } from '../support/browser.ts';
import { until } from '../support/until.ts';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

describe('the inbox of the demo', { skip: CHROMIUM === null ? 'chromium is not installed' : false }, () => {
  let demo: ChildProcess;
  let browser: Browser;
  let bridge: string;
  let inbox: string;
  const faults: string[] = [];

  before(async () => {
    demo = spawn('npm', ['run', '--silent', 'demo'], {
      env: { ...process.env, BRIDGE_PORT: '0', PAGE_PORT: '0', PACE: '0.3' },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let output = '';
    demo.stdout?.on('data', (chunk) => {
      output += chunk;
    });
    browser = await chromium.launch({ executablePath: CHROMIUM as string, args: FLAGS });
    await until('the demo listens', () => {
      assert.equal(demo.exitCode, null, output);
      return /The inbox: +http\S+\n/.test(output);
    });
    bridge = /The bridge: +(http\S+)/.exec(output)?.[1] as string;
    inbox = /The inbox: +(http\S+)/.exec(output)?.[1] as string;
  });
  after(async () => {
    await browser.close();
    const exited = once(demo, 'exit');
    if (demo.kill('SIGTERM')) await exited;
  });
  afterEach(async () => {
    for (const context of browser.contexts()) await context.close();
    assert.deepEqual(faults.splice(0), []);
  });

  async function open(options: BrowserContextOptions = {}): Promise<Page> {
    const page = await (await browser.newContext(options)).newPage();
    page.on('pageerror', (error) => faults.push(error.message));
    await page.goto(inbox);
    await live(page);
    return page;
  }

  const live = (page: Page) => page.locator('#status[data-state=live]').waitFor();
  const PHONE = { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true };

  async function publish(event: string, payload: object): Promise<void> {
    const body = JSON.stringify({ event, payload: { tenantId: 'demo', ...payload } });
    const headers = { 'content-type': 'application/json' };
    const response = await fetch(`${bridge}/events`, { method: 'POST', headers, body });
    assert.equal(response.status, 201);
  }

  test('it opens with a conversation, which grows, and its ticks never go back', async () => {
    const page = await open();
    await page.locator('#messages li').nth(3).waitFor();
    assert.ok((await page.locator('#tickets a').count()) >= 8);
    assert.equal(await page.locator('#tickets a[aria-current=true]').count(), 1);

    // Ticks: each status that a message shows is higher than the one before.
    await page.evaluate(`{
      globalThis.steps = [];
      new MutationObserver((changes) => {
        for (const { target, oldValue } of changes) steps.push([oldValue ?? '', target.dataset.status]);
      }).observe(document.getElementById('messages'), { subtree: true, attributeFilter: ['data-status'], attributeOldValue: true });
    }`);
    const shown = await page.locator('#messages li').count();
    await until('it grows', async () => (await page.locator('#messages li').count()) > shown + 1, 60_000);
    await until('ticks', async () => (await page.evaluate<number>('steps.length')) > 3, 60_000);
    const read = page.locator('#messages li[data-status=read]').first();
    const id = (await read.getAttribute('id')) as string;
    const messageId = id.slice('message-'.length);
    const ticketId = await page.evaluate<string>('location.hash.slice(1)');
    const ids = { ticketId, messageId, messageUpdatedAt: '2024-06-01T12:00:00Z' };
    await publish('messages.updated', {
      ...ids,
      messageStatus: 'sent',
      message: { content: 'older', direction: 'outbound' },
    });
    await publish('messages.deleted', ids);
    await page.locator(`[id="${id}"].deleted`).waitFor();
    const ranks = ['', 'queued', 'sent', 'delivered', 'read'];
    const steps = await page.evaluate<[string, string][]>('steps');
    for (const [from, to] of steps) assert.ok(to === '' || ranks.indexOf(to) >= ranks.indexOf(from), `${from} → ${to}`);
  });

  /** Windows of two agents at a desk and of one with a phone. */
  async function openThree(): Promise<{ pages: Page[]; names: string[] }> {
    const pages: Page[] = [];
    const names: string[] = [];
    for (const options of [{}, {}, PHONE]) {
      const page = await open(options);
      const name = (await page.locator('#me').textContent()) as string;
      // Nobody looks at the ticket that happens to be the first.
      if (options === PHONE) await back(page);
      // From here on, the page notes where its agent sees himself.
      await page.evaluate(`{
        globalThis.seen = [];
        const look = () => {
          for (const id of ['online', 'viewing', 'typing', 'notice']) {
            const text = document.getElementById(id).textContent;
            if (text.includes(${JSON.stringify(name)})) seen.push(text);
          }
        };
        new MutationObserver(look).observe(document.body, { subtree: true, childList: true, characterData: true });
        look();
      }`);
      pages.push(page);
      names.push(name);
    }
    return { pages, names };
  }

  const entry = (page: Page, ticketId: string) => page.locator(`[data-ticket="${ticketId}"]`);
  const back = (page: Page) => page.getByRole('link', { name: 'Back to the list' }).click();
  /** New messages move the entries of the list, also under the pointer. */
  const show = (page: Page, ticketId: string) =>
    until(`${ticketId} is open`, async () => {
      if (await page.getByRole('link', { name: 'Back to the list' }).isVisible()) await back(page);
      await entry(page, ticketId).click();
      return page.url().endsWith(`#${ticketId}`);
    });
  const draft = (page: Page) => page.getByLabel('Reply');
  const textOf = (page: Page, id: string): Promise<string> => page.locator(`#${id}`).textContent() as Promise<string>;
  const focusOf = (page: Page) =>
    page.evaluate<string>('document.activeElement.dataset.ticket ?? document.activeElement.id');
  /** These agents, and none of the others, are named in an element of the page. */
  const names = (page: Page, id: string, expected: readonly string[], all: readonly string[]) =>
    until(`${id}: ${expected.join(', ') || 'nobody'}`, async () => {
      const text = await textOf(page, id);
      return all.every((name) => text.includes(name) === expected.includes(name));
    });

  test('agents see who is online, who has the ticket open, and who is replying; nobody sees himself', async () => {
    const { pages, names: all } = await openThree();
    const [a, b, phone] = pages as [Page, Page, Page];
    const [nameA, nameB, nameC] = all as [string, string, string];
    assert.equal(new Set(all).size, 3, all.join());
    await names(a, 'online', [nameB, nameC], all);
    await names(phone, 'online', [nameA, nameB], all);

    await show(a, 'ticket-1');
    await show(b, 'ticket-1');
    await names(a, 'viewing', [nameB], all);
    await names(b, 'viewing', [nameA], all);
    await names(a, 'notice', [], all);

    await draft(b).fill('Vou verificar');
    await names(a, 'notice', [nameB], all);
    assert.match(await textOf(a, 'notice'), /(is|are) already replying\. Agree on it before you send\.$/);
    await draft(a).fill('Já respondo');
    await names(b, 'notice', [nameA], all);
    // Somebody who opens the ticket now learns of both.
    await show(phone, 'ticket-1');
    await names(phone, 'notice', [nameA, nameB], all);
    await names(phone, 'viewing', [nameA, nameB], all);
    await names(a, 'viewing', [nameB, nameC], all);

    await draft(b).fill('');
    await names(a, 'notice', [], all);
    await names(phone, 'notice', [nameA], all);
    // Sent: it ends, and the others have the answer, with its author.
    await draft(a).press('Enter');
    await names(phone, 'notice', [], all);
    await phone.locator('#messages li', { hasText: nameA }).getByText('Já respondo').waitFor();
    assert.equal(await draft(a).inputValue(), '');

    // Another ticket: only what is on screen is sent. A draft waits for its agent, and nobody hears of it meanwhile.
    await draft(b).fill('Um rascunho');
    await names(a, 'notice', [nameB], all);
    await show(b, 'ticket-2');
    await names(a, 'viewing', [nameC], all);
    await names(a, 'notice', [], all);
    await draft(b).fill('Outro cliente');
    await back(phone);
    await names(a, 'viewing', [], all);
    await show(phone, 'ticket-2');
    await names(phone, 'notice', [nameB], all);
    await names(a, 'notice', [], all);
    await show(b, 'ticket-1');
    assert.equal(await draft(b).inputValue(), 'Um rascunho');
    await names(a, 'notice', [nameB], all);
    await names(phone, 'notice', [], all);

    for (const page of pages) assert.deepEqual(await page.evaluate('seen'), []);
  });

  test('what a page said of its agent ends when it is hidden, closed or left', async () => {
    const { pages, names: all } = await openThree();
    const [a, b, phone] = pages as [Page, Page, Page];
    const [, nameB, nameC] = all as [string, string, string];
    for (const page of pages) await show(page, 'ticket-1');
    await draft(b).fill('Vou verificar');
    await draft(phone).fill('Eu também');
    await names(a, 'viewing', [nameB, nameC], all);
    await names(a, 'notice', [nameB, nameC], all);

    // Headless Chromium never hides a page.
    const turn = (visibility: string) =>
      b.evaluate(`{
        Object.defineProperty(document, 'visibilityState', { configurable: true, value: '${visibility}' });
        Object.defineProperty(document, 'hidden', { configurable: true, value: ${visibility === 'hidden'} });
        document.dispatchEvent(new Event('visibilitychange', { bubbles: true }));
      }`);
    await turn('hidden');
    for (const id of ['online', 'viewing', 'notice']) await names(a, id, [nameC], all);
    await turn('visible');
    for (const id of ['online', 'viewing', 'notice']) await names(a, id, [nameB, nameC], all);

    await b.close();
    for (const id of ['online', 'viewing', 'notice']) await names(a, id, [nameC], all);
    await phone.goto('about:blank');
    for (const id of ['online', 'viewing', 'notice']) await names(a, id, [], all);
  });

  test('a tab keeps its name when it is loaded again; a copy of it gets another', async () => {
    const page = await open();
    const name = await textOf(page, 'me');
    await page.reload();
    await page.locator('#status[data-state=live]').waitFor();
    assert.equal(await textOf(page, 'me'), name);
    const [copy] = await Promise.all([page.waitForEvent('popup'), page.evaluate('open(location.href) && null')]);
    await copy.locator('#status[data-state=live]').waitFor();
    assert.notEqual(await textOf(copy, 'me'), name);
    await names(page, 'online', [await textOf(copy, 'me')], [name, await textOf(copy, 'me')]);
  });

  test('the people of the day type before they write, in the conversation on screen', async () => {
    const page = await open();
    await until('a customer types', async () => / is typing…$/.test(await textOf(page, 'typing')), 60_000);
    await until('an agent looks', async () => /^Also here: /.test(await textOf(page, 'viewing')), 60_000);
    await until('and replies', async () => / is already replying/.test(await textOf(page, 'notice')), 60_000);
    await until('it has ended', async () => (await textOf(page, 'notice')) === '');
  });

  test('on a phone: the conversation, the list, and back, also with the browser’s own Back', async () => {
    const page = await open(PHONE);
    await page.locator('#messages li').first().waitFor();
    assert.equal(await page.locator('#tickets').isVisible(), false);
    await back(page);
    await page.locator('#tickets').waitFor();
    assert.equal(await page.locator('#conversation').isVisible(), false);
    await entry(page, 'ticket-3').tap();
    await page.locator('#messages li').first().waitFor();
    assert.equal(await textOf(page, 'contact'), 'Elisa');
    await page.goBack();
    await page.locator('#tickets').waitFor();
    assert.equal(await page.locator('#conversation').isVisible(), false);
  });

  test('a ticket keeps the focus when it moves in the list', async () => {
    const page = await open();
    const write = async (ticketId: string, text: string) => {
      const ticketUpdatedAt = new Date().toISOString();
      const ticket = { subject: 'Teste', contact: { name: ticketId }, lastMessagePreview: text };
      await publish('tickets.updated', { ticketId, ticketStatus: 'OPEN', ticketUpdatedAt, ticket });
      await entry(page, ticketId).getByText(text, { exact: true }).waitFor();
    };
    await write('moving', 'Primeira');
    await entry(page, 'moving').focus();
    await write('other', 'Outra');
    await write('moving', 'Segunda');
    assert.equal(await focusOf(page), 'moving');
  });

  test('the keyboard is enough', async () => {
    const page = await open();
    for (const ticketId of ['ticket-2', 'ticket-1', 'ticket-1']) {
      await entry(page, ticketId).focus();
      await page.keyboard.press('Enter');
      await until(`${ticketId} is open`, async () => (await focusOf(page)) === 'contact');
    }
    await page.keyboard.press('Tab');
    await page.keyboard.press('Tab');
    assert.equal(await focusOf(page), 'draft');
    await page.keyboard.type('Uma linha');
    await page.keyboard.press('Shift+Enter');
    await page.keyboard.type('outra');
    await page.keyboard.press('Enter');
    await page.locator('#messages li[data-from=us][data-status=read]').getByText('Uma linha\noutra').waitFor();
  });

  test('the browser’s language chooses the texts; the dialogue stays as it is', async () => {
    const page = await open({ locale: 'pt-BR' });
    assert.equal(await page.evaluate('document.documentElement.lang'), 'pt-BR');
    await page.getByRole('button', { name: 'Enviar' }).waitFor();
    await page.getByRole('button', { name: 'Derrubar o servidor' }).waitFor();
    assert.equal(await page.locator('#messages').getAttribute('lang'), 'pt-BR');
  });

  const figure = (page: Page, name: string) => page.locator(`#panel [data-count=${name}]`).textContent();
  const press = (page: Page, name: string) => page.locator(`[data-button=${name}]`).click();
  const story = (page: Page, text: string | RegExp) => page.locator('#story li', { hasText: text }).first().waitFor();
  /** This transport brings events, and none was lost, doubled or out of order. */
  async function whole(page: Page, transport: string): Promise<void> {
    await until(`events by ${transport}`, async () => (await textOf(page, 'transport')) === transport, 60_000);
    assert.equal(await textOf(page, 'status'), transport);
    const received = Number(await figure(page, 'received'));
    await until('events arrive', async () => Number(await figure(page, 'received')) > received + 2, 30_000);
    for (const name of ['lost', 'doubled', 'disordered']) assert.equal(await figure(page, name), '0', name);
  }

  test('after each button of the panel: lost 0, doubled 0, and the transport in use', async () => {
    const page = await open();
    await whole(page, 'WebSocket');
    await press(page, 'cut');
    await story(page, 'The websocket was cut');
    await story(page, 'No connection');
    await story(page, /after [\d.]+ m?s · \d+ events? replayed/);
    await whole(page, 'WebSocket');
    await press(page, 'websocket');
    await whole(page, 'SSE');
    await press(page, 'sse');
    await whole(page, 'Polling');
    await press(page, 'sse');
    await whole(page, 'SSE');
    await press(page, 'websocket');
    await whole(page, 'WebSocket');

    await press(page, 'kill');
    await page.locator('#status[data-state=reconnecting]').waitFor();
    assert.equal(await textOf(page, 'transport'), '–');
    // What you send meanwhile is on screen, and is published when the server is back.
    await draft(page).fill('Enviada sem servidor');
    await draft(page).press('Enter');
    const sent = page.locator('#messages li', { hasText: 'Enviada sem servidor' });
    await sent.and(page.locator('[data-status=queued]')).waitFor();
    await page.getByText(/events? waits? at the publisher/).waitFor();
    // A page that is opened now waits for the server, and works then.
    const late = await (await browser.newContext()).newPage();
    await late.goto(inbox);
    await late.getByRole('button', { name: 'Start the server' }).click();
    await live(late);
    await live(page);
    await sent.and(page.locator('[data-status=read]')).waitFor({ timeout: 60_000 });
    assert.equal(await sent.count(), 1);
    assert.notEqual(await textOf(page, 'replayed'), '0');
    for (const one of [page, late]) await whole(one, 'WebSocket');
  });

  test('the counters count: a hole and a repeat, made on purpose, are on screen', async () => {
    const page = await open();
    // Each is another event for the bridge, which recognises a repeat of its own.
    const event = (number: number, index: number) => ({
      event: 'messages.deleted',
      payload: {
        tenantId: 'demo',
        ticketId: 'none',
        messageId: `none-${index}`,
        messageUpdatedAt: new Date().toISOString(),
        demo: { run: 'test', number, at: Date.now() },
      },
    });
    const body = JSON.stringify({ events: [1, 2, 6, 2].map(event) });
    const headers = { 'content-type': 'application/json' };
    assert.equal((await fetch(`${bridge}/events`, { method: 'POST', headers, body })).status, 201);
    await until('lost 3', async () => (await figure(page, 'lost')) === '3');
    await until('doubled 1', async () => (await figure(page, 'doubled')) === '1');
  });

  test('the panel’s buttons take no orders from another website', async () => {
    const headers = { origin: 'https://example.com' };
    assert.equal((await fetch(`${inbox}/buttons/kill`, { method: 'POST', headers, body: '{}' })).status, 403);
    assert.equal((await fetch(`${bridge}/healthz`)).status, 200);
  });

  for (const colorScheme of ['light', 'dark'] as const) {
    test(`the accessibility audit finds nothing, ${colorScheme}; no horizontal scrolling`, async () => {
      const [page, other] = [await open({ colorScheme, locale: 'pt-BR' }), await open()];
      await show(page, 'ticket-1');
      await show(other, 'ticket-1');
      await draft(other).fill('Vou verificar');
      await page.locator('#notice:not(:empty)').waitFor();
      await page.evaluate(AXE);
      const audit = async (what: string) => {
        assert.equal(await page.evaluate('document.documentElement.scrollWidth - innerWidth'), 0, what);
        const { violations } = await page.evaluate<{ violations: { id: string; nodes: { html: string }[] }[] }>(
          'axe.run()',
        );
        assert.deepEqual(
          violations.map(({ id, nodes }) => `${id}: ${nodes[0]?.html}`),
          [],
          what,
        );
      };
      for (const width of [360, 768, 1440]) {
        await page.setViewportSize({ width, height: 740 });
        await audit(`${width}`);
        const opener = page.locator('#break');
        if (!(await opener.isVisible())) continue;
        await opener.click();
        await page.locator('#panel:popover-open').waitFor();
        await audit(`${width}, the panel`);
        await page.keyboard.press('Escape');
        await page.locator('#panel').waitFor({ state: 'hidden' });
      }
    });
  }
});
