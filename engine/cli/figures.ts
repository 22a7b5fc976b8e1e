import { fromWire, type WireNumber } from "../protocol/wire.js";

/**
 * A difference to three significant digits: "exact" for 0, never "0.00", "-" where it is undefined. In ASCII, so that it
 * can be searched for and pasted; the editor's views have the typographic form.
 */
export function differenceText(value: WireNumber | undefined): string {
  if (value === undefined) return "-";
  const number = fromWire(value);
  if (!Number.isFinite(number)) return String(value);
  if (number === 0) return "exact";
  const magnitude = Math.abs(number);
  const text =
    magnitude >= 9.995e-4 && magnitude < 9999.5
      ? plain(magnitude)
      : magnitude.toExponential(2).replace("e+", "e");
  return number < 0 ? `-${text}` : text;
}

export function percentText(covered: number, total: number): string {
  if (total === 0) return "0 %";
  // Rounded down: 99.9 % are not all.
  const percent = (100 * covered) / total;
  return percent > 99 && percent < 100
    ? `${Math.floor(percent * 10) / 10} %`
    : `${Math.floor(percent)} %`;
}

export function plural(count: number, singular: string, many = `${singular}s`): string {
  return `${count} ${count === 1 ? singular : many}`;
}

/** toPrecision writes 1234 as "1.23e+3". */
function plain(magnitude: number): string {
  const text = magnitude.toPrecision(3);
  return text.includes("e") ? String(Math.round(magnitude)) : text;
}
