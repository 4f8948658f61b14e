/**
 * The OpenAPI document against the server, by Schemathesis: requests made from the schemas are accepted, requests that
 * break them are refused, and each answer has a documented status, its headers and its schema.
 */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { SignJWT } from 'jose';
import type { Config } from '../../src/config.ts';
import { startBridge } from '../support/bridge.ts';

const PROGRAM = process.env.SCHEMATHESIS ?? 'schemathesis';
const isInstalled = spawnSync(PROGRAM, ['--version']).status === 0;
const options = { skip: isInstalled ? false : `${PROGRAM} is not installed`, timeout: 240_000 };
const SETTINGS = fileURLToPath(new URL('./schemathesis/', import.meta.url));
const SECRET = 'a secret of thirty-two bytes or more';

async function check(context: TestContext, config: Partial<Config>, ...args: string[]): Promise<void> {
  const bridge = await startBridge(config);
  context.after(() => bridge.close());
  // It keeps files of its own beside its settings.
  const folder = await mkdtemp(join(tmpdir(), 'roomcast-schemathesis-'));
  context.after(() => rm(folder, { recursive: true }));
  await cp(SETTINGS, folder, { recursive: true });
  const child = spawn(
    PROGRAM,
    [
      'run',
      `${bridge.url}/openapi.json`,
      ...['--phases', 'examples,coverage,fuzzing', '--max-examples', '10', '--seed', '1'],
      // One worker: with more, Python 3.11 now and then fails with "AST constructor recursion depth mismatch".
      ...['--continue-on-failure', '--no-color', '--workers', '1'],
      ...args,
    ],
    { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] },
  );
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (data) => {
      output += data;
    });
  }
  const status = await new Promise((resolve) => child.on('close', resolve));
  assert.equal(status, 0, output);
}

// Each request of a stream takes a second, so the streams have few.
const WITHOUT_STREAMS = ['--exclude-path', '/sse', '--exclude-path', '/check/stream'];

test('what the document allows is accepted, and the rest refused', options, async (context) => {
  const config = {
    extraEvents: ['leads.updated'],
    roomKinds: ['queue'],
    signals: ['tickets.typing'],
    rateSignals: 1_000_000,
  };
  await check(context, config, ...WITHOUT_STREAMS);
});

test('streams', options, async (context) => {
  const only = ['--include-path', '/sse', '--include-path', '/check/stream'];
  await check(context, {}, ...only, '--phases', 'fuzzing', '--max-examples', '3');
});

test('with tokens: every refusal is documented', options, async (context) => {
  const claims = { tenantId: 't', sub: 'u', scope: 'subscribe publish signal admin' };
  const token = await new SignJWT(claims).setProtectedHeader({ alg: 'HS256' }).sign(Buffer.from(SECRET));
  const config = {
    authMode: 'jwt',
    jwtSecret: SECRET,
    roomKinds: ['queue', 'team'],
    claimedRoomKinds: ['team'],
    signals: ['tickets.typing'],
  } as const;
  await check(context, config, ...WITHOUT_STREAMS, '--header', `Authorization: Bearer ${token}`);
});
