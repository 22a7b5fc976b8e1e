/**
 * Numbers that survive JSON. JSON turns NaN and ±Infinity into null and −0 into 0, so these five travel as words.
 */
export type WireNumber = number | "NaN" | "Infinity" | "-Infinity" | "-0";

export function toWire(value: number): WireNumber {
  if (Number.isNaN(value)) return "NaN";
  if (value === Infinity) return "Infinity";
  if (value === -Infinity) return "-Infinity";
  return Object.is(value, -0) ? "-0" : value;
}

export function fromWire(value: WireNumber): number {
  return typeof value === "number" ? value : Number(value);
}
