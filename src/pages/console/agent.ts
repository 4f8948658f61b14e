/** A `User-Agent` in words: "Chrome 128 on Windows". */

const BROWSERS: readonly (readonly [name: string, pattern: RegExp])[] = [
  ['Edge', /\bEdg(?:A|iOS)?\/(\d+)/],
  ['Opera', /\bOPR\/(\d+)/],
  ['Samsung Internet', /\bSamsungBrowser\/(\d+)/],
  ['Firefox', /\b(?:Firefox|FxiOS)\/(\d+)/],
  ['Chrome', /\b(?:Headless)?(?:Chrome|CriOS)\/(\d+)/],
  ['Safari', /\bVersion\/(\d+)[\d.]* (?:Mobile\/\S+ )?Safari\//],
];
const SYSTEMS: readonly (readonly [name: string, pattern: RegExp])[] = [
  ['iPhone', /\biPhone\b/],
  ['iPad', /\biPad\b/],
  ['Android', /\bAndroid\b/],
  ['Windows', /\bWindows\b/],
  ['macOS', /\bMac OS X\b/],
  ['ChromeOS', /\bCrOS\b/],
  ['Linux', /\bLinux\b/],
];
const PROGRAMS: readonly (readonly [name: string, pattern: RegExp])[] = [
  ['Node.js', /^(?:node|undici)$/],
  ['curl', /^curl\//],
  ['Android (OkHttp)', /^okhttp\//],
  ['Go', /^Go-http-client\//],
  ['Python', /^python|aiohttp/i],
];
const MAX_CHARACTERS = 60;

/** @returns null if there is none, or nothing in it is known: then its text says most */
export function agentInWords(userAgent: string | null): string | null {
  if (userAgent === null) return null;
  const program = PROGRAMS.find(([, pattern]) => pattern.test(userAgent));
  if (program !== undefined) return program[0];
  for (const [name, pattern] of BROWSERS) {
    const [, version] = pattern.exec(userAgent) ?? [];
    if (version === undefined) continue;
    const system = SYSTEMS.find(([, known]) => known.test(userAgent));
    return system === undefined ? `${name} ${version}` : `${name} ${version}, ${system[0]}`;
  }
  return userAgent.length > MAX_CHARACTERS ? `${userAgent.slice(0, MAX_CHARACTERS)}…` : userAgent || null;
}
