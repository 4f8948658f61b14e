/**
 * What the commands print. Ids, names, payloads and error messages come from a server that may be hostile, so no control
 * character of theirs reaches the terminal: it could change what is on the screen, or type for you.
 */
import { printable, printableJson } from '../contract/printable.ts';

/** Prints lines to standard error, the first one with the program's name. */
export function complain(...lines: readonly string[]): void {
  process.stderr.write(`roomcast: ${lines.map(printable).join('\n')}\n`);
}

/** Prints one line. Resolves when the output took it, so that a slow reader slows the command. */
export function printLine(line: string): Promise<void> {
  return write(`${printable(line)}\n`);
}

/** Prints text that is safe already, because it holds colours. */
export function printText(text: string): Promise<void> {
  return write(`${text}\n`);
}

/** Prints a JSON document: on a terminal with escapes, into a file or a pipe as `JSON.stringify` makes it. */
export function printJson(value: unknown, indent = 0): Promise<void> {
  const text = JSON.stringify(value, null, indent);
  return write(`${process.stdout.isTTY ? printableJson(text) : text}\n`);
}

function write(text: string): Promise<void> {
  return new Promise((resolve) => process.stdout.write(text, () => resolve()));
}
