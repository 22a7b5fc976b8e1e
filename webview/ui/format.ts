import { fromWire, type WireNumber } from "../../engine/protocol/wire.js";

/**
 * A difference to three significant digits: "exact" for 0, never "0.00". Plain between 0.001 and 9999, with an exponent
 * elsewhere.
 */
export function formatDifference(value: WireNumber): string {
  return fromWire(value) === 0 ? "exact" : formatValue(value);
}

/** A value to three significant digits; 0 is "0". */
export function formatValue(value: WireNumber): string {
  const number = fromWire(value);
  if (Number.isNaN(number)) return "NaN";
  if (!Number.isFinite(number)) return number > 0 ? "+∞" : "−∞";
  if (number === 0) return "0";
  const magnitude = Math.abs(number);
  const text =
    magnitude >= 9.995e-4 && magnitude < 9999.5
      ? plain(magnitude)
      : exponential(magnitude.toExponential(2));
  return number < 0 ? `−${text}` : text;
}

/** A whole number in full, with thousands separated by a thin space. */
export function formatCount(value: number): string {
  return String(value).replace(/\B(?=(\d{3})+(?!\d))/g, "\u2009");
}

/** Every digit that the number has, for hover and copy. */
export function fullPrecision(value: WireNumber): string {
  return typeof value === "number" ? String(value) : value;
}

export function formatShare(share: number): string {
  const percent = share * 100;
  if (percent > 99 && percent < 100) return `${Math.floor(percent * 10) / 10} %`;
  return percent > 0 && percent < 1 ? "< 1 %" : `${Math.floor(percent)} %`;
}

export function formatShape(shape: readonly number[]): string {
  return shape.length === 0 ? "scalar" : `[${shape.join(", ")}]`;
}

export function formatIndex(index: readonly number[]): string {
  return `[${index.join(", ")}]`;
}

export function formatDuration(milliseconds: number): string {
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  const seconds = milliseconds / 1000;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}

/** "3 minutes ago"; undefined when the report carries no readable time. */
export function formatAge(startedAt: string | undefined, now: number): string | undefined {
  const started = startedAt === undefined ? Number.NaN : Date.parse(startedAt);
  if (Number.isNaN(started)) return undefined;
  const minutes = Math.floor((now - started) / 60_000);
  if (minutes < 1) return "just now";
  if (minutes < 60) return `${plural(minutes, "minute")} ago`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${plural(hours, "hour")} ago`;
  return `${plural(Math.floor(hours / 24), "day")} ago`;
}

export function plural(count: number, singular: string, many = `${singular}s`): string {
  return `${formatCount(count)} ${count === 1 ? singular : many}`;
}

function plain(magnitude: number): string {
  const text = magnitude.toPrecision(3);
  return text.includes("e") ? String(Math.round(magnitude)) : text;
}

function exponential(text: string): string {
  return text.replace("e+", "e").replace("e-", "e−");
}
