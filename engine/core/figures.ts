import { fromWire, type WireNumber } from "../protocol/wire.js";

/** A difference to three significant digits: "exact" for 0, never "0.00"; "—" where it is undefined. */
export function differenceText(value: WireNumber | undefined): string {
  if (value === undefined) return "—";
  const number = fromWire(value);
  if (Number.isNaN(number)) return "NaN";
  if (!Number.isFinite(number)) return number > 0 ? "+∞" : "−∞";
  if (number === 0) return "exact";
  const magnitude = Math.abs(number);
  const text =
    magnitude >= 9.995e-4 && magnitude < 9999.5
      ? magnitude.toPrecision(3)
      : magnitude.toExponential(2).replace("e+", "e").replace("e-", "e−");
  return number < 0 ? `−${text}` : text;
}

export function plural(count: number, singular: string): string {
  return `${count} ${singular}${count === 1 ? "" : "s"}`;
}
