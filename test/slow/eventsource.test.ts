/**
 * The pages of the docs that use EventSource, in a real Firefox and a real Chromium, behind a link that cuts each
 * reconnect: once after every byte of the answer's head and of its first events. Each listener gets each event once and
 * in order. Firefox closes an EventSource for good when a head is cut, so a page must open another one.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { globSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { test } from 'node:test';
import { messageNew, startBridge, type TestBridge } from '../support/bridge.ts';
import { CHROMIUM, openInChromium } from '../support/browser.ts';
import { startCutProxy } from '../support/cut-proxy.ts';
import { FIREFOX, openInFirefox } from '../support/firefox.ts';
import { until } from '../support/until.ts';

/** Pages that listen at a time. Each is cut once a round. */
const LISTENERS = 100;
const ROUND_MS = 15_000;

const examples = globSync('docs/*.md').flatMap((file) =>
  [...readFileSync(file, 'utf8').matchAll(/^```html\n([\s\S]*?)^```$/gm)]
    .map(([, text = '']) => text)
    .filter((text) => text.includes('new EventSource') && text.includes('messages.new')),
);

const BROWSERS = [
  { name: 'Firefox', program: FIREFOX, open: openInFirefox },
  { name: 'Chromium', program: CHROMIUM, open: openInChromium },
] as const;

test('the docs have the page in two languages', () => assert.equal(examples.length, 2));

for (const { name, program, open } of BROWSERS) {
  test(`${name}: a reconnect that is cut at any byte loses and repeats nothing`, async (t) => {
    if (program === null) return t.skip(`${name} is not installed`);
    const listeners = Array.from({ length: LISTENERS }, (_, index) => index);
    const pages = createServer(({ url = '' }, response) => {
      const page = /^\/\d+$/.test(url) ? pageOf(Number(url.slice(1))) : frames();
      response.setHeader('content-type', 'text/html').end(page);
    }).listen(0, '127.0.0.1');
    await once(pages, 'listening');
    const origin = `http://127.0.0.1:${(pages.address() as AddressInfo).port}`;
    const bridge = await startBridge({ corsOrigins: [origin], retryMs: 50 });
    const proxies = await Promise.all(listeners.map(() => startCutProxy(bridge.url)));
    const frames = (): string => listeners.map((index) => `<iframe src="/${index}"></iframe>`).join('');
    function pageOf(index: number): string {
      const host = new URL((proxies[index] as (typeof proxies)[number]).url).host;
      const text = (examples[index % examples.length] as string).replaceAll('localhost:4003', host);
      const prefix = `
        const { log } = console;
        console.log = (_event, cursor) => log('listener ${index}: ' + cursor);
        window.EventSource = class extends EventSource {
          constructor(url) {
            super(url);
            for (const type of ['open', 'error']) {
              this.addEventListener(type, () => log('state ${index}: ' + type + ' ' + this.readyState + ' at ' + Date.now()));
            }
          }
        };`;
      return text.replace('<script', `<script>${prefix}</script>\n<script`);
    }

    const page = await open(origin);
    t.after(async () => {
      await page.close();
      pages.closeAllConnections();
      pages.close();
      await Promise.all(proxies.map((proxy) => proxy.close()));
      await bridge.close();
    });
    const published: string[] = [];
    const publish = async (): Promise<void> => {
      const { id } = await bridge.publish('messages.new', messageNew({ message: {} }));
      published.push(id);
    };
    /** The cursors that each listener printed. */
    const heard = (): string[][] => {
      const cursors: string[][] = listeners.map(() => []);
      for (const [, index, cursor] of page.output().matchAll(/^listener (\d+): (\S+)/gm)) {
        cursors[Number(index)]?.push(cursor as string);
      }
      return cursors;
    };

    await until(
      'every page listens',
      async () => {
        await publish();
        await new Promise((resolve) => setTimeout(resolve, 100));
        return heard().every((cursors) => cursors.length > 0);
      },
      ROUND_MS,
    );
    // A page that was still loading missed the first ones.
    const missed = heard().map(([first]) => published.indexOf(first as string));
    const bytes = await answerBytes(bridge, origin, published.at(-1) as string, publish);
    let cuts = 0;
    for (let offset = 0; offset <= bytes; offset += LISTENERS) {
      for (const [index, proxy] of proxies.entries()) {
        proxy.cutNext(offset + index);
        proxy.cut();
      }
      await publish();
      await publish();
      const missing = (): number[] =>
        heard().flatMap((cursors, index) => (cursors.at(-1) === published.at(-1) ? [] : [offset + index]));
      await until('every page has both events', () => missing().length === 0, ROUND_MS).catch((error) => {
        const lives = missing().map((bytes) => {
          const index = bytes - offset;
          const lines = page.output().match(new RegExp(`^(listener|state) ${index}: .*$`, 'gm')) ?? [];
          return `${bytes} (${proxies[index]?.hasCut ? 'cut' : 'not cut'}, now ${Date.now()}):\n${lines.slice(-20).join('\n')}`;
        });
        throw new Error(`a cut after these bytes lost events: ${lives.join('\n')}`, { cause: error });
      });
      cuts += proxies.filter((proxy) => proxy.hasCut).length;
    }
    for (const [index, cursors] of heard().entries()) assert.deepEqual(cursors, published.slice(missed[index]));
    t.diagnostic(`${cuts} cuts of ${bytes} bytes`);
    assert.ok(cuts > bytes, `${cuts} cuts`);
  });
}

/** The length of a reconnect's answer with two missed events. */
async function answerBytes(
  bridge: TestBridge,
  origin: string,
  after: string,
  publish: () => Promise<void>,
): Promise<number> {
  await publish();
  await publish();
  const { port, hostname, host } = new URL(bridge.url);
  const socket = connect(Number(port), hostname);
  let answer = '';
  socket.setEncoding('utf8').on('data', (text) => {
    answer += text;
  });
  socket.write(`GET /sse?tenantId=tenant-1&legacy=false HTTP/1.1\r\nHost: ${host}\r\nOrigin: ${origin}\r\n`);
  socket.write(`Accept: text/event-stream\r\nLast-Event-ID: ${after}\r\n\r\n`);
  await until('the missed events', () => answer.split('messages.new').length === 3 && answer.endsWith('\n\n\r\n'));
  socket.destroy();
  return answer.length;
}
