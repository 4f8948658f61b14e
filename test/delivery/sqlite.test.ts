/** The delivery suite on SQLite, in memory and on a file. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { deliveryConformance } from './conformance.ts';

const directory = mkdtempSync(join(tmpdir(), 'roomcast-'));
after(() => rmSync(directory, { recursive: true }));
let files = 0;

deliveryConformance('SQLite in memory', () => ({ storeUrl: 'sqlite::memory:' }));
deliveryConformance('a SQLite file', () => ({ storeUrl: `sqlite:${join(directory, `${++files}.db`)}` }));
