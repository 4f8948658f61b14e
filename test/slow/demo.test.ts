/** `npm run demo` runs: its page, in a real browser, fills with tickets and shows a conversation that grows. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { chromium } from 'playwright-core';
import { CHROMIUM, FLAGS } from '../support/browser.ts';
import { until } from '../support/until.ts';

test('the inbox of the demo', { skip: CHROMIUM === null ? 'chromium is not installed' : false }, async () => {
  const demo = spawn('npm', ['run', '--silent', 'demo'], {
    env: { ...process.env, BRIDGE_PORT: '0', PAGE_PORT: '0' },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  demo.stdout.on('data', (chunk) => {
    output += chunk;
  });
  const browser = await chromium.launch({ executablePath: CHROMIUM as string, args: FLAGS });
  try {
    await until('the demo listens', () => {
      assert.equal(demo.exitCode, null, output);
      return /The inbox: +http\S+\n/.test(output);
    });
    const page = await browser.newPage();
    const faults: string[] = [];
    page.on('pageerror', (error) => faults.push(error.message));
    await page.goto(/The inbox: +(http\S+)/.exec(output)?.[1] as string);
    await page.locator('#status[data-state=live]').waitFor();
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
    const bridge = /The bridge: +(http\S+)/.exec(output)?.[1] as string;
    const ticketId = await page.evaluate<string>(
      'document.querySelector("#tickets [aria-current=true]").dataset.ticket',
    );
    const publish = async (event: string, more: object): Promise<void> => {
      const ids = { tenantId: 'demo', ticketId, messageId, messageUpdatedAt: '2024-06-01T12:00:00Z' };
      const body = JSON.stringify({ event, payload: { ...ids, ...more } });
      const response = await fetch(`${bridge}/events`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body,
      });
      assert.equal(response.status, 201);
    };
    await publish('messages.updated', { messageStatus: 'sent', message: { content: 'older', direction: 'outbound' } });
    await publish('messages.deleted', {});
    await page.locator(`[id="${id}"].deleted`).waitFor();
    const ranks = ['', 'queued', 'sent', 'delivered', 'read'];
    const steps = await page.evaluate<[string, string][]>('steps');
    assert.ok(steps.length > 0);
    for (const [from, to] of steps) assert.ok(to === '' || ranks.indexOf(to) >= ranks.indexOf(from), `${from} → ${to}`);

    assert.deepEqual(faults, []);
    const exited = once(demo, 'exit');
    demo.kill('SIGTERM');
    await exited;
  } finally {
    demo.kill('SIGTERM');
    await browser.close();
  }
});
