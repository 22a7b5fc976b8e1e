import type { Origin, Report, Verdict } from "../../engine/protocol/report.js";
import type { Case } from "./faultList.js";
import type { Line } from "./plant.js";

/** What a run of one case came to. */
export interface Result {
  readonly id: string;
  readonly category: string;
  readonly port: string;
  readonly heldOut: boolean;
  readonly honest: boolean;
  readonly faults: number;
  /** Whether a line is asked for, or only an honest question. */
  readonly asksForLine: boolean;
  /** "none": the tool gave no report. */
  readonly verdict: Verdict | "none";
  /** The verdict is one of those that are right. */
  readonly noticed: boolean;
  /** 1: every fault is some origin's first line; else where the last of them stands. Absent: not found. */
  readonly rank?: number;
  /** Origins none of whose lines is one of the wanted. */
  readonly extra: number;
  readonly relL2?: number;
  readonly proves?: boolean;
  readonly minimal?: boolean;
  /** numpy.allclose of the valid outputs at atol 3e-2; absent where there was nothing to compare. */
  readonly allclose?: boolean;
  /** Polygraphy's default comparison of the valid outputs. */
  readonly polygraphy?: boolean;
  /** Valid outputs are bit-identical to those of the right port, over three seeds. */
  readonly noEffect: boolean;
  readonly wanted: readonly (readonly string[])[];
  readonly got: readonly string[];
  readonly summary: string;
  readonly seconds: number;
}

/** Everything about a run that its report says. */
export function scoreReport(
  { id, category, port, heldOut, honest, accept, edits }: Case,
  wanted: readonly (readonly Line[])[],
  report: Report | undefined,
): Omit<Result, "allclose" | "polygraphy" | "noEffect" | "seconds"> {
  const pair = report?.pairs[0];
  const origins = pair?.origins ?? [];
  const verdict: Result["verdict"] = report?.verdict ?? "none";
  const noticed = accept.some((one) => one === verdict);
  const rank = rankOf(wanted, origins);
  const all = wanted.flat();
  const base = { id, category, port: port.id, heldOut, honest, verdict, noticed };
  return {
    ...base,
    faults: edits.filter((edit) => edit.lines.length > 0).length,
    asksForLine: !honest && !accept.includes("unknown"),
    ...(noticed && !honest && rank !== undefined && { rank }),
    extra: origins.filter((origin) => !linesOf(origin).some((line) => isAmong(line, all))).length,
    ...(pair?.output.relL2 !== undefined && { relL2: Number(pair.output.relL2) }),
    ...(pair?.repair && { proves: pair.repair.proves, minimal: pair.repair.minimal }),
    wanted: wanted.map((lines) => lines.map(shown)),
    got: origins.map((origin) => `${origin.kind} ${linesOf(origin).map(shown).join(" | ")}`),
    summary: report?.summary ?? "",
  };
}

/**
 * A single fault: its place among all lines that the report names, origin by origin, best first. Several faults: each has
 * its best place within an origin of its own, and the worst of those counts.
 */
export function rankOf(
  wanted: readonly (readonly Line[])[],
  origins: readonly Origin[],
): number | undefined {
  const [single] = wanted;
  if (wanted.length === 1 && single) {
    const named: Line[] = [];
    for (const line of origins.flatMap(linesOf)) if (!isAmong(line, named)) named.push(line);
    const at = named.findIndex((line) => isAmong(line, single));
    return at < 0 ? undefined : at + 1;
  }
  const ranks = wanted.map((lines) =>
    Math.min(
      ...origins.map((origin) => {
        const at = linesOf(origin).findIndex((line) => isAmong(line, lines));
        return at < 0 ? Infinity : at + 1;
      }),
    ),
  );
  const worst = Math.max(...ranks);
  return Number.isFinite(worst) ? worst : undefined;
}

function linesOf({ site, alternatives }: Origin): Line[] {
  return [site, ...alternatives.map((one) => one.site)].map(({ file, line }) => ({ file, line }));
}

function isAmong({ file, line }: Line, lines: readonly Line[]): boolean {
  return lines.some((other) => other.file === file && other.line === line);
}

function shown({ file, line }: Line): string {
  return `${file}:${line}`;
}
