import type { Report } from "../../engine/protocol/report.js";
import { fromWire } from "../../engine/protocol/wire.js";
import type { Edited, Fault, Place } from "./faults.js";

export interface Score {
  readonly fault: Fault;
  readonly verdict: Report["verdict"] | "error";
  /** 1 where each fault's line is the first that some origin names, else its worst place in the list; undefined if missing. */
  readonly rank?: number;
  /** Origins none of whose lines has anything to do with the fault. */
  readonly extra: number;
  readonly relL2: number;
  readonly maxAbs: number;
  readonly proves?: boolean;
  readonly wanted: readonly string[];
  readonly got: readonly string[];
  readonly ms: number;
}

/** Compares what the report blames with what was changed. */
export function scoreReport(fault: Fault, { wanted }: Edited, report: Report, ms: number): Score {
  const pairs = report.pairs;
  const origins = pairs.flatMap((pair) => pair.origins);
  const isAt = (site: Place, places: readonly Place[]): boolean =>
    places.some(({ file, line }) => site.line === line && site.file.endsWith(file));
  const listed = origins.map((origin) => [
    origin.site,
    ...origin.alternatives.map((alternative) => alternative.site),
  ]);
  // A parameter is as well named where it is used wrongly as where it is declared.
  const uses = origins.map((origin) => (origin.usedAt ? [origin.usedAt] : []));
  const ranks = wanted.map((places) => {
    const first = listed.some(([site]) => site && isAt(site, places));
    if (first) return 1;
    const flat = listed.flatMap((lines, at) => [...lines, ...(uses[at] ?? [])]);
    const seen = [...new Map(flat.map((site) => [`${site.file}:${site.line}`, site])).values()];
    const at = seen.findIndex((site) => isAt(site, places));
    return at < 0 ? undefined : at + 1;
  });
  const all = wanted.flat();
  const extra = listed.filter((lines) => !lines.some((site) => isAt(site, all))).length;
  const rank = ranks.every((r) => r !== undefined)
    ? Math.max(0, ...(ranks as number[]))
    : undefined;
  const proofs = pairs.flatMap((pair) => (pair.repair ? [pair.repair.proves] : []));
  return {
    fault,
    verdict: report.verdict,
    ...(rank !== undefined && report.verdict === "fail" && { rank }),
    extra,
    relL2: Math.max(0, ...pairs.map((pair) => fromWire(pair.output.relL2 ?? 0))),
    maxAbs: Math.max(0, ...pairs.map((pair) => fromWire(pair.output.maxAbs ?? 0))),
    ...(proofs.length > 0 && { proves: proofs.every((proof) => proof) }),
    wanted: wanted.map((places) => places.map(({ file, line }) => `${file}:${line}`).join(" or ")),
    got: listed.map((lines) => lines.map(({ file, line }) => `${file}:${line}`).join("|")),
    ms,
  };
}
