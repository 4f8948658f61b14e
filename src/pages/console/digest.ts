/** A short hash of a text, to compare at a glance: SHA-256 where the browser gives it, which plain http takes away. */

const HEX_CHARS = 10;
const encoder = new TextEncoder();

export const HAS_SHA = globalThis.crypto?.subtle !== undefined;

export async function digest(text: string): Promise<string> {
  const bytes = encoder.encode(text);
  if (!HAS_SHA) return fnv1a(bytes);
  const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return [...hash.subarray(0, HEX_CHARS / 2)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** FNV-1a of 32 bits (RFC 9923): tells texts apart by accident, not by design. */
function fnv1a(bytes: Uint8Array): string {
  let hash = 0x811c9dc5;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash.toString(16).padStart(8, '0');
}
