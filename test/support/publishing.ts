/** Publishes one event after the other, as fast as the bridge accepts them, while a test does something else. */
export interface Publishing {
  /** The cursors so far, in order. */
  readonly published: readonly string[];
  /** Resolves to all of them. */
  stop(): Promise<string[]>;
}

/** `publishOne` resolves to a cursor; null if the event does not count. */
export function keepPublishing(publishOne: () => Promise<string | null>, pauseMs = 0): Publishing {
  const published: string[] = [];
  let isStopped = false;
  const publishing = (async () => {
    while (!isStopped) {
      const id = await publishOne();
      if (id !== null) published.push(id);
      await new Promise<void>((resolve) => {
        if (pauseMs === 0) setImmediate(resolve);
        else setTimeout(resolve, pauseMs);
      });
    }
  })();
  return {
    published,
    async stop() {
      isStopped = true;
      await publishing;
      return published;
    },
  };
}
