/**
 * Loaded before the tests (`--import`): what Node has compiled of src/, test/ and their dependencies is kept for the other
 * test files and for the programs that they start. It saves about a third of a second of processor time for each.
 */
import { enableCompileCache } from 'node:module';
import { resolve } from 'node:path';

const { directory } = enableCompileCache(resolve('node_modules/.cache/compiled'));
if (directory !== undefined) process.env.NODE_COMPILE_CACHE = directory;
