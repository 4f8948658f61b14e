/**
 * Where an HTTP answer ends in the text that came, for any server of the bench: with a length, without a body, or in chunks.
 * A load process reads tens of thousands a second, so the spellings that servers use take no regular expression.
 */
const LENGTHS = ['\r\nContent-Length: ', '\r\ncontent-length: '];
const [ZERO, NINE] = [0x30, 0x39];

/** The length of the answer that the text begins with, or null while it is not whole. */
export function answerLength(text: string): number | null {
  const headEnd = text.indexOf('\r\n\r\n');
  if (headEnd === -1) return null;
  const bodyAt = headEnd + 4;
  if (text.startsWith('HTTP/1.1 204')) return bodyAt;
  const length = contentLength(text, headEnd);
  if (length !== null) return text.length < bodyAt + length ? null : bodyAt + length;
  const end = text.indexOf('0\r\n\r\n', bodyAt);
  return end === -1 ? null : end + 5;
}

function contentLength(text: string, headEnd: number): number | null {
  for (const name of LENGTHS) {
    const found = text.indexOf(name);
    if (found === -1 || found >= headEnd) continue;
    let at = found + name.length;
    let length = 0;
    for (let digit = text.charCodeAt(at); digit >= ZERO && digit <= NINE; digit = text.charCodeAt(++at)) {
      length = length * 10 + digit - ZERO;
    }
    // Otherwise the value is spelt in another way, too.
    if (at === text.indexOf('\r\n', found + 2)) return length;
  }
  const spelt = /\r\ncontent-length: *(\d+)/i.exec(text.slice(0, headEnd))?.[1];
  return spelt === undefined ? null : Number(spelt);
}
