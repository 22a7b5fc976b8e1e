/** The elements that differ most, kept during a pass without sorting: one comparison for a block that has none. */
export interface WorstList {
  readonly limit: number;
  /** NaN, ±Inf or fill on one side only, in the reference's order. They come before all numbers. */
  readonly disagreements: {
    push(element: WorstEntry): void;
    readonly items: WorstEntry[];
  };
  /** Largest |d| first; the earlier element first where |d| is equal. */
  readonly largest: (WorstEntry & { readonly absolute: number })[];
}

export interface WorstEntry {
  /** Flat offset in the reference. */
  readonly offset: number;
  readonly reference: number;
  readonly candidate: number;
}

export function newWorstList(limit: number): WorstList {
  const items: WorstEntry[] = [];
  return {
    limit,
    disagreements: {
      items,
      push: (element) => {
        if (items.length < limit) items.push(element);
      },
    },
    largest: [],
  };
}

/** A block whose largest difference is no worse than what the list has costs one comparison. */
export function offerBlock(
  list: WorstList,
  reference: ArrayLike<number>,
  candidate: ArrayLike<number>,
  length: number,
  maxAbsolute: number,
  offsetOf: (position: number) => number,
): void {
  let threshold = bar(list);
  if (maxAbsolute <= threshold) return;
  for (let i = 0; i < length; i++) {
    const r = reference[i] as number;
    const c = candidate[i] as number;
    const absolute = Math.abs(c - r);
    if (absolute <= threshold) continue;
    offer(list, { offset: offsetOf(i), reference: r, candidate: c, absolute });
    threshold = bar(list);
  }
}

export function offer(list: WorstList, entry: WorstEntry & { readonly absolute: number }): void {
  const { largest } = list;
  let at = largest.length;
  while (at > 0 && (largest[at - 1] as { absolute: number }).absolute < entry.absolute) at--;
  largest.splice(at, 0, entry);
  if (largest.length > Math.max(1, list.limit)) largest.pop();
}

/** What |d| must exceed to enter. Elements without a difference never do. */
export function bar(list: WorstList): number {
  return list.largest.length < Math.max(1, list.limit)
    ? 0
    : (list.largest.at(-1) as { absolute: number }).absolute;
}
