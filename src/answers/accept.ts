/**
 * What a request accepts (RFC 9110 §12.5.1): of the ranges that match a media type the most specific one gives its
 * quality. Parameters other than `q` do not count: the bridge has one version of each type.
 */

interface Range {
  readonly type: string;
  readonly quality: number;
}

function rangesOf(accept: string | undefined): Range[] {
  return (accept ?? '').split(',').map((range) => {
    const [type = '', ...parameters] = range.split(';').map((part) => part.trim().toLowerCase());
    const quality = parameters.find((parameter) => parameter.startsWith('q='))?.slice('q='.length);
    // A quality that is no number does not count.
    return { type, quality: /^[01](\.\d*)?$/.test(quality ?? '') ? Number(quality) : 1 };
  });
}

/** From 0 (not accepted) to 1. Of several equal ranges, which differ in their parameters, the highest counts. */
function qualityOf(ranges: readonly Range[], type: string): number {
  const [main] = type.split('/');
  for (const form of [type, `${main}/*`, '*/*']) {
    const qualities = ranges.filter((range) => range.type === form).map(({ quality }) => quality);
    if (qualities.length > 0) return Math.max(...qualities);
  }
  return 0;
}

/** Whether the request prefers `type` to `other`, the type that it gets otherwise. */
export function prefers(accept: string | undefined, type: string, other: string): boolean {
  const ranges = rangesOf(accept);
  return qualityOf(ranges, type) > qualityOf(ranges, other);
}

/** Whether the request accepts `type` by its name, not by a wildcard. */
export function acceptsByName(accept: string | undefined, type: string): boolean {
  return rangesOf(accept).some((range) => range.type === type && range.quality > 0);
}
