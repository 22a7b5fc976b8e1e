import type { Layout } from "../protocol/tensor.js";

/**
 * What each axis of a tensor of this layout is, for errors by axis. Roles come from the layout; an axis that it says
 * nothing about is the feature axis if it is the last, a head if it lies between, and has no role in a dense tensor.
 */
export function axisRoles(layout: Layout, rank: number): string[] {
  return Array.from({ length: rank }, (_, axis) => {
    if (layout.kind === "dense") return `axis ${axis}`;
    if (layout.kind === "jagged") {
      return axis === 0 ? "sequence" : axis === rank - 1 ? "feature" : "head";
    }
    if (axis === layout.batchAxis) return "batch";
    if (layout.axes.includes(axis)) return "sequence";
    return axis === rank - 1 ? "feature" : "head";
  });
}
