/**
 * How a Lua script becomes a typed call. Redis runs a script as one atomic step, so a read takes its bounds, rows and
 * head at the same moment. scripts/prelude/ holds what scripts share; its keys.lua describes every key.
 *
 * The first line of a script says when Redis refuses it before it starts. A plain `#!lua` needs free memory and a healthy
 * master. `allow-oom` is for scripts that free memory, or need none. `no-writes` is for scripts that only read.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';

export interface Script<Arguments, Reply> {
  readonly name: string;
  readonly text: string;
  readonly sha: string;
  readonly argv: (args: Arguments) => readonly string[];
  readonly parse: (reply: unknown) => Reply;
}

const load = (name: string) => readFileSync(new URL(`./scripts/${name}.lua`, import.meta.url), 'utf8');
const prelude = ['keys', 'log', 'records', 'rooms', 'state', 'sessions', 'revocations']
  .map((name) => load(`prelude/${name}`))
  .join('');

/** Loads scripts/{name}.lua, which documents its ARGV and its reply. */
export function defineScript<Arguments, Reply>(
  name: string,
  argv: (args: Arguments) => readonly string[],
  parse: (reply: unknown) => Reply,
): Script<Arguments, Reply> {
  const text = load(name).replace('\n', () => `\n${prelude}`);
  return { name, text, sha: createHash('sha1').update(text).digest('hex'), argv, parse };
}
