/** Bundles the page, as a front end's build does. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

/** @returns the text of each file by its path, such as `/page.js` */
export async function bundlePage(bridgeUrl: string): Promise<ReadonlyMap<string, string>> {
  const path = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
  const { outputFiles } = await build({
    entryPoints: [path('../page.js')],
    define: { BRIDGE_URL: JSON.stringify(bridgeUrl) },
    // In your application it is the package. Here it is its source, so that there is nothing to build.
    alias: { '@roomcast/client': path('../../../../src/client/client.ts') },
    bundle: true,
    splitting: true,
    format: 'esm',
    target: 'es2022',
    outdir: '/',
    write: false,
  });
  const html = readFileSync(path('../index.html'), 'utf8');
  return new Map([['/index.html', html], ...outputFiles.map(({ path, text }) => [path, text] as const)]);
}
