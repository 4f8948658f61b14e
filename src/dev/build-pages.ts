/** `npm run build:pages`: bundles the pages that the bridge serves (http/routes/pages.ts) into dist/pages. */
import { copyFile } from 'node:fs/promises';
import { build } from 'esbuild';

const out = 'dist/pages';

await build({
  entryPoints: ['console', 'check', 'docs'].flatMap((name) => [
    `src/pages/${name}/${name}.tsx`,
    `src/pages/${name}/${name}.css`,
  ]),
  entryNames: '[name]',
  outdir: `${out}/assets`,
  bundle: true,
  splitting: true,
  format: 'esm',
  target: 'es2022',
  jsx: 'automatic',
  jsxImportSource: 'preact',
  minify: true,
  legalComments: 'none',
});
for (const name of ['console', 'check']) await copyFile(`src/pages/${name}/${name}.html`, `${out}/${name}.html`);
