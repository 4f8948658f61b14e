/** The README and docs/ name what exists: every link leads to a file or a heading, every npm script is one of ours. */
import assert from 'node:assert/strict';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';

const files = globSync('{*.md,docs/*.md}').sort();
const textOf = (file: string): string => readFileSync(file, 'utf8');

test('the scripts that a clone is told to run are there', () => {
  const { scripts } = JSON.parse(textOf('package.json')) as { scripts: Record<string, string> };
  const told = files.flatMap((file) => [...textOf(file).matchAll(/\bnpm (?:run )?([a-z:]+)/g)]);
  const own = ['ci', 'install', 'pack'];
  for (const [command, script = ''] of told) assert.ok(own.includes(script) || scripts[script], command);
  assert.ok(told.length > 5);
});

test('every link of the docs leads to a file, and every anchor to a heading', () => {
  const broken: string[] = [];
  for (const file of files) {
    const text = textOf(file).replaceAll(/^```[\s\S]*?^```$/gm, '');
    const targets = [...text.matchAll(/\]\(([^)\s]+)\)|(?:src|srcset|href)="([^"]+)"/g)].map(
      ([, a, b]) => a ?? b ?? '',
    );
    for (const target of targets) {
      if (/^[a-z]+:/.test(target)) continue;
      const [path = '', anchor] = target.split('#');
      const found = path === '' ? file : join(dirname(file), path);
      if (!existsSync(found)) broken.push(`${file}: ${target}`);
      else if (anchor !== undefined && !anchorsOf(found).has(anchor)) broken.push(`${file}: ${target} (the anchor)`);
    }
  }
  assert.deepEqual(broken, []);
});

/** As GitHub makes them of headings. */
function anchorsOf(file: string): Set<string> {
  const text = textOf(file).replaceAll(/^```[\s\S]*?^```$/gm, '');
  const headings = [...text.matchAll(/^#{1,6} (.+)$/gm)].map(([, heading = '']) => heading);
  return new Set(
    headings.map((heading) =>
      heading
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
        .replaceAll(' ', '-'),
    ),
  );
}
