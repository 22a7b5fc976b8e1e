import type { Cause } from "../../protocol/report.js";
import { floatFormats, fromFloat64, toFloat64 } from "../dtypes.js";
import type { Frame } from "./frame.js";

/** Numbers that happen to be short (0, 1, ½) are in every type: so many of the reference's must not be. */
const longShare = 0.5;
const fewest = 8;
/** A value next to a rounding boundary may fall on its other side: one unit instead of a half one. */
const unitsOff = 1.01;

/** Every value is one of a narrower type, and the reference's rounded to it, give or take one unit. */
export function roundingCause(frame: Frame): Cause | undefined {
  const { r, c, places } = frame;
  if (places.length < fewest) return undefined;
  const values = Float64Array.from(places, (i) => c[i] as number);
  const wanted = Float64Array.from(places, (i) => r[i] as number);
  for (const { name, mantissaBits, minNormal, round } of narrowTypes) {
    const rounded = round(values);
    if (!rounded.every((x, k) => x === values[k])) continue;
    const reference = round(wanted);
    let long = 0;
    let exact = 0;
    let isRounded = true;
    for (let k = 0; k < wanted.length && isRounded; k++) {
      const x = wanted[k] as number;
      if (reference[k] !== x) long++;
      if (reference[k] === values[k]) exact++;
      const exponent = Math.floor(Math.log2(Math.max(Math.abs(x), minNormal)));
      const unit = 2 ** (exponent - mantissaBits);
      isRounded = Math.abs((values[k] as number) - x) <= unitsOff * unit;
    }
    if (!isRounded || long < longShare * wanted.length) continue;
    return {
      kind: "rounding",
      text: `looks rounded to ${name}: every element is a number of that type, within its rounding of the reference's`,
      confidence: exact > 0.99 * wanted.length ? "likely" : "possible",
      evidence: { type: name, exactShare: exact / wanted.length },
    };
  }
  return undefined;
}

interface NarrowType {
  readonly name: string;
  readonly mantissaBits: number;
  readonly minNormal: number;
  readonly round: (values: Float64Array) => Float64Array;
}

/** The narrowest first, because what fits it may fit the wider ones too. */
const narrowTypes: readonly NarrowType[] = [
  ...(["bfloat16", "float16"] as const).map((dtype) => ({
    name: dtype,
    mantissaBits: floatFormats[dtype].mantissaBits,
    minNormal: floatFormats[dtype].minNormal,
    round: (values: Float64Array) =>
      toFloat64({ dtype, shape: [values.length], bytes: fromFloat64(values, dtype) }),
  })),
  {
    name: "TF32",
    mantissaBits: 10,
    minNormal: 2 ** -126,
    round: (values) => Float64Array.from(values, toTf32),
  },
];

/** TensorFloat-32 has the exponents of float32 and the ten mantissa bits of float16. */
function toTf32(x: number): number {
  if (x === 0 || !Number.isFinite(x)) return x;
  const unit = 2 ** (Math.max(Math.floor(Math.log2(Math.abs(x))), -126) - 10);
  const scaled = x / unit;
  const whole = Math.floor(scaled);
  const rest = scaled - whole;
  const up = rest > 0.5 || (rest === 0.5 && whole % 2 !== 0);
  return (up ? whole + 1 : whole) * unit;
}
