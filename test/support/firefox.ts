/**
 * A real Firefox without a window, driven by WebDriver BiDi (https://w3c.github.io/webdriver-bidi/): it opens a page and
 * hears what the page logs. playwright-core drives only a Firefox of its own making.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { programPath } from './proxies.ts';
import { until } from './until.ts';

export const FIREFOX = programPath('firefox-esr') ?? programPath('firefox');
/** Firefox takes several seconds to start, and many more beside other browsers. */
const START_MS = 30_000;

export interface LoggingPage {
  /** What the page logged and threw, one entry per line. */
  output(): string;
  close(): Promise<void>;
}

interface Message {
  readonly id?: number;
  readonly method?: string;
  readonly error?: string;
  readonly message?: string;
  readonly params?: { readonly text?: string | null };
  readonly result?: { readonly context?: string };
}

export async function openInFirefox(url: string): Promise<LoggingPage> {
  const profile = mkdtempSync(join(tmpdir(), 'roomcast-firefox-'));
  const args = ['--headless', '--no-remote', '--profile', profile, '--remote-debugging-port', '0'];
  const child = spawn(FIREFOX as string, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  const exited = once(child, 'exit');
  let diagnostics = '';
  child.stderr.setEncoding('utf8').on('data', (text) => {
    diagnostics += text;
  });
  const close = async (): Promise<void> => {
    child.kill('SIGKILL');
    await exited;
    rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
  };

  let output = '';
  const answers = new Map<number, Message>();
  try {
    const address = (): string | undefined => /BiDi listening on (ws:\S+)/.exec(diagnostics)?.[1];
    await until('Firefox listens', () => address() !== undefined, START_MS);
    const socket = new WebSocket(`${address()}/session`);
    socket.addEventListener('message', ({ data }) => {
      const message = JSON.parse(String(data)) as Message;
      if (message.id !== undefined) answers.set(message.id, message);
      else if (message.method === 'log.entryAdded') output += `${message.params?.text}\n`;
    });
    await once(socket, 'open');
    let lastId = 0;
    const call = async (method: string, params: object): Promise<Message> => {
      const id = ++lastId;
      socket.send(JSON.stringify({ id, method, params }));
      await until(`Firefox answers ${method}`, () => answers.has(id), START_MS);
      const answer = answers.get(id) as Message;
      if (answer.error !== undefined) throw new Error(`${method}: ${answer.error}: ${answer.message}`);
      return answer;
    };
    await call('session.new', { capabilities: {} });
    await call('session.subscribe', { events: ['log.entryAdded'] });
    const { result } = await call('browsingContext.create', { type: 'tab' });
    await call('browsingContext.navigate', { context: result?.context, url, wait: 'complete' });
    return { output: () => output, close };
  } catch (error) {
    await close();
    throw error;
  }
}
