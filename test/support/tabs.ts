/**
 * The tabs of one Chromium, driven over its own protocol (Chrome DevTools Protocol): with Playwright every page counts as
 * visible, and none can be frozen. Here a tab is hidden as soon as another one is opened or shown.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CHROMIUM, FLAGS, servePage } from './browser.ts';
import { until } from './until.ts';

export interface Tab {
  evaluate<T>(expression: string): Promise<T>;
  /** Does not wait for the end of what it starts. */
  begin(expression: string): void;
  show(): Promise<void>;
  freeze(): Promise<void>;
  thaw(): Promise<void>;
  /** The page is loaded again, and the library on it. */
  reload(): Promise<void>;
  crash(): void;
  close(): Promise<void>;
}

export interface Tabs {
  /** The pages' origin, for CORS_ORIGINS. */
  readonly origin: string;
  /** With the library loaded. It is the visible one. */
  open(): Promise<Tab>;
  close(): Promise<void>;
}

/** Of the methods that are used here. */
interface Result {
  readonly targetId: string;
  readonly sessionId: string;
  readonly result: { readonly value: unknown };
  readonly exceptionDetails?: object;
}

interface Answer {
  readonly id: number;
  readonly result: Result;
  readonly error?: { readonly message: string };
}

export async function startTabs(): Promise<Tabs> {
  const page = await servePage();
  const profile = await mkdtemp(join(tmpdir(), 'roomcast-tabs-'));
  const flags = [...FLAGS, '--headless=new', '--remote-debugging-port=0', `--user-data-dir=${profile}`, 'about:blank'];
  const chromium = spawn(CHROMIUM as string, flags, { stdio: ['ignore', 'ignore', 'pipe'] });
  const address = await new Promise<string>((resolve) => {
    let log = '';
    chromium.stderr.on('data', (text) => {
      log += text;
      const [url] = /ws:\/\/\S+/.exec(log) ?? [];
      if (url !== undefined) resolve(url);
    });
  });
  const socket = new WebSocket(address);
  await once(socket, 'open');
  const waiting = new Map<number, (answer: Answer) => void>();
  let count = 0;
  socket.onmessage = ({ data }) => {
    const answer = JSON.parse(String(data)) as Answer;
    waiting.get(answer.id)?.(answer);
    waiting.delete(answer.id);
  };

  function send(method: string, params: object = {}, sessionId?: string): Promise<Result> {
    const id = ++count;
    socket.send(JSON.stringify({ id, method, params, sessionId }));
    return new Promise((resolve, reject) => {
      waiting.set(id, ({ result, error }) =>
        error === undefined ? resolve(result) : reject(new Error(`${method}: ${error.message}`)),
      );
    });
  }

  return {
    origin: page.origin,
    async open() {
      const { targetId } = await send('Target.createTarget', { url: page.origin });
      const { sessionId } = await send('Target.attachToTarget', { targetId, flatten: true });
      const evaluate = async <T>(expression: string): Promise<T> => {
        const params = { expression, awaitPromise: true, returnByValue: true };
        const { result, exceptionDetails } = await send('Runtime.evaluate', params, sessionId);
        if (exceptionDetails !== undefined) throw new Error(JSON.stringify(exceptionDetails));
        return result.value as T;
      };
      const lifecycle = async (state: 'frozen' | 'active'): Promise<void> => {
        await send('Page.setWebLifecycleState', { state }, sessionId);
      };
      const loaded = (): Promise<void> => until('loaded', () => evaluate<boolean>('window.connectHere !== undefined'));
      await loaded();
      return {
        evaluate,
        begin: (expression) => void send('Runtime.evaluate', { expression }, sessionId).catch(() => {}), // it may die
        show: async () => void (await send('Target.activateTarget', { targetId })),
        freeze: () => lifecycle('frozen'),
        thaw: () => lifecycle('active'),
        async reload() {
          await evaluate('delete window.connectHere');
          await send('Page.reload', {}, sessionId);
          await loaded();
        },
        crash: () => void send('Page.crash', {}, sessionId).catch(() => {}), // nobody is left to answer
        close: async () => void (await send('Target.closeTarget', { targetId })),
      };
    },
    async close() {
      socket.close();
      if (chromium.exitCode === null) {
        chromium.kill();
        await once(chromium, 'exit');
      }
      await rm(profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
      await page.close();
    },
  };
}
