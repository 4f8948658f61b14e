/**
 * The Overview of `/console` in a real Chromium: what it says first, the charts that the server fills, the search in all
 * rooms, and a server that fails, goes away and comes back.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Locator, Page } from 'playwright-core';
import { ticketUpdated } from '../support/bridge.ts';
import { assertSound, describeConsole, SECRET, token } from '../support/console.ts';
import { freePort } from '../support/ports.ts';
import { missing, startRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';

const card = (page: Page, title: string): Locator =>
  page.locator('.verdict-card').filter({ has: page.getByRole('heading', { name: title }) });

describeConsole('the Overview in Chromium', ({ start, open, defer }) => {
  test('the charts are full at load, by the server’s history, and the keyboard reads them', async () => {
    const bridge = await start();
    await bridge.publish('tickets.updated', ticketUpdated());
    const newest = async (): Promise<number> => {
      const answer = await fetch(`${bridge.url}/stats/history?step=1`);
      const { points } = (await answer.json()) as { points: { accepted: number[] } };
      return points.accepted.findIndex((count) => count > 0);
    };
    await until('the server has a point', async () => (await newest()) >= 0);

    const { page, faults } = await open(bridge.url, 'overview?range=5', { bypassCSP: true });
    const chart = page.getByRole('slider', { name: 'Accepted' });
    await until(
      'it has points from before the page',
      async () => Number(await chart.getAttribute('aria-valuemax')) > 0,
    );
    await chart.focus();
    await page.keyboard.press('Home');
    let text = '';
    await until('the publish is found by the keyboard', async () => {
      text = (await chart.getAttribute('aria-valuetext')) ?? '';
      const isFound = /^\d.*Accepted [\d.]*[1-9]/.test(text);
      if (!isFound) await page.keyboard.press('ArrowRight');
      return isFound;
    });
    assert.match(text, /^\d\d:\d\d:\d\d: Accepted [\d.]+\/s$/);
    await page.keyboard.press('Escape');
    assert.match((await chart.getAttribute('aria-valuetext')) ?? '', /^Now: /);
    await page.getByText('As a table').first().click();
    assert.ok((await page.getByRole('table', { name: 'Accepted' }).locator('tbody tr').count()) > 0);
    assert.equal(await page.locator('canvas').count(), 6);
    await card(page, 'Log').getByText('Takes writes').waitFor();
    assert.deepEqual(faults, []);
    await assertSound(page, 'Overview');
  });

  test('finds a room among all, links to Live and Log, and is a link itself', async () => {
    const bridge = await start();
    const events = Array.from({ length: 300 }, (_, n) => ({
      event: 'tickets.updated',
      payload: ticketUpdated({ ticketId: n === 123 ? 'needle' : `k-${n}`, agreementId: null }),
    }));
    await bridge.post({ events });
    const { page, faults } = await open(bridge.url, 'overview');
    const rooms = page.locator('.rooms');
    await rooms.getByText(/^\s*\d+ more rooms/).waitFor();
    await rooms.getByLabel('Search in all rooms').fill('NEED');
    await rooms.getByRole('row', { name: /ticket:needle/ }).waitFor();
    assert.equal(await rooms.locator('tbody tr').count(), 1);
    await page.reload();
    await rooms.getByRole('row', { name: /ticket:needle/ }).waitFor();
    assert.equal(
      await rooms.getByRole('link', { name: 'Log: ticket:needle' }).getAttribute('href'),
      '#log?room=ticket%3Aneedle',
    );
    await rooms.getByLabel('Search in all rooms').fill('ticket:nedle');
    await rooms.getByText('No active room contains “ticket:nedle”').waitFor();
    await rooms.getByLabel('Search in all rooms').fill('needle');
    await rooms.getByRole('link', { name: 'Live: ticket:needle' }).click();
    await page.getByText('Live over WebSocket').waitFor();
    assert.deepEqual(faults, []);
  });

  test('a server that goes away leaves its figures, and after its return the page goes on by itself', async () => {
    const port = await freePort();
    const first = await start({ port });
    const { page } = await open(first.url, 'overview?range=5');
    await card(page, 'Log').getByText('Takes writes').waitFor();
    await first.close();
    await page.getByText(/The server last answered/).waitFor();
    assert.equal(await page.locator('main[data-away=true]').count(), 1);
    await card(page, 'Log').getByText('Takes writes').waitFor();
    const second = await start({ port });
    await page.locator('main[data-away=false]').waitFor();
    const chart = page.getByRole('slider', { name: 'Accepted' });
    await until('the figures of the new node', async () => {
      // In the newest point, whenever it arrives.
      await second.publish('tickets.updated', ticketUpdated());
      await chart.focus();
      await page.keyboard.press('End');
      return /Accepted [^0–]/.test((await chart.getAttribute('aria-valuetext')) ?? '');
    });
  });

  test('refusals: how many, whose, why, and the way to Find', async () => {
    const bridge = await start({ authMode: 'jwt', jwtSecret: SECRET });
    const admin = await token({ tenantId: '*', scope: 'admin' });
    const { page } = await open(bridge.url, 'overview');
    await page.evaluate(`sessionStorage.setItem('roomcast:console:token', ${JSON.stringify(admin)})`);
    await page.reload();
    await page.getByText('Nobody was refused').or(page.locator('.refusals tbody tr')).first().waitFor();
    const headers = { authorization: `Bearer ${await token({ sub: 'ana', tenantId: 'a', scope: 'subscribe' })}` };
    for (let n = 0; n < 7; n++) await fetch(`${bridge.url}/sse?tenantId=b`, { headers });
    const row = page.locator('.refusals').getByRole('row', { name: /ana/ });
    await row.getByText('× 7').waitFor();
    await row.getByText('forbidden').waitFor();
    await card(page, 'Refusals')
      .getByText(/in the last minute/)
      .waitFor();
    await row.getByRole('link', { name: 'ana' }).click();
    await until('Find', () => page.url().endsWith('#find?q=user%3Aana'));
  });

  test('in Portuguese, with its numbers; dark and light are sound', async () => {
    const bridge = await start();
    await bridge.publish('tickets.updated', ticketUpdated());
    for (const colorScheme of ['dark', 'light'] as const) {
      const { page, faults } = await open(bridge.url, 'overview?range=60', {
        locale: 'pt-BR',
        colorScheme,
        bypassCSP: true,
      });
      await card(page, 'Log').getByText('Aceita gravações').waitFor();
      await page.getByRole('slider', { name: /^Conexões; as setas/ }).waitFor();
      await assertSound(page, `Overview in Portuguese, ${colorScheme}`, [360, 1440]);
      assert.deepEqual(faults, []);
    }
  });

  test('says since when the log takes no writes, and why', { skip: missing('redis-server') }, async () => {
    const redis = await startRedis();
    defer(redis.stop);
    const bridge = await start({ storeUrl: redis.url });
    const { page } = await open(bridge.url, 'overview?range=5');
    await card(page, 'Log').getByText('Takes writes').waitFor();
    await redis.kill();
    await card(page, 'Log')
      .getByText(/^Takes no writes since \d\d:\d\d:\d\d$/)
      .waitFor();
    await card(page, 'Log').getByText('Redis is away').waitFor();
    await page.getByText(/^Redis at 127\.0\.0\.1:\d+ cannot be reached/).waitFor();
    await redis.restart();
    await card(page, 'Log').getByText('Takes writes').waitFor();
    await page.getByText('Tinted: the log took no writes.').waitFor();
  });
});
