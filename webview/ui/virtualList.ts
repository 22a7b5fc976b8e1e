import {
  elementScroll,
  observeElementOffset,
  observeElementRect,
  defaultRangeExtractor,
  Virtualizer,
  type Range,
  type VirtualItem,
} from "@tanstack/virtual-core";

/** Which lines of a long list of equal heights are drawn, and where. */
export class VirtualList {
  readonly #virtualizer: Virtualizer<HTMLElement, HTMLElement>;
  readonly #lineHeight: number;
  #detach: (() => void) | undefined;
  #kept = -1;

  /** `onChange` is called when other lines have to be drawn, after scrolling or resizing. */
  constructor(lineHeight: number, scrollElement: () => HTMLElement | null, onChange: () => void) {
    this.#lineHeight = lineHeight;
    this.#virtualizer = new Virtualizer<HTMLElement, HTMLElement>({
      count: 0,
      getScrollElement: scrollElement,
      estimateSize: () => lineHeight,
      overscan: 12,
      scrollToFn: elementScroll,
      observeElementRect,
      observeElementOffset,
      onChange,
    });
  }

  /** Before drawing. `kept` is a line that stays in the document wherever the list is scrolled to: the one that has the focus. */
  update(count: number, kept: number): void {
    // The virtualizer remembers its lines by its options, so a new extractor is what makes it ask again.
    const rangeExtractor =
      kept === this.#kept
        ? this.#virtualizer.options.rangeExtractor
        : (range: Range) => withKept(defaultRangeExtractor(range), kept, range.count);
    this.#kept = kept;
    this.#virtualizer.setOptions({
      ...this.#virtualizer.options,
      count,
      rangeExtractor,
    });
  }

  /** After drawing, when the scrolling element is in the document: follows its size and position from now on. */
  drawn(): void {
    this.#detach ??= this.#virtualizer._didMount();
    this.#virtualizer._willUpdate();
  }

  get lines(): VirtualItem[] {
    return this.#virtualizer.getVirtualItems();
  }

  /** In CSS pixels. */
  get height(): number {
    return this.#virtualizer.getTotalSize();
  }

  get linesPerPage(): number {
    const height = this.#virtualizer.scrollRect?.height ?? 0;
    return Math.max(1, Math.floor(height / this.#lineHeight) - 1);
  }

  /** Scrolls no further than needed to a line near the view; one far away comes to the middle. */
  reveal(index: number): void {
    const { range } = this.#virtualizer;
    const near = range && index >= range.startIndex - 2 && index <= range.endIndex + 2;
    this.#virtualizer.scrollToIndex(index, { align: near ? "auto" : "center" });
  }

  dispose(): void {
    this.#detach?.();
  }
}

function withKept(indices: number[], kept: number, count: number): number[] {
  if (kept < 0 || kept >= count || indices.includes(kept)) return indices;
  return [...indices, kept].sort((a, b) => a - b);
}
