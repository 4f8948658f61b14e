/** The files of docs/deploy, with the ports and paths of a test put in. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';

export const deployed = (name: string): string => readFileSync(`docs/deploy/${name}`, 'utf8');

/** The file with these things in their places; each must be there. */
export function fitted(name: string, places: readonly (readonly [string | RegExp, string])[]): string {
  return places.reduce((text, [place, value]) => {
    const changed = text.replaceAll(typeof place === 'string' ? place : new RegExp(place, 'gm'), value);
    assert.notEqual(changed, text, `${place} is not in ${name}`);
    return changed;
  }, deployed(name));
}
