/**
 * A picture in at most 256 colours, which for a page of text and lines is a third of the size and looks the same. Chromium
 * decodes the screenshot; the format is that of the PNG specification (W3C, §5.6: IHDR, PLTE, IDAT, IEND).
 */
import { crc32, deflateSync } from 'node:zlib';
import type { Page } from 'playwright-core';

const SIGNATURE = Buffer.from('\x89PNG\r\n\x1a\n', 'latin1');
const MOST_COLOURS = 256;

/** @param page any page: its canvas decodes the screenshot */
export async function toPalettePng(page: Page, screenshot: Buffer): Promise<Buffer> {
  const decoded = await page.evaluate<{ width: number; height: number; base64: string }>(`(async () => {
    const blob = await (await fetch('data:image/png;base64,${screenshot.toString('base64')}')).blob();
    const bitmap = await createImageBitmap(blob);
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
    const context = canvas.getContext('2d');
    context.drawImage(bitmap, 0, 0);
    const bytes = context.getImageData(0, 0, bitmap.width, bitmap.height).data;
    return { width: bitmap.width, height: bitmap.height, base64: new Uint8Array(bytes.buffer).toBase64() };
  })()`);
  const { width, height } = decoded;
  const rgba = Buffer.from(decoded.base64, 'base64');
  const pixels = new Uint32Array(width * height);
  for (let index = 0; index < pixels.length; index++) pixels[index] = rgba.readUIntBE(index * 4, 3);

  const palette = choosePalette(pixels);
  const nearest = new Map<number, number>();
  const rows = Buffer.alloc((width + 1) * height); // each row begins with its filter, 0: none
  for (let index = 0; index < pixels.length; index++) {
    const colour = pixels[index] as number;
    if (!nearest.has(colour)) nearest.set(colour, nearestOf(palette, colour));
    rows[index + Math.floor(index / width) + 1] = nearest.get(colour) as number;
  }
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 3], 8); // 8 bits for a pixel, which is an index of the palette
  return Buffer.concat([
    SIGNATURE,
    chunk('IHDR', header),
    chunk('PLTE', Buffer.from(palette.flatMap((colour) => [colour >> 16, (colour >> 8) & 255, colour & 255]))),
    chunk('IDAT', deflateSync(rows, { level: 9 })),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}

function chunk(type: string, data: Buffer): Buffer {
  const typed = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  const framed = Buffer.alloc(typed.length + 8);
  framed.writeUInt32BE(data.length, 0);
  framed.set(typed, 4);
  framed.writeUInt32BE(crc32(typed), typed.length + 4);
  return framed;
}

/** The most frequent colours, but none that is nearly the same as a more frequent one. */
function choosePalette(pixels: Uint32Array): number[] {
  const counts = new Map<number, number>();
  for (const colour of pixels) counts.set(colour, (counts.get(colour) ?? 0) + 1);
  const frequent = [...counts.keys()].sort((a, b) => (counts.get(b) as number) - (counts.get(a) as number));
  // The least distance that leaves no more colours than there is room for.
  for (let apart = 0; ; apart += 8) {
    const chosen: number[] = [];
    for (const colour of frequent) {
      if (chosen.every((other) => distance(other, colour) >= apart)) chosen.push(colour);
      if (chosen.length > MOST_COLOURS) break;
    }
    if (chosen.length <= MOST_COLOURS) return chosen;
  }
}

function nearestOf(palette: readonly number[], colour: number): number {
  let best = 0;
  for (let index = 1; index < palette.length; index++) {
    if (distance(palette[index] as number, colour) < distance(palette[best] as number, colour)) best = index;
  }
  return best;
}

/** Squared. */
function distance(a: number, b: number): number {
  const red = (a >> 16) - (b >> 16);
  const green = ((a >> 8) & 255) - ((b >> 8) & 255);
  const blue = (a & 255) - (b & 255);
  return red * red + green * green + blue * blue;
}
