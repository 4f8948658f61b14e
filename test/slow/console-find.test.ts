/**
 * The console's views Find and Log in a real Chromium: a person whose events do not arrive is found, the page says why,
 * and the operator acts; the log is read both ways, compared and followed. A pasted token never leaves the page.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Page } from 'playwright-core';
import { io, type Socket } from 'socket.io-client';
import { messageNew, type TestBridge, ticketUpdated } from '../support/bridge.ts';
import { assertSound, type ConsoleSuite, describeConsole, SECRET, token } from '../support/console.ts';
import { until } from '../support/until.ts';

const JWT = { authMode: 'jwt', jwtSecret: SECRET } as const;
const listener = (sub: string, claims: object = {}) => token({ sub, tenantId: 'acme', scope: 'subscribe', ...claims });

describeConsole('Find and Log in Chromium', ({ start, open, defer }: ConsoleSuite) => {
  /** Connects with a stock client, and joins; refusals are part of some causes. */
  async function connect(bridge: TestBridge, jwt: string | null, rooms: readonly string[]): Promise<Socket> {
    const socket = io(bridge.url, {
      forceNew: true,
      transports: ['websocket'],
      auth: jwt === null ? {} : { token: jwt },
    });
    defer(() => socket.disconnect());
    await new Promise((resolve) => socket.once('connect', () => resolve(null)).once('connect_error', resolve));
    for (const room of rooms) await socket.emitWithAck('join', room);
    return socket;
  }

  /** The console of an operator, at this search or view. */
  async function operate(bridge: TestBridge, hash: string, claims: object = { tenantId: '*', scope: 'admin publish' }) {
    const opened = await open(bridge.url, 'publish', { bypassCSP: true });
    const { page } = opened;
    await page.evaluate(`sessionStorage.setItem('roomcast:console:token', ${JSON.stringify(await token(claims))})`);
    await page.goto(`${bridge.url}/console?with-token#${hash}`);
    // Those of before the token.
    opened.faults.length = 0;
    return opened;
  }

  const search = async (page: Page, text: string): Promise<void> => {
    await page.keyboard.press('Escape');
    await page.evaluate('document.activeElement?.blur()');
    await page.keyboard.press('/');
    await page.locator('[role=search] input').fill(text);
    await page.keyboard.press('Enter');
  };
  const verdict = (page: Page, code: string) => page.locator(`[data-verdict=${code}] .notice-title`);

  test('one search each finds what keeps these people from their events', async () => {
    const bridge = await start(JWT);
    await bridge.publish('messages.new', messageNew({ tenantId: 'acme', ticketId: '5' }));
    await bridge.publish('messages.new', messageNew({ tenantId: 'acme', ticketId: '7' }));
    await connect(bridge, await listener('ana'), ['ticket:5']);
    await connect(bridge, await listener('bruno'), ['ticket:7']);
    await connect(bridge, await listener('clara'), ['tickett:5']);
    await connect(bridge, await listener('davi', { tenantId: 'globex' }), ['ticket:5']);
    await connect(bridge, await listener('eva', { exp: 1_000_000_000 }), []);
    await connect(bridge, await listener('fabio', { ticketIds: ['7'] }), ['ticket:7', 'ticket:5']);
    await connect(bridge, await listener('gil'), []);
    const { page, faults } = await operate(bridge, 'find');
    for (const [text, code, words] of [
      ['ana', 'upToDate', 'Connected by WebSocket, up to date in 1 room.'],
      ['ana ticket:5', 'hears', 'it hears ticket:5'],
      ['bruno ticket 5', 'notInRoom', 'in no room that hears ticket:5; it asked for ticket:7'],
      ['clara ticket:5', 'notInRoom', 'it asked for tickett:5'],
      ['clara', 'joinRefused', 'may not join tickett:5'],
      ['davi ticket:5', 'otherTenant', 'belong to the tenant acme, but its token is for globex'],
      ['eva', 'refused', 'the token has expired'],
      ['fabio ticket:5', 'joinRefused', 'the token for acme does not allow it'],
      ['gil', 'noRooms', 'in no room'],
      ['nobody', 'absent', 'Nobody with this name is connected'],
    ] as const) {
      await search(page, text);
      await verdict(page, code).filter({ hasText: words }).waitFor();
      assert.equal(new URLSearchParams(page.url().split('#find?')[1]).get('q'), text, 'the address leads back here');
    }
    await page.goBack();
    await verdict(page, 'noRooms').waitFor();

    // A ticket: everyone who hears it or was refused, the worst first; the keyboard goes through them.
    await search(page, '5');
    await page.getByText('Its newest event is messages.new').waitFor();
    assert.equal(await page.locator('[role=option]').count(), 3);
    await page.locator('[role=search] input').press('ArrowDown');
    await page.keyboard.press('End');
    await verdict(page, 'hears').waitFor();
    assert.equal(
      await page
        .locator('[role=option][aria-selected=true]')
        .innerText()
        .then((text) => text.startsWith('ana')),
      true,
    );
    await page.getByRole('link', { name: 'Log of ticket:5' }).click();
    await page.locator('.log-row').waitFor();
    await page.getByRole('link', { name: 'Who hears ticket:5' }).click();
    await page.locator('[role=option]').first().waitFor();
    assert.deepEqual(faults, []);
  });

  test('a pasted token is explained, and is neither sent, nor kept, nor part of the address', async () => {
    const bridge = await start(JWT);
    await bridge.publish('messages.new', messageNew({ tenantId: 'acme', ticketId: '5' }));
    const pasted = await listener('ana', { ticketIds: ['7'], exp: 1_000_000_000 });
    const { page, urls } = await operate(bridge, 'find?q=ana+ticket:5');
    await verdict(page, 'absent').waitFor();
    const sent: string[] = [];
    page.on('request', (request) =>
      sent.push(`${request.url()} ${JSON.stringify(request.headers())} ${request.postData()}`),
    );
    await search(page, `Bearer ${pasted}`);
    await page.getByText('The token expired').waitFor();
    await page.getByText('The token may not hear ticket:5').waitFor();
    assert.equal(await page.locator('[role=search] input').inputValue(), 'user:ana ticket:5');
    await until('it asks again', () => sent.length > 3);
    const kept = await page.evaluate<string>(
      'JSON.stringify([location.href, { ...localStorage }, { ...sessionStorage }, history.state, document.documentElement.outerHTML])',
    );
    const signature = pasted.split('.')[2] as string;
    for (const text of [kept, sent.join('\n'), urls.join('\n')]) assert.equal(text.includes(signature), false);
    // A link with a token in it shows nothing of it.
    await page.goto(`${bridge.url}/console?again#find?q=${pasted}`);
    await page.getByText('Why does this user see nothing?').waitFor();
    assert.equal(`${page.url()} ${await page.content()}`.includes(signature), false);
  });

  test('disconnect, revoke and lift say what will happen, and it happens', async () => {
    const bridge = await start(JWT);
    await bridge.publish('messages.new', messageNew({ tenantId: 'acme', ticketId: '5' }));
    const jwt = await listener('ana', { iat: Math.floor(Date.now() / 1000) - 10 });
    const socket = await connect(bridge, jwt, ['ticket:5']);
    let connects = 0;
    socket.on('connect', () => connects++);
    const { page } = await operate(bridge, 'find?q=ana');
    await page.getByRole('button', { name: 'Disconnect' }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByText('connect again by themselves').waitFor();
    await dialog.getByRole('button', { name: 'Disconnect' }).click();
    await page.getByText('1 connection was closed.').waitFor();
    await until('it came back', () => connects === 1);

    await page.getByRole('button', { name: 'Revoke tokens' }).click();
    await dialog.getByText('every token of ana that was issued until now is refused').waitFor();
    await dialog.getByLabel('Only for the tenant').selectOption('acme');
    await dialog.getByText('This affects acme only.').waitFor();
    await dialog.getByRole('button', { name: 'Revoke tokens' }).click();
    await page.getByText('The tokens are revoked.').waitFor();
    await connect(bridge, jwt, []);
    await verdict(page, 'refused').filter({ hasText: 'the token was revoked' }).waitFor();
    await page.getByRole('button', { name: 'Lift the revocation' }).click();
    await dialog.getByRole('button', { name: 'Lift the revocation' }).click();
    await page.getByText('The revocation is lifted.').waitFor();
    await connect(bridge, jwt, ['ticket:5']);
    await verdict(page, 'upToDate').waitFor();
    const link = page.getByRole('link', { name: '/check?lang=en' });
    await page.getByLabel('Language').last().selectOption('pt');
    await link.waitFor({ state: 'detached' });
    await page.goto((await page.getByRole('link', { name: '/check?lang=pt' }).getAttribute('href')) as string);
    await page.getByText('Teste de conexão').first().waitFor();
  });

  test('without the right, the page says which token it takes', async () => {
    const bridge = await start(JWT);
    await connect(bridge, await listener('ana'), ['ticket:5']);
    await connect(bridge, await listener('davi', { tenantId: 'globex' }), ['ticket:5']);
    const { page } = await operate(bridge, 'find?q=5', { tenantId: 'acme', scope: 'subscribe' });
    await page.getByText('Find needs a token with the scope admin').waitFor();
    await page.goto(`${bridge.url}/console?2#log`);
    await page.getByText('Log needs a token with the scope admin').waitFor();
    const acme = await operate(bridge, 'find?q=5', { tenantId: 'acme', scope: 'admin' });
    await acme.page.getByText('This token sees the tenant acme only.').waitFor();
    await verdict(acme.page, 'quietRooms').or(verdict(acme.page, 'noEvents')).waitFor();
    assert.equal(await acme.page.getByText('davi').count(), 0);
  });

  test('many connections: the first hundred, then more; without tokens each is by itself', async () => {
    const bridge = await start();
    const leaving = new AbortController();
    defer(() => leaving.abort());
    const streams = Array.from({ length: 130 }, () =>
      fetch(`${bridge.url}/sse?ticketId=5`, { signal: leaving.signal }),
    );
    await Promise.all(streams);
    const { page } = await open(bridge.url, 'find?q=ticket:5');
    await page.getByText('More than 100 connections hear it.').waitFor();
    assert.equal(await page.locator('[role=option]').count(), 100);
    await page.getByRole('button', { name: 'Show more' }).click();
    await page.getByText('130 connections hear it.').waitFor();
    await page.getByText('Ask which ticket they miss').or(page.getByText('Look at the publisher')).first().waitFor();
  });

  test('the log is read both ways, searched, compared and followed', async () => {
    const bridge = await start({ jwtSecret: SECRET, authMode: 'jwt' });
    for (let n = 0; n < 260; n++) {
      await bridge.publish(
        'messages.new',
        messageNew({ tenantId: 'acme', ticketId: '5', message: { content: `text ${n}` } }),
      );
    }
    await bridge.publish('tickets.updated', ticketUpdated({ tenantId: 'acme', ticketId: '6' }));
    const { page, faults } = await operate(bridge, 'log');
    const rows = page.locator('.log-row');
    await until('the newest hundred', async () => (await rows.count()) === 100);
    await page.getByRole('listbox').focus();
    await page.keyboard.press('End');
    await until('older ones', async () => (await rows.count()) === 200);
    await page.keyboard.press('End');
    await page.getByText('The log begins here').waitFor();
    assert.equal(await rows.count(), 261);

    await page.getByLabel('Text in the payload').fill('TEXT 25');
    await page.getByLabel('Room').fill('ticket 5');
    await page.keyboard.press('Enter');
    await until('the filter', async () => (await rows.count()) === 11);
    await rows.first().click();
    await page.getByLabel('Payload as JSON').getByText('"text 259"').waitFor();
    await page.getByRole('button', { name: 'Compare with another' }).click();
    await rows.nth(1).click();
    const change = page.locator('.log-differences tr', { hasText: 'message › content' });
    assert.equal(await change.locator('.log-was').innerText(), '"text 258"');
    assert.equal(await change.locator('.log-is').innerText(), '"text 259"');
    await page.getByRole('button', { name: 'Stop comparing' }).click();

    await page.getByRole('button', { name: 'Go live' }).click();
    await page.getByText('Following the log').waitFor();
    await bridge.publish(
      'messages.new',
      messageNew({ tenantId: 'acme', ticketId: '5', message: { content: 'text 25 live' } }),
    );
    await bridge.publish(
      'messages.new',
      messageNew({ tenantId: 'acme', ticketId: '5', message: { content: 'another' } }),
    );
    await until('it arrives', async () => (await rows.count()) === 12);
    await rows.first().click();
    await page.getByLabel('Payload as JSON').getByText('"text 25 live"').waitFor();
    await page.getByRole('button', { name: 'Send again as a test' }).click();
    await page.locator('main[data-view=publish]').waitFor();

    // A room without events, a name that is none, and a time with events on both sides.
    await page.goto(`${bridge.url}/console?3#log?room=ticket:55`);
    await page.getByText('No such event in the log').waitFor();
    await page.getByLabel('Room').fill('tickett:5');
    await page.keyboard.press('Enter');
    await page.getByText('This is not the name of a room.').waitFor();
    assert.deepEqual(faults, []);
  });

  test('around a time, the list goes on to both sides', async () => {
    const bridge = await start();
    for (let n = 0; n < 120; n++) await bridge.publish('messages.new', messageNew());
    const before = Date.now();
    await until('another millisecond', () => Date.now() > before + 1);
    const at = new Date().toISOString();
    await until('and another', () => Date.now() > Date.parse(at) + 1);
    for (let n = 0; n < 120; n++) await bridge.publish('tickets.updated', ticketUpdated({ ticketUpdatedAt: at }));
    const { page } = await open(bridge.url, `log?at=${encodeURIComponent(at)}`);
    const rows = page.locator('.log-row');
    const count = (name: string) => rows.filter({ hasText: name }).count();
    await until(
      'fifty on each side',
      async () => (await count('messages.new')) >= 50 && (await count('tickets.updated')) === 50,
    );
    await page.getByRole('button', { name: 'Newer events' }).click();
    await until('all newer ones', async () => (await count('tickets.updated')) === 120);
    await page.getByRole('button', { name: 'Older events' }).click();
    await until('all older ones', async () => (await count('messages.new')) === 120);
  });

  test('hostile names are shown, and do nothing', async () => {
    const bridge = await start(JWT);
    const hostile = '<img/src=x/onerror=alert(1)>\u202e\u200b"\'';
    await connect(bridge, await listener(hostile), [`ticket:${hostile}`]);
    await bridge.publish('messages.new', messageNew({ tenantId: 'acme', ticketId: hostile }));
    const { page, faults } = await operate(bridge, `find?${new URLSearchParams({ q: `user:${hostile}` })}`);
    await verdict(page, 'upToDate').waitFor();
    await page.locator('.find-rooms a').first().click();
    await page.locator('.log-row').click();
    await page.getByLabel('Payload as JSON').getByText('onerror').waitFor();
    assert.equal(await page.locator('img').count(), 0);
    assert.deepEqual(faults, []);
  });

  for (const [theme, locale] of [
    ['light', 'en-US'],
    ['dark', 'pt-BR'],
  ] as const) {
    test(`both views fit and pass the audit, ${theme}, ${locale}`, async () => {
      const bridge = await start();
      for (let n = 0; n < 30; n++) await bridge.publish('messages.new', messageNew({ ticketId: '5' }));
      await connect(bridge, null, ['ticket:5', 'tenant:tenant-1', `ticket:${'x'.repeat(120)}`]);
      await connect(bridge, null, ['ticket:5', 'tickett:5']);
      const { page } = await open(bridge.url, 'find?q=ticket:5', { bypassCSP: true, colorScheme: theme, locale });
      await page.locator('[data-verdict]').waitFor();
      await assertSound(page, 'Find');
      await page.goto(`${bridge.url}/console?4#log`);
      await page.locator('.log-row').first().click();
      await page.getByRole('button', { name: /Compare|Comparar/ }).click();
      await page.locator('.log-row').nth(1).click();
      await page.locator('.log-differences').waitFor();
      await assertSound(page, 'Log');
    });
  }
});
