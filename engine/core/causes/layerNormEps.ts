import type { Cause } from "../../protocol/report.js";
import type { GroupSums } from "./partitions.js";

const fewestRows = 4;
/** Share of the variance of 1/s² − 1 that 1 − m² must explain. */
const wantedFit = 0.99;

/**
 * A normalised row is x/√(v + ε), so its mean square is m = v/(v + ε): what it lacks of 1 is ε/(v + ε). With another ε′ in
 * the candidate the row's factor s obeys 1/s² − 1 = (ε′ − ε)/(v + ε) = (ε′/ε − 1)(1 − m): a line through zero, and nothing
 * but another ε makes one. An L2 normalisation does the same with the sum of squares. Holds before weight and bias only.
 */
export function epsCause(
  { rr, cc, count }: GroupSums,
  rows: readonly number[],
  scales: Float64Array,
): Omit<Cause, "confidence"> | undefined {
  if (rows.length < fewestRows) return undefined;
  const power = (sum: Float64Array, mean: boolean): number[] =>
    rows.map((g) => (sum[g] as number) / (mean ? (count[g] as number) : 1));
  const s = rows.map((g) => scales[g] as number);
  for (const mean of [true, false]) {
    const fromReference = slope(
      power(rr, mean).map((m) => 1 - m),
      s.map((x) => 1 / (x * x) - 1),
    );
    if (fromReference !== undefined) return describe(fromReference + 1);
    const fromCandidate = slope(
      power(cc, mean).map((m) => 1 - m),
      s.map((x) => x * x - 1),
    );
    if (fromCandidate !== undefined) return describe(1 / (fromCandidate + 1));
  }
  return undefined;
}

function describe(ratio: number): Omit<Cause, "confidence"> | undefined {
  if (!(ratio >= 0)) return undefined;
  const times =
    ratio > 0 && Number.isFinite(ratio)
      ? `, about ${Number(ratio.toPrecision(2))} times the reference's`
      : "";
  return {
    kind: "eps",
    text: `looks like another eps of a normalisation${times}: each row is scaled, the more the smaller its variance`,
    evidence: { epsRatio: ratio },
  };
}

/** The slope of y over x through zero, where the line explains y; x must be 0 … 1, and vary. */
function slope(x: readonly number[], y: readonly number[]): number | undefined {
  // A row lacks what ε takes: never less than nothing but for rounding, and never all of it.
  if (x.some((v) => v < -1e-6 || v >= 1)) return undefined;
  const n = x.length;
  const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / n;
  const mx = mean(x);
  const my = mean(y);
  let xx = 0;
  let xy = 0;
  let yy = 0;
  let x0 = 0;
  let xy0 = 0;
  for (const [k, a] of x.entries()) {
    const b = y[k] as number;
    xx += (a - mx) ** 2;
    xy += (a - mx) * (b - my);
    yy += (b - my) ** 2;
    x0 += a * a;
    xy0 += a * b;
  }
  if (xx === 0 || yy === 0 || xx < 1e-4 * x0) return undefined;
  const throughZero = xy0 / x0;
  const free = xy / xx;
  const isLine = (xy * xy) / (xx * yy) >= wantedFit;
  return isLine && Math.abs(free / throughZero - 1) < 0.05 ? throughZero : undefined;
}
