/**
 * `/console` in a real Chromium against a real bridge: its frame, and the views Live, Publish and Compare, by mouse and
 * keyboard, with and without tokens; and what the page must never do: contact another origin, break its policy, or run an
 * event's content. Find and Overview have suites of their own.
 */
import assert from 'node:assert/strict';
import { execFile as execFileOf } from 'node:child_process';
import { test } from 'node:test';
import { promisify } from 'node:util';
import type { Locator, Page } from 'playwright-core';
import { TRANSPORTS } from '../../src/contract/names.ts';
import { messageNew, startBridge, ticketUpdated } from '../support/bridge.ts';
import { assertSound, describeConsole, goTo, overflow, SECRET, token, VIEWS } from '../support/console.ts';
import { freePort } from '../support/ports.ts';
import { until } from '../support/until.ts';

const execFile = promisify(execFileOf);

describeConsole('the console in Chromium', ({ start, open, defer }) => {
  async function tail(page: Page, id: string, kind = 'tenant'): Promise<void> {
    await page.getByLabel('Kind').selectOption(kind);
    await page.getByLabel('Id', { exact: true }).fill(id);
    await page.getByRole('button', { name: 'Listen', exact: true }).click();
    await page.getByText('Live over').waitFor();
  }

  async function connectAll(page: Page): Promise<void> {
    await page.getByRole('button', { name: 'Connect all four' }).click();
    await until('all four open', async () => (await page.locator('[data-state=open]').count()) === 4);
  }

  const events = (page: Page): Locator => page.locator('[role=listbox] [role=option]');

  test('every view loads without an error and contacts only the bridge', async () => {
    const bridge = await start({ extraEvents: ['leads.updated'] });
    await bridge.publish('tickets.updated', ticketUpdated());
    const { page, faults, urls } = await open(bridge.url);
    assert.equal(await page.locator('main').getAttribute('data-view'), 'find', 'Find is the first view');
    for (const view of VIEWS) {
      await goTo(page, view);
      assert.equal(await page.locator('main h2').textContent(), await page.locator('nav [aria-current]').textContent());
    }
    await connectAll(page);
    await goTo(page, 'live');
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
        await page.getByRole('link', { name: new RegExp(link, 'i') }).click();
        await until(title, async () => (await page.title()) === title);
      }
    });
  }

  test('the tail shows the active signals of its rooms, as text, until they end', async () => {
    const bridge = await start({ signals: ['tickets.typing'] });
    const { page, faults } = await open(bridge.url, 'live');
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
    const { page } = await open(bridge.url, 'live');
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
    await page.getByRole('button', { name: 'Stop listening to tenant:tenant-1' }).click();
    await page.getByText('Live over').waitFor({ state: 'detached' });
  });

  test('the tail keeps the newest 500 events', async () => {
    const bridge = await start();
    const { page, faults } = await open(bridge.url, 'live');
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
    const { page } = await open(bridge.url, 'live');
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
    await page.getByRole('listbox').evaluate((list) => void Object.assign(list, { scrollTop: 0 }));
    await page.keyboard.press('ArrowDown');
    await until('the next one', async () => (await page.locator('[aria-selected=true]').count()) === 1);
    assert.notEqual(await page.locator('[aria-selected=true]').getAttribute('id'), read);
  });

  test('on a narrow screen every control and every word of a refusal fits its panel', async () => {
    const bridge = await start({ authMode: 'jwt', jwtSecret: SECRET });
    const { page } = await open(bridge.url, 'live', { viewport: { width: 360, height: 800 } });
    await page.getByLabel('Id', { exact: true }).fill('a-tenant-with-a-long-name');
    await page.getByRole('button', { name: 'Listen' }).click();
    await page.getByText('Live: refused').waitFor();
    for (const view of VIEWS) {
      await goTo(page, view);
      const outside = await page.evaluate<
        string[]
      >(`[...document.querySelectorAll('.card :is(input, select, button, bdi, p)')]
        .filter((element) => {
          const panel = element.closest('.card');
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
      const fault = page.locator(`[id="input-${name}-fault"]`);
      assert.ok((await field.getAttribute('aria-describedby'))?.split(' ').includes(`input-${name}-fault`));
      assert.match((await fault.textContent()) ?? '', new RegExp(`^/payload/${name} must be`));
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

  test('what the bridge refuses to publish, the page does not listen to', async () => {
    const bridge = await start();
    const { page } = await open(bridge.url, 'publish');
    for (const tenantId of ['', '*', 'a b']) {
      await page.getByLabel('tenantId').fill(tenantId);
      await page.getByRole('button', { name: 'Publish', exact: true }).click();
      await page.getByText('/payload/tenantId').waitFor();
      assert.equal(await page.locator('header .state').count(), 1, `"${tenantId}": no state of a tail`);
      assert.equal(await page.getByText('needs a token').count(), 0);
    }
    await goTo(page, 'live');
    await page.getByText('No rooms yet').waitFor();
    // A refusal for another reason than the token does not blame the token.
    await page.getByLabel('Id', { exact: true }).fill('*');
    await page.getByRole('button', { name: 'Listen', exact: true }).click();
    await page.locator('.chip.bad').waitFor();
    assert.equal(await page.getByText('needs a token').count(), 0);
  });

  test('the form offers each event as a curl command that publishes it, without the token', async () => {
    const bridge = await start({ authMode: 'jwt', jwtSecret: SECRET, extraEvents: ['leads.updated'] });
    const { page } = await open(bridge.url, 'publish');
    await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
    const text = await token({ tenantId: 'acme', scope: 'admin publish subscribe' });
    await page.locator('input[type=password]').fill(text);
    await page.getByRole('button', { name: 'Use token' }).click();
    await until('its tenant filled in', async () => (await page.getByLabel('tenantId').inputValue()) === 'acme');
    await page.getByLabel('ticketStatus').fill("it's open");
    for (const event of ['tickets.updated', 'messages.new', 'messages.updated', 'messages.deleted', 'leads.updated']) {
      await page.getByLabel('Event', { exact: true }).selectOption(event);
      await page.getByRole('button', { name: 'Copy as curl' }).click();
      await page.getByText('Copied').waitFor();
      const command = await page.evaluate<string>('navigator.clipboard.readText()');
      assert.ok(!command.includes(text));
      const env = { ...process.env, TOKEN: text };
      const { stdout } = await execFile('sh', ['-c', command.replace('curl ', 'curl -s ')], { env });
      assert.equal((JSON.parse(stdout) as { event: string }).event, event, stdout);
    }
  });

  test('with declared kinds: fields, rooms of the tail, and a named audience whose faults are marked', async () => {
    const bridge = await start({ roomKinds: ['queue', 'team'], extraEvents: ['notes.added'] });
    const { page } = await open(bridge.url, 'publish');
    await page.getByLabel('Event', { exact: true }).selectOption('notes.added');
    await page.getByLabel('teamId').fill('y');
    await page.getByLabel('More keys').fill('');
    await page.locator('#input-rooms').fill('queue:b kueue:c');
    await page.getByRole('button', { name: 'Publish', exact: true }).click();
    await page.getByText('must be the name of a room').waitFor();
    assert.match((await page.locator('#input-rooms-fault').textContent()) ?? '', /^\/rooms\/1 must be/);
    assert.equal(await page.locator('#input-rooms').getAttribute('aria-invalid'), 'true');
    await page.locator('#input-rooms').fill('queue:b, user:ana');
    await page.locator('#input-tenant').fill('another');
    await page.getByRole('button', { name: 'Publish', exact: true }).click();
    await page.getByText('must be the tenantId of the payload').waitFor();
    await page.locator('#input-tenant').fill('');
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
    test(`the view Compare of a ${kind} room`, async () => {
      const bridge = await start({ roomKinds: ['queue'] });
      const { page, faults } = await open(bridge.url, 'compare');
      await page.getByLabel('Kind').selectOption(kind);
      await page.getByLabel('Id', { exact: true }).fill('a');
      await connectAll(page);
      await page.getByRole('button', { name: /^Publish \d+ test events/ }).click();
      await page.locator('.conclusion', { hasText: '40 events agree on all four.' }).waitFor();
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
    await page.getByText('Without admin: no Find').waitFor();
    await goTo(page, 'publish');
    await until('its tenant filled in', async () => (await page.getByLabel('tenantId').inputValue()) === 'acme');
    await page.getByRole('button', { name: 'Publish', exact: true }).click();
    await page.getByText('Published.').waitFor();
    await events(page).filter({ hasText: 'tickets.updated' }).first().waitFor();
    await goTo(page, 'live');
    await page.getByLabel('Id', { exact: true }).fill('globex');
    await page.getByRole('button', { name: 'Listen', exact: true }).click();
    await page.getByText('Listening needs a token with the scope').waitFor();
    await goTo(page, 'compare');
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
    const { page, faults } = await open(bridge.url, 'live', { viewport: { width: 360, height: 800 } });
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
    await until('rooms named', async () => (await page.locator('.rooms th[scope=row] bdi').count()) > ids.length);
    assert.equal(await overflow(page), 0);
    assert.equal(await page.title(), 'Overview · Roomcast');
    assert.equal(await page.locator('main img, main script').count(), 0);
    assert.deepEqual(faults, []);
  });

  test('a payload of a megabyte shows its beginning, and the rest on request', async () => {
    const bridge = await start();
    const { page } = await open(bridge.url, 'live');
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

  test('the view Compare: test events, each transport cut once, and all four agree', async () => {
    const bridge = await start();
    const { page, faults } = await open(bridge.url, 'compare');
    await connectAll(page);
    await page.getByRole('button', { name: /^Publish \d+ test events/ }).click();
    await page.locator('tr[data-agreement=agree]').first().waitFor();
    for (const transport of TRANSPORTS) {
      const card = page.locator(`[data-transport=${transport}]`);
      await card.getByRole('button').click();
      await card.and(page.locator('[data-state=cut]')).waitFor();
    }
    await page.locator('.conclusion', { hasText: '40 events agree on all four.' }).waitFor();
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

  test('the view Compare in a busy room: missed events count once, and all events agree', async () => {
    const bridge = await start();
    const { page } = await open(bridge.url, 'compare');
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
      await page.locator('.conclusion', { hasText: `${total} events agree on all four.` }).waitFor();
      return (await card.textContent()) ?? '';
    };
    assert.match(await cutWhile(5, 500), /Received500Duplicates.*missed (\d+), caught up \1;/);
    assert.match(await cutWhile(1, 600), /Received600Duplicates.*missed (\d+), caught up \1;/);
    assert.equal(await page.locator('tr[data-agreement]').count(), 150, 'the newest are shown');
  });

  test('speaks the language of the browser, or the one that is chosen; keeps language and theme', async () => {
    const bridge = await start();
    const { page, faults } = await open(bridge.url, 'live', { locale: 'pt-BR', colorScheme: 'light' });
    const header = page.getByRole('banner');
    await header.getByText('Servidor no ar').waitFor();
    const lang = (): Promise<string | null> => page.locator('html').getAttribute('lang');
    assert.equal(await lang(), 'pt-BR');
    assert.equal(await page.title(), 'Ao vivo · Roomcast');
    const brightness = (of: string): Promise<number> =>
      page.evaluate(`getComputedStyle(document.querySelector('${of}')).backgroundColor.match(/\\d+/g)
        .reduce((sum, value) => sum + Number(value), 0)`);
    await header.getByLabel('Tema').selectOption('dark');
    assert.ok((await brightness('body')) < 100, 'dark');
    assert.ok((await brightness('.card')) > (await brightness('body')), 'a card is lighter than the page');
    await header.getByLabel('Idioma').selectOption('en');
    await header.getByText('Server up').waitFor();
    await page.reload();
    await header.getByText('Server up').waitFor();
    assert.equal(await lang(), 'en');
    assert.ok((await brightness('body')) < 100, 'still dark');
    await page.goto(`${bridge.url}/console?lang=pt#compare`);
    await page.getByRole('heading', { name: 'Comparar', exact: true }).waitFor();
    assert.deepEqual(faults, []);
  });

  test('an address names a view and what it shows, of earlier versions, too', async () => {
    const bridge = await start();
    const { page } = await open(bridge.url, 'live?room=ticket:1,user:ana');
    await page.getByText('Live over').waitFor();
    await page.getByRole('button', { name: 'Stop listening to ticket:1' }).click();
    await until('the address follows', async () => page.url().endsWith('#live?room=user%3Aana'));
    await tail(page, 'queue:7');
    await until('it has both', async () => page.url().endsWith('#live?room=user%3Aana%2Ctenant%3Aqueue%3A7'));
    await page.goto(`${bridge.url}/console#live?room=user%3Aana%2Ckueue%3A7`);
    await page.getByText('kueue:7, which is no room').waitFor();
    for (const [old, view] of [
      ['tail', 'live'],
      ['parity', 'compare'],
      ['__proto__', 'find'],
    ]) {
      await page.goto(`${bridge.url}/console#${old}`);
      await page.locator(`main[data-view=${view}]`).waitFor();
    }
  });

  test('the console reports that the server is gone, and reconnects by itself', async () => {
    const port = await freePort();
    const first = await startBridge({ port, drainMs: 200 });
    defer(first.close);
    const { page } = await open(first.url, 'live');
    await tail(page, 'tenant-1');
    await first.close();
    await page
      .getByRole('main')
      .getByText(/^The server last answered .*, at \d\d:\d\d:\d\d/)
      .waitFor();
    const greyed = 'getComputedStyle(document.querySelector("main .card")).filter';
    assert.equal(await page.evaluate(greyed), 'grayscale(1)', 'what is old is grey');
    const second = await start({ port });
    await page.getByText('Server up', { exact: true }).waitFor();
    await until('in colour again', async () => (await page.evaluate(greyed)) === 'none');
    await page.getByText('Live over').waitFor();
    const { id } = await second.publish('tickets.updated', ticketUpdated());
    await events(page).filter({ hasText: id }).waitFor();
  });

  test('under a base path and another socket path', async () => {
    const bridge = await start({ basePath: '/rt', socketPath: '/rt/live' });
    const { page, faults } = await open(bridge.url, 'live');
    await tail(page, 'tenant-1');
    await page.getByText('Live over WebSocket').waitFor();
    const { id } = await bridge.publish('tickets.updated', ticketUpdated());
    await events(page).filter({ hasText: id }).waitFor();
    await goTo(page, 'compare');
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
    await page.locator('main h2').waitFor();
    await page.keyboard.press('Tab');
    assert.equal(await focused(), 'Skip to the content');
    await page.keyboard.press('Enter');
    assert.equal(await focused(), 'Overview');
    await page.keyboard.press('/');
    await until('the search of Find has the focus', () =>
      page.evaluate<boolean>('document.activeElement?.type === "search"'),
    );
    await tabTo(/^Live$/);
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'Rooms' }).waitFor();
    await tabTo(/tenant/);
    await page.keyboard.press('Tab');
    await page.keyboard.type('tenant-1');
    await page.keyboard.press('Enter');
    await page.getByText('Live over').waitFor();
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
      await bridge.publish('tickets.updated', ticketUpdated());
      const { page } = await open(bridge.url, 'live', { colorScheme, bypassCSP: true });
      await tail(page, 'tenant-1');
      await events(page).first().click();
      await assertSound(page, 'live');
      await goTo(page, 'publish');
      await page.getByLabel('tenantId').fill('');
      await page.getByRole('button', { name: 'Publish', exact: true }).click();
      await page.getByText('Not published').waitFor();
      await assertSound(page, 'publish');
      await goTo(page, 'compare');
      await page.getByRole('button', { name: 'Connect all four' }).click();
      await page.getByRole('button', { name: /^Publish \d+/ }).click();
      await page.locator('tr[data-agreement=agree]').first().waitFor();
      await assertSound(page, 'compare');
    });
  }
});
