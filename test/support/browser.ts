/**
 * A real Chromium with a page of another origin than the bridge's, on which `@roomcast/client` is loaded as a bundler
 * would ship it: socket.io-client in a chunk of its own, fetched when a websocket is tried.
 */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { build } from 'esbuild';
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core';
import type { LoggingPage } from './firefox.ts';
import { programPath } from './proxies.ts';

export const CHROMIUM = programPath('chromium') ?? programPath('chromium-browser');

export const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** The page's side: what a test asks of it by name, and what it notes of what it heard. */
const PAGE = `
import { connect } from './src/client/client.ts';
window.connectHere = (options) => {
  const persist = options.persist ? sessionStorage : undefined;
  const live = connect({ ...options, persist });
  window.live = live;
  window.heard = [];
  window.by = [];
  live.on('messages.new', (payload, { cursor, transport }) => {
    heard.push(cursor);
    by.push(transport);
  });
};
`;

export interface TestBrowser {
  /** The pages' origin, for CORS_ORIGINS. */
  readonly origin: string;
  /** A page in a fresh context. */
  open(options?: { proxy?: string }): Promise<{ page: Page; context: BrowserContext }>;
  close(): Promise<void>;
}

export interface PageOptions {
  /** The page's module. */
  readonly code: string;
  /** The global that it sets when it is ready. */
  readonly ready: string;
  /** Packages in place of those that it imports. */
  readonly alias?: Record<string, string>;
}

const LIBRARY: PageOptions = { code: PAGE, ready: 'connectHere' };

/** Serves an empty page with this module on it; by default, the library. */
export async function servePage({ code, alias = {} }: PageOptions = LIBRARY): Promise<{
  readonly origin: string;
  close(): Promise<void>;
}> {
  const { outputFiles } = await build({
    stdin: { contents: code, resolveDir: process.cwd(), sourcefile: 'page.jsx', loader: 'jsx' },
    jsx: 'automatic',
    alias,
    define: {
      'process.env.NODE_ENV': '"development"',
      __VUE_OPTIONS_API__: 'true',
      __VUE_PROD_DEVTOOLS__: 'false',
      __VUE_PROD_HYDRATION_MISMATCH_DETAILS__: 'false',
    },
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'browser',
    outdir: '/',
    write: false,
    logLevel: 'silent',
  });
  const files = new Map(outputFiles.map(({ path, contents }) => [path, contents]));
  const server = createServer((request, response) => {
    const file = files.get(request.url ?? '');
    if (file !== undefined) response.writeHead(200, { 'content-type': 'text/javascript' }).end(file);
    else {
      const html = '<!doctype html><script type="module" src="/stdin.js"></script>';
      response.writeHead(200, { 'content-type': 'text/html' }).end(html);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

export async function startBrowser(options: PageOptions = LIBRARY): Promise<TestBrowser> {
  const { origin, close } = await servePage(options);
  const launch = (proxy?: string): Promise<Browser> =>
    chromium.launch({
      executablePath: CHROMIUM as string,
      args: FLAGS,
      ...(proxy === undefined ? {} : { proxy: { server: proxy } }),
    });
  const browsers = [await launch()];
  return {
    origin,
    async open({ proxy } = {}) {
      let [browser] = browsers as [Browser];
      if (proxy !== undefined) {
        browser = await launch(proxy);
        browsers.push(browser);
      }
      const context = await browser.newContext();
      const page = await context.newPage();
      await page.goto(origin);
      await page.waitForFunction(`window.${options.ready} !== undefined`);
      return { page, context };
    },
    async close() {
      for (const browser of browsers) await browser.close();
      await close();
    },
  };
}

/** Opens a page by itself, and hears what it logs and throws. */
export async function openInChromium(url: string): Promise<LoggingPage> {
  const browser = await chromium.launch({ executablePath: CHROMIUM as string, args: FLAGS });
  const tab = await browser.newPage();
  let output = '';
  tab.on('console', (message) => {
    output += `${message.text()}\n`;
  });
  tab.on('pageerror', (error) => {
    output += `${error}\n`;
  });
  await tab.goto(url);
  return { output: () => output, close: () => browser.close() };
}
