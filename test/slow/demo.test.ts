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
    assert.deepEqual(faults, []);
    const exited = once(demo, 'exit');
    demo.kill('SIGTERM');
    await exited;
  } finally {
    demo.kill('SIGTERM');
    await browser.close();
  }
});
