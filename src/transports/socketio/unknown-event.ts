/** The answer to an event that the server does not know (protocol §5). It names the nearest one that it knows. */
import { BridgeError } from '../../contract/errors.ts';
import { nearest } from '../../contract/nearest.ts';
import { quotedName } from '../../contract/printable.ts';

/** A longer name is near none of the known ones, and would cost much to compare. */
const MAX_NAME_CHARACTERS = 24;

/** @param known the events of the namespace */
export function unknownEvent(event: string, known: Iterable<string>): BridgeError {
  const names = [...known];
  const near = event.length > MAX_NAME_CHARACTERS ? null : nearest(event, names);
  const hint = near === null ? `The events are ${names.join(', ')}.` : `Did you mean "${near}"?`;
  return new BridgeError('unknown_event', `The server knows no event ${quotedName(event)}. ${hint}`);
}
