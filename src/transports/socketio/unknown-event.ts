/** The answer to an event that the server does not know (protocol §5). It names the nearest one that it knows. */
import { BridgeError } from '../../contract/errors.ts';
import { nearest } from '../../contract/nearest.ts';
import { printableJson } from '../../contract/printable.ts';

/** A longer name is near none of the known ones, and would cost much to compare. */
const MAX_NAME_CHARACTERS = 24;

/** @param known the events of the namespace */
export function unknownEvent(event: string, known: Iterable<string>): BridgeError {
  const names = [...known];
  const near = event.length > MAX_NAME_CHARACTERS ? null : nearest(event, names);
  const hint = near === null ? `The events are ${names.join(', ')}.` : `Did you mean "${near}"?`;
  return new BridgeError('unknown_event', `The server knows no event ${quoted(event)}. ${hint}`);
}

/** As JSON, short, so that it stays one line. */
const quoted = (text: string): string =>
  printableJson(JSON.stringify(text.length > 64 ? `${text.slice(0, 64)}…` : text));
