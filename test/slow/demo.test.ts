/**
 * `npm run demo` runs: its page, in a real browser, fills with tickets and shows a conversation that grows, and agents in
 * several windows see each other.
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
      env: { ...process.env, BRIDGE_PORT: '0', PAGE_PORT: '0' },
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
    await page.locator('#status[data-state=live]').waitFor();
    return page;
  }

  async function publish(event: string, payload: object): Promise<void> {
    const body = JSON.stringify({ event, payload: { tenantId: 'demo', ...payload } });
    const headers = { 'content-type': 'application/json' };
    const response = await fetch(`${bridge}/events`, { method: 'POST', headers, body });
    assert.equal(response.status, 201);
  }

  test('it fills with tickets, and a conversation grows', async () => {
    const page = await open();
    await page.locator('#tickets button').nth(2).waitFor();
    await page.locator('#tickets button').first().click();
    await page.locator('#messages li').first().waitFor();
    const shown = await page.locator('#messages li').count();
    await until('the conversation grows', async () => {
      await page.locator('#tickets button').first().click();
      return (await page.locator('#messages li').count()) > shown;
    });

    // Ticks: each status that a message shows is higher than the one before.
    await page.evaluate(`{
      globalThis.steps = [];
      new MutationObserver((changes) => {
        for (const { target, oldValue } of changes) steps.push([oldValue ?? '', target.dataset.status]);
      }).observe(document.getElementById('messages'), { subtree: true, attributeFilter: ['data-status'], attributeOldValue: true });
    }`);
    await until(
      'an answer that was read',
      async () => {
        await page.locator('#tickets button').first().click();
        return (await page.locator('#messages li[data-status=read]').count()) > 0;
      },
      60_000,
    );
    const read = page.locator('#messages li[data-status=read]').first();
    const id = (await read.getAttribute('id')) as string;
    const messageId = id.slice('message-'.length);
    const ticketId = await page.evaluate<string>(
      'document.querySelector("#tickets [aria-current=true]").dataset.ticket',
    );
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
    assert.ok(steps.length > 0);
    for (const [from, to] of steps) assert.ok(to === '' || ranks.indexOf(to) >= ranks.indexOf(from), `${from} → ${to}`);
  });

  /** Windows of two agents at a desk and of one with a phone. */
  async function openThree(): Promise<{ pages: Page[]; names: string[] }> {
    const pages: Page[] = [];
    const names: string[] = [];
    for (const options of [{}, {}, { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true }]) {
      const page = await open(options);
      const name = (await page.locator('#me').textContent()) as string;
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

  const show = (page: Page, ticketId: string) => page.locator(`[data-ticket="${ticketId}"]`).click();
  const back = (page: Page) => page.getByRole('button', { name: 'Voltar para a lista' }).click();
  const draft = (page: Page) => page.getByLabel('Resposta');
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

    await a.locator('[data-ticket=ticket-2]').waitFor();
    await show(a, 'ticket-1');
    await show(b, 'ticket-1');
    await names(a, 'viewing', [nameB], all);
    await names(b, 'viewing', [nameA], all);
    assert.equal(await textOf(a, 'notice'), '');

    await draft(b).fill('Vou verificar');
    await names(a, 'notice', [nameB], all);
    assert.equal(await textOf(a, 'notice'), `${nameB} já está respondendo. Que tal combinar antes de enviar?`);
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
    await phone.getByText(`${nameA}Já respondo`).waitFor();
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

  test('the customers of the day type before they write', async () => {
    const page = await open();
    const tickets = Array.from({ length: 8 }, (_, index) => `ticket-${index + 1}`);
    await until(
      'a customer types',
      async () => {
        const { signals } = (await (await fetch(`${bridge}/signals?ticketId=${tickets}`)).json()) as {
          signals: { room: string; payload: { by: string } }[];
        };
        const customer = signals.find(({ payload }) => payload.by === 'customer');
        if (customer !== undefined) await show(page, customer.room.slice('ticket:'.length));
        return / está digitando…$/.test(await textOf(page, 'typing'));
      },
      60_000,
    );
    assert.equal(await textOf(page, 'notice'), '');
    await until('it has ended', async () => (await textOf(page, 'typing')) === '');
  });

  test('a ticket keeps the focus when it moves in the list', async () => {
    const page = await open();
    const write = async (ticketId: string, lastMessage: string) => {
      const ticketUpdatedAt = new Date().toISOString();
      const ticket = { contact: ticketId, lastMessage };
      await publish('tickets.updated', { ticketId, ticketStatus: 'OPEN', ticketUpdatedAt, ticket });
      await page.getByText(lastMessage).waitFor();
    };
    await write('moving', 'Primeira');
    await page.locator('[data-ticket=moving]').focus();
    await write('other', 'Outra');
    await write('moving', 'Segunda');
    assert.equal(await focusOf(page), 'moving');
  });

  test('the keyboard is enough', async () => {
    const page = await open();
    await page.locator('[data-ticket=ticket-1]').waitFor();
    await page.locator('[data-ticket=ticket-1]').focus();
    await page.keyboard.press('Enter');
    assert.equal(await focusOf(page), 'contact');
    await page.keyboard.press('Tab');
    await page.keyboard.press('Tab');
    assert.equal(await focusOf(page), 'draft');
    await page.keyboard.type('Uma linha');
    await page.keyboard.press('Shift+Enter');
    await page.keyboard.type('outra');
    await page.keyboard.press('Enter');
    await page.locator('#messages li[data-from=us]').getByText('Uma linha\noutra').waitFor();
  });

  for (const colorScheme of ['light', 'dark'] as const) {
    test(`the accessibility audit finds nothing, ${colorScheme}; no horizontal scrolling`, async () => {
      const [page, other] = [await open({ colorScheme }), await open()];
      await show(page, 'ticket-1');
      await show(other, 'ticket-1');
      await draft(other).fill('Vou verificar');
      await page.locator('#notice:not(:empty)').waitFor();
      await page.evaluate(AXE);
      for (const width of [360, 768, 1440]) {
        await page.setViewportSize({ width, height: 740 });
        assert.equal(await page.evaluate('document.documentElement.scrollWidth - innerWidth'), 0, `${width}`);
        const { violations } = await page.evaluate<{ violations: { id: string; nodes: { html: string }[] }[] }>(
          'axe.run()',
        );
        assert.deepEqual(
          violations.map(({ id, nodes }) => `${id}: ${nodes[0]?.html}`),
          [],
          `${width}`,
        );
      }
    });
  }
});
