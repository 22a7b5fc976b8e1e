import type { Layout } from "../protocol/tensor.js";

export interface LayoutFinding {
  readonly code:
    "offsets-invalid" | "lengths-invalid" | "axes-invalid" | "offsets-tail" | "truncation";
  readonly severity: "error" | "warning";
  readonly text: string;
}

/** What is wrong with a layout: offsets that do not start at 0, decrease or leave the tensor; lengths over the width. */
export function checkLayout(
  layout: Layout | undefined,
  shape: readonly number[],
): readonly LayoutFinding[] {
  if (!layout || layout.kind === "dense") return [];
  const findings: LayoutFinding[] = [];
  const report = (
    code: LayoutFinding["code"],
    severity: LayoutFinding["severity"],
    text: string,
  ): void => {
    findings.push({ code, severity, text });
  };
  if (layout.kind === "jagged") {
    const { offsets } = layout;
    const rows = shape[0];
    const end = offsets.at(-1) ?? 0;
    const falls = offsets.findIndex((offset, b) => b > 0 && offset < (offsets[b - 1] as number));
    if (rows === undefined) report("offsets-invalid", "error", "a 0-d tensor cannot be jagged");
    else if (offsets.length === 0 || offsets[0] !== 0) {
      report("offsets-invalid", "error", "the offsets do not start at 0");
    } else if (!offsets.every(Number.isSafeInteger)) {
      report("offsets-invalid", "error", "the offsets are no whole numbers");
    } else if (falls > 0) {
      report("offsets-invalid", "error", `the offsets decrease at sample ${falls - 1}`);
    } else if (end > rows) {
      report("offsets-invalid", "error", `the offsets end at ${end}, but there are ${rows} rows`);
    } else if (end < rows) {
      const text = `${rows - end} of ${rows} rows lie after the last sample and are not compared`;
      report("offsets-tail", "warning", text);
    }
    return findings;
  }
  const { lengths, batchAxis, axes } = layout;
  const inside = (axis: number): boolean =>
    Number.isInteger(axis) && axis >= 0 && axis < shape.length;
  if (!inside(batchAxis) || !axes.every(inside) || axes.includes(batchAxis)) {
    report("axes-invalid", "error", `axes ${axes.join(", ")} do not fit [${shape.join(", ")}]`);
    return findings;
  }
  if (lengths.length !== shape[batchAxis]) {
    const text = `${lengths.length} lengths for ${shape[batchAxis]} samples`;
    report("lengths-invalid", "error", text);
  } else if (!lengths.every((length) => Number.isSafeInteger(length) && length >= 0)) {
    report("lengths-invalid", "error", "the lengths are no counts");
  }
  if (findings.length > 0) return findings;
  for (const axis of axes) {
    const width = shape[axis] as number;
    const over = lengths.filter((length) => length > width).length;
    if (over === 0) continue;
    const text = `truncation: axis ${axis} is ${width} wide, but ${over} of ${lengths.length} samples are longer`;
    report("truncation", "error", text);
  }
  return findings;
}
