/**
 * How much a page loads: `roomcast/client` and `roomcast/publisher`, bundled, minified and compressed, without
 * socket.io-client. Run by itself (`npm run size`) it prints the figures; past the budget it fails.
 */
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

/** Bytes, of each. */
export const BUDGET = 15 * 1024;
export const ENTRIES = { client: 'src/client/client.ts', publisher: 'src/client/publisher.ts' } as const;

/** For a browser: fails when anything needs Node. */
export async function bundle(source: string, resolveDir: string, external = ['socket.io-client']): Promise<string> {
  const { outputFiles } = await build({
    stdin: { contents: source, resolveDir },
    bundle: true,
    minify: true,
    write: false,
    format: 'esm',
    platform: 'browser',
    target: 'es2022',
    external,
    logLevel: 'silent',
  });
  return outputFiles[0]?.text ?? '';
}

export async function sizeOf(entry: keyof typeof ENTRIES): Promise<number> {
  const text = await bundle(`export * from './${ENTRIES[entry]}'`, process.cwd());
  return gzipSync(text, { level: 9 }).length;
}

if (import.meta.main) {
  for (const entry of Object.keys(ENTRIES) as (keyof typeof ENTRIES)[]) {
    const size = await sizeOf(entry);
    console.log(`roomcast/${entry}: ${size} of ${BUDGET} bytes`);
    if (size >= BUDGET) process.exitCode = 1;
  }
}
