/** Jobs of one child, one after the other in the order in which they came. */
export interface Turns {
  /** @throws the signal's reason when cancelled before its turn. */
  take<T>(job: () => Promise<T>, signal: AbortSignal): Promise<T>;
}

export function createTurns(): Turns {
  let lastInLine: Promise<void> = Promise.resolve();
  return {
    take: async (job, signal) => {
      signal.throwIfAborted();
      const before = lastInLine;
      let leave = (): void => undefined;
      lastInLine = new Promise((resolve) => (leave = resolve));
      try {
        await untilAborted(before, signal);
        return await job();
      } finally {
        // Who leaves the line early must not let the next one overtake those before.
        void before.then(leave);
      }
    },
  };
}

async function untilAborted(promise: Promise<void>, signal: AbortSignal): Promise<void> {
  let stop = (): void => undefined;
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(signal.reason as Error);
    signal.addEventListener("abort", stop, { once: true });
  });
  try {
    await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", stop);
  }
}
