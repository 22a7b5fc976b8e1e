/** A factor within this of a name is that name: float32 products of it vary by their rounding. */
const sameFactor = 2e-7;
/** √d of a smaller axis is 2 or less, a factor that has many other reasons. */
const smallestRoot = 8;
const smallestSize = 3;

/** "0.125000 (1/8) …", and the names of sizes that the factor fits, at most two: more would say nothing. */
export function describeScale(
  scale: number,
  shapes: readonly (readonly number[])[],
): { text: string; fits: readonly string[] } {
  const fits = sizeNames(scale, shapes).slice(0, 2);
  const named = fits.length > 0 ? `, ${fits.join(" or ")},` : "";
  return { text: `${digits(scale)}${asRatio(scale)}${named}`, fits };
}

/** Six digits; what is nearly 1 by how far it is from it. */
function digits(scale: number): string {
  const beyond = scale - 1;
  if (Math.abs(beyond) >= 1e-4) return scale.toPrecision(6);
  return `(1 ${beyond < 0 ? "−" : "+"} ${Math.abs(beyond).toPrecision(3)})`;
}

/** A ratio of small whole numbers says more than a decimal: 1.125 is 27/24. */
export function asRatio(scale: number): string {
  for (let denominator = 1; denominator <= 1024; denominator++) {
    const numerator = Math.round(scale * denominator);
    if (numerator === 0 || numerator > 1024) continue;
    if (Math.abs(numerator / denominator - scale) < sameFactor * Math.abs(scale)) {
      return denominator === 1 ? "" : ` (${numerator}/${denominator})`;
    }
  }
  return "";
}

function sizeNames(scale: number, shapes: readonly (readonly number[])[]): string[] {
  const is = (factor: number): boolean => Math.abs(scale / factor - 1) < 2e-6;
  const names = new Set<string>();
  const sizes = new Set(shapes.flat());
  for (const size of sizes) {
    if (size < smallestSize) continue;
    if (is(1 / size)) names.add(`1/N of an axis with N = ${size}`);
    if (is(size)) names.add(`N of an axis with N = ${size}`);
    if (size < smallestRoot) continue;
    if (is(1 / Math.sqrt(size))) names.add(`1/√d of an axis with d = ${size}`);
    if (is(Math.sqrt(size))) names.add(`√d of an axis with d = ${size}`);
  }
  return [...names];
}
