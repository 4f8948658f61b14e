// How long the page was without any transport, and how many events it received for that time afterwards.

export function createGaps() {
  let gap = null; // the newest: { fromMs, untilMs, replayed }; untilMs is null while it lasts

  return {
    /** @param transport null: no transport works. Returns the gap that begins or ends with this, else null. */
    status(transport, nowMs) {
      const isOpen = gap !== null && gap.untilMs === null;
      if (isOpen === (transport === null)) return null;
      if (isOpen) gap.untilMs = nowMs;
      else gap = { fromMs: nowMs, untilMs: null, replayed: 0 };
      return gap;
    },
    /** An event arrives that was published at this time. Events arrive in order: one from before the end is a replayed one. */
    take(publishedMs) {
      if (gap !== null && publishedMs < (gap.untilMs ?? Number.POSITIVE_INFINITY)) gap.replayed += 1;
    },
    get last() {
      return gap;
    },
  };
}
