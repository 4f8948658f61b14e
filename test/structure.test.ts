/**
 * The structure of src/ that docs/design.md describes: imports point down to contract/, code for browsers needs nothing
 * of Node, transports stand beside each other, and comments name files that exist.
 */
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { join, posix } from 'node:path';
import { test } from 'node:test';

const files = globSync('src/**/*.{ts,tsx,lua,css}').map((file) => file.replaceAll('\\', '/'));
const texts = new Map(files.map((file) => [file, readFileSync(file, 'utf8')]));

/** The modules that a file names in `import … from`, `export … from`, `import '…'` and `import('…')`. */
function specifiersOf(file: string): string[] {
  const statements = /^(?:import|export)\b(?:[^'"`;]*?\bfrom)?\s*'([^']+)'|\bimport\('([^']+)'\)/gm;
  return [...(texts.get(file) ?? '').matchAll(statements)].map(([, named, dynamic]) => named ?? dynamic ?? '');
}

const isCode = (file: string): boolean => /\.tsx?$/.test(file);
/** Per file, the files of src/ that it imports; type imports count, too. */
const imports = new Map(
  files.filter(isCode).map((file) => {
    const own = specifiersOf(file).filter((specifier) => specifier.startsWith('.'));
    return [file, own.map((specifier) => posix.join(posix.dirname(file), specifier))] as const;
  }),
);

/** The file and all that it imports, directly or not. */
function closureOf(file: string, found = new Set<string>()): Set<string> {
  if (found.has(file)) return found;
  found.add(file);
  for (const imported of imports.get(file) ?? []) closureOf(imported, found);
  return found;
}

const within = (...folders: readonly string[]): string[] =>
  [...imports.keys()].filter((file) => folders.some((folder) => file.startsWith(`src/${folder}`)));

/** Each import of a file in `from` that leads into one of `to`, as `file → imported`. */
function arrows(from: string, ...to: readonly string[]): string[] {
  return within(from).flatMap((file) =>
    (imports.get(file) ?? [])
      .filter((imported) => to.some((folder) => imported.startsWith(`src/${folder}`)))
      .map((imported) => `${file} → ${imported}`),
  );
}

test('every import leads to a file, and the search for them finds them', () => {
  const missing = [...imports].flatMap(([file, targets]) =>
    targets.filter((target) => !texts.has(target)).map((target) => `${file} → ${target}`),
  );
  assert.deepEqual(missing, []);
  assert.ok(imports.get('src/bridge.ts')?.includes('src/bus/bus.ts'));
  assert.ok([...imports.values()].flat().length > 400);
});

test('there is no import circle', () => {
  const circles: string[] = [];
  const done = new Set<string>();
  function walk(file: string, path: readonly string[]): void {
    if (path.includes(file)) circles.push([...path.slice(path.indexOf(file)), file].join(' → '));
    if (done.has(file)) return;
    done.add(file);
    for (const imported of imports.get(file) ?? []) walk(imported, [...path, file]);
  }
  for (const file of imports.keys()) walk(file, []);
  assert.deepEqual(circles, []);
});

test('contract/ imports nothing above it, and client/ nothing but contract/', () => {
  for (const [folder, allowed] of [
    ['contract/', ['src/contract/']],
    ['client/', ['src/client/', 'src/contract/']],
  ] as const) {
    const files = within(folder);
    assert.ok(files.length > 5);
    const above = files.flatMap((file) =>
      (imports.get(file) ?? []).filter((imported) => !allowed.some((folder) => imported.startsWith(folder))),
    );
    assert.deepEqual(above, [], folder);
  }
});

test('code for browsers, and all that it imports, needs no module of Node', () => {
  const reached = within('contract/', 'client/', 'check/', 'pages/').flatMap((file) => [...closureOf(file)]);
  const ofNode = [...new Set(reached)].flatMap((file) =>
    specifiersOf(file)
      .filter((specifier) => specifier.startsWith('node:') || builtinModules.includes(specifier))
      .map((specifier) => `${file} → ${specifier}`),
  );
  assert.deepEqual(ofNode, []);
});

test('imports point down the map of docs/design.md, which names everything in src/', () => {
  const rows = [...readFileSync('docs/design.md', 'utf8').matchAll(/^\| (`.*?) \|/gm)].map(([, cell = '']) =>
    [...cell.matchAll(/`([^`]+)`/g)].map(([, name]) => `src/${name}`),
  );
  const rowOf = (file: string): number => rows.findIndex((names) => names.some((name) => file.startsWith(name)));
  const wrong = [...imports].flatMap(([file, targets]) =>
    [file, ...targets].filter((target) => rowOf(target) < Math.max(0, rowOf(file))).map((to) => `${file} → ${to}`),
  );
  assert.deepEqual(wrong, []);
});

test('transports import neither http/ nor each other', () => {
  const transports = ['transports/socketio/', 'transports/sse/', 'transports/longpoll.ts'];
  for (const from of transports) {
    assert.ok(within(from).length > 0, from);
    assert.deepEqual(arrows(from, 'http/', ...transports.filter((other) => other !== from)), []);
  }
  assert.deepEqual(arrows('transports/', 'http/'), []);
});

test('a file that a comment names exists', () => {
  const known = globSync('{*,{src,docs,test}/**/*,.ci/*}').map((path) => `/${path.replaceAll('\\', '/')}`);
  const absent: string[] = [];
  let named = 0;
  for (const [file, text] of texts) {
    const comments = file.endsWith('.lua') ? /--.*/g : /\/\*[\s\S]*?\*\/|(?<![:\w'"`])\/\/ .*/g;
    for (const [comment] of text.matchAll(comments)) {
      const paths = comment
        .replaceAll(/\bhttps?:\S+/g, '')
        .matchAll(/(?<![\w/.*-])[\w@./-]*\w\.(?:tsx?|lua|md|css)\b/g);
      for (const [path] of paths) {
        named++;
        const relative = `/${join(posix.dirname(file), path)}`;
        if (!known.some((one) => one === relative || one.endsWith(`/${path}`))) absent.push(`${file}: ${path}`);
      }
    }
  }
  assert.deepEqual(absent, []);
  assert.ok(named > 10, 'comments are searched');
});
