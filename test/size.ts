/**
 * How much a page loads: each entry of `@roomcast/client` bundled, minified and compressed, without its peers; and what it
 * loads later, by `import()`. Run by itself (`npm run size`) it prints the figures; past a budget it fails.
 */
import { resolve } from 'node:path';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

/** Bytes that are loaded at once. */
export const BUDGETS = { client: 16.5 * 1024, react: 21 * 1024, vue: 21 * 1024, publisher: 6.25 * 1024 } as const;
export type Entry = keyof typeof BUDGETS;

interface Bundle {
  /** The entry, and what it imports. */
  readonly atOnce: string;
  /** What an `import()` loads when it is needed. */
  readonly later: string;
}

/** For a browser: fails when anything needs Node. */
export async function bundle(source: string, resolveDir: string, splitting = true): Promise<Bundle> {
  const { outputFiles, metafile } = await build({
    stdin: { contents: source, resolveDir },
    bundle: true,
    splitting,
    minify: true,
    write: false,
    outdir: 'out',
    format: 'esm',
    platform: 'browser',
    target: 'es2022',
    external: ['socket.io-client', 'react', 'vue'],
    metafile: true,
    logLevel: 'silent',
  });
  const atOnce = new Set(['out/stdin.js']);
  for (const path of atOnce) {
    for (const { kind, path: imported, external } of metafile.outputs[path]?.imports ?? []) {
      if (kind === 'import-statement' && !external) atOnce.add(imported);
    }
  }
  const loaded = new Set([...atOnce].map((path) => resolve(path)));
  const textOf = (isAtOnce: boolean): string =>
    outputFiles.map(({ path, text }) => (loaded.has(path) === isAtOnce ? text : '')).join('');
  return { atOnce: textOf(true), later: textOf(false) };
}

const compressed = (text: string): number => (text === '' ? 0 : gzipSync(text, { level: 9 }).length);

export async function sizeOf(entry: Entry): Promise<{ readonly atOnce: number; readonly later: number }> {
  const { atOnce, later } = await bundle(`export * from './src/client/${entry}.ts'`, process.cwd());
  return { atOnce: compressed(atOnce), later: compressed(later) };
}

if (import.meta.main) {
  for (const entry of Object.keys(BUDGETS) as Entry[]) {
    const { atOnce, later } = await sizeOf(entry);
    console.log(`${entry}: ${atOnce} of ${BUDGETS[entry]} bytes; later ${later}`);
    if (atOnce >= BUDGETS[entry]) process.exitCode = 1;
  }
}
