/** Runs the small application in helpdesk/, as it is or with its one emitting file replaced, and front ends that listen. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join as joinPath, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import { SignJWT } from 'jose';
import type { Socket } from 'socket.io-client';
import { BARE_ENVIRONMENT } from '../support/server.ts';

export const SECRET = 'a secret of the help desk, 32 bytes or more';

/** As the application's login signs it: no scope. */
export function tokenFor(sub: string, tenantId: string, more: Record<string, unknown> = {}): Promise<string> {
  return new SignJWT({ tenantId, ...more })
    .setProtectedHeader({ alg: 'HS256' })
    .setSubject(sub)
    .setExpirationTime('1h')
    .sign(Buffer.from(SECRET));
}

export interface HelpDesk {
  readonly url: string;
  readonly output: () => string;
  /** @throws {Error} unless the answer is a success */
  call(token: string, method: string, path: string, body?: object): Promise<unknown>;
  close(): Promise<void>;
}

/** @param realtime the text of its realtime.js; null: as it is */
export async function startHelpDesk(
  realtime: string | null = null,
  env: Readonly<Record<string, string>> = {},
): Promise<HelpDesk> {
  const directory = mkdtempSync(joinPath(tmpdir(), 'roomcast-helpdesk-'));
  cpSync('test/migration/helpdesk', directory, { recursive: true });
  symlinkSync(resolve('node_modules'), joinPath(directory, 'node_modules'));
  writeFileSync(joinPath(directory, 'package.json'), '{ "type": "module" }');
  if (realtime !== null) {
    const publisher = pathToFileURL(resolve('src/client/publisher.ts')).href;
    writeFileSync(joinPath(directory, 'realtime.js'), realtime.replaceAll('@roomcast/client/publisher', publisher));
  }
  const child: ChildProcess = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', 'server.js'], {
    cwd: directory,
    env: { ...BARE_ENVIRONMENT, PORT: '0', JWT_SECRET: SECRET, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (chunk) => {
      output += chunk;
    });
  }
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream });
  const [url] = (await Promise.race([once(lines, 'line'), once(child, 'exit')])) as [string];
  if (child.exitCode !== null) throw new Error(output);
  return {
    url,
    output: () => output,
    async call(token, method, path, body) {
      const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
      const response = await fetch(url + path, { method, headers, ...(body && { body: JSON.stringify(body) }) });
      if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
      return (await response.text()) || null;
    },
    async close() {
      const exited = once(child, 'exit');
      if (child.exitCode === null && child.kill('SIGTERM')) await exited;
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

export interface Heard {
  readonly event: string;
  readonly payload: Readonly<Record<string, unknown>>;
}

export interface Inbox {
  readonly heard: Heard[];
  readonly socket: Socket;
}

interface InboxOptions {
  readonly url: string;
  readonly token: string;
  readonly rooms: Readonly<Record<string, string>>;
}

/** Opens the application's own front.js. Resolves when the server has acknowledged the joins. */
export async function openInbox(options: InboxOptions): Promise<Inbox> {
  const front = './helpdesk/front.js';
  const { openInbox: open } = (await import(front)) as { openInbox(options: object): Socket };
  const heard: Heard[] = [];
  const waiting = new Set(Object.keys(options.rooms));
  const { promise: joined, resolve: join, reject } = Promise.withResolvers<void>();
  const socket = open({
    ...options,
    onEvent: (event: string, payload: Heard['payload']) => heard.push({ event, payload }),
    onJoined(kind: string, ack: { readonly ok: boolean; readonly error?: string }) {
      if (!ack.ok) reject(new Error(`join-${kind}: ${ack.error}`));
      waiting.delete(kind);
      if (waiting.size === 0) join();
    },
  });
  socket.on('connect_error', reject);
  await joined.catch((error) => {
    socket.disconnect();
    throw error;
  });
  return { heard, socket: socket };
}
