import type { Row } from "../../engine/protocol/report.js";
import { fromWire, type WireNumber } from "../../engine/protocol/wire.js";
import type { PairModel } from "./reportModel.js";
import { splitStage } from "./tree.js";

/** The error curve: one x for each compared reference op, in execution order; every y is log10 of relL2. */
export interface CurveData {
  /** The reference op at each x. */
  keys: string[];
  /** Row of the chosen candidate at each x. */
  rows: (Row | undefined)[];
  /** One series for each candidate; null leaves a gap. */
  series: { candidate: string; chosen: boolean; values: (number | null)[] }[];
  gate: (number | null)[];
  noise: (number | null)[];
  /** x of the rows that are origins. */
  origins: number[];
  layers: { label: string; from: number; to: number }[];
  /** Where a difference of exactly 0 is drawn: below every other value. */
  exactLane: number;
  /** The decades that hold every other value. */
  low: number;
  top: number;
}

export function curveDataOf(pairs: readonly PairModel[], chosen: PairModel): CurveData {
  const order = [chosen, ...pairs.filter((pair) => pair !== chosen)];
  const xOfKey = new Map<string, number>();
  for (const { rows } of order) {
    for (const row of rows) {
      if (isDrawn(row) && !xOfKey.has(row.key)) xOfKey.set(row.key, xOfKey.size);
    }
  }
  const rowsOf = (pairModel: PairModel): (Row | undefined)[] => {
    const rows = new Array<Row | undefined>(xOfKey.size).fill(undefined);
    for (const row of pairModel.rows) {
      const x = xOfKey.get(row.key);
      if (x !== undefined) rows[x] ??= row;
    }
    return rows;
  };
  const rows = rowsOf(chosen);
  const gate = rows.map((row) => finiteLog((row?.accumulatedGate ?? row?.gate)?.value));
  const noise = rows.map((row) => finiteLog(row?.gate?.noise));
  const raw = pairs.map((pairModel) => ({
    candidate: pairModel.pair.candidate,
    chosen: pairModel === chosen,
    values: (pairModel === chosen ? rows : rowsOf(pairModel)).map((row) => totalOf(row)),
  }));
  const { low, top } = bounds([
    ...raw.flatMap(({ values }) => values.map(finiteLog)),
    ...gate,
    ...noise,
  ]);
  // A lane that stays apart from the lowest decade's label however many decades there are.
  const exactLane = low - Math.max(1, (top - low) / 7);
  const place = (value: WireNumber | undefined): number | null => {
    if (value === undefined) return null;
    const number = fromWire(value);
    if (number === 0) return exactLane;
    if (Number.isNaN(number)) return null;
    return Number.isFinite(number) ? Math.log10(Math.abs(number)) : top;
  };
  return {
    keys: [...xOfKey.keys()],
    rows,
    series: raw.map((item) => ({ ...item, values: item.values.map(place) })),
    gate,
    noise,
    origins: rows.flatMap((row, x) => (row?.verdict === "origin" ? [x] : [])),
    layers: layersOf(rows),
    exactLane,
    low,
    top,
  };
}

/** relL2, where it is defined; integers and booleans that all agree are exact as well. */
function totalOf(row: Row | undefined): WireNumber | undefined {
  const metrics = row?.metrics;
  return metrics?.relL2 ?? (metrics?.mismatches === 0 ? 0 : undefined);
}

/** A row that was never compared has no place on the curve; one whose relL2 is undefined leaves a gap. */
function isDrawn(row: Row): boolean {
  return row.metrics !== undefined;
}

function finiteLog(value: WireNumber | undefined): number | null {
  if (value === undefined) return null;
  const number = fromWire(value);
  return number > 0 && Number.isFinite(number) ? Math.log10(number) : null;
}

/** Whole decades around the values, at least four of them, so that rounding noise never looks like a mountain. */
function bounds(values: readonly (number | null)[]): {
  low: number;
  top: number;
} {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (value === null) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low > high) return { low: -8, top: 0 };
  const top = Math.ceil(high + 0.25);
  return { low: Math.min(Math.floor(low), top - 4), top };
}

/** Runs of rows of one layer. A layer that is left and entered again is drawn as two runs. */
function layersOf(rows: readonly (Row | undefined)[]): CurveData["layers"] {
  const layers: CurveData["layers"] = [];
  rows.forEach((row, x) => {
    if (!row) return;
    const label = splitStage(row.stage).layer;
    const last = layers.at(-1);
    if (last?.label === label) last.to = x;
    else layers.push({ label, from: x, to: x });
  });
  return layers;
}
