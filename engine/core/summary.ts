import type { Origin, Pair, Report } from "../protocol/report.js";
import { fromWire } from "../protocol/wire.js";

/** One sentence that says what is so, fit for a bug report's title. */
export function summarise(
  report: Pick<Report, "pairs" | "reference" | "implementations" | "problems">,
): string {
  const worst = [...report.pairs].sort((a, b) => rank(b) - rank(a))[0];
  if (!worst) {
    return report.reference === ""
      ? "nothing was compared"
      : `there is nothing to compare ${report.reference} with`;
  }
  const { candidate, reference, origins } = worst;
  if (worst.verdict === "fail") {
    if (origins.length === 0) {
      const row = worst.rows.find(({ verdict }) => verdict === "origin");
      if (row)
        return `${candidate} differs from ${reference} at ${row.name}, whose line is not known`;
      return `${candidate} differs from ${reference} at the output (relL2 ${figure(worst.output.relL2)}), and no line could be blamed`;
    }
    const lines = `${origins.length} ${origins.length === 1 ? "line" : "lines"}`;
    const found = [
      parametersIn(report, worst),
      ...origins.filter(isNoParameter).map(describeOrigin),
    ];
    return `${candidate} differs from ${reference} at ${lines}: ${found.filter((x) => x !== "").join("; ")}`;
  }
  const percent = coveragePercent(worst);
  if (worst.verdict === "unknown") {
    return `${candidate} cannot be judged against ${reference}: ${reasons(report, worst)}`;
  }
  const warning = worst.verdict === "warn" ? ", with warnings" : "";
  const declared = worst.declared.some(({ rows }) => rows.length > 0);
  const apart = declared ? " but for declared differences" : "";
  return `${candidate} matches ${reference}${apart}${warning}: output relL2 ${figure(worst.output.relL2)}, ${percent} of ${worst.coverage.total} operations covered`;
}

/** Why there is no verdict. */
function reasons({ problems }: Pick<Report, "problems">, pair: Pair): string {
  const { covered, total, threshold } = pair.coverage;
  const found: string[] = [];
  if (total === 0 || covered / total < threshold) {
    const needed = Math.round(threshold * 100);
    found.push(`${coveragePercent(pair)} of its operations are covered, ${needed} % are needed`);
  }
  const mentions = (message: string): boolean =>
    message.endsWith(` of ${pair.candidate} has no counterpart`) ||
    message.endsWith(` has no counterpart in ${pair.candidate}`);
  found.push(...problems.map(({ message }) => message).filter(mentions));
  if (pair.rows.some(({ verdict }) => verdict === "carrier" || verdict === "amplifier")) {
    found.push("a difference is left that nothing explains");
  }
  return found.length > 0 ? found.join("; ") : "no output with any element was compared";
}

/** One faulty line in eight layers is one line and eight instances. */
function describeOrigin(origin: Origin): string {
  const others = origin.alternatives.length;
  const place =
    others === 0
      ? `${origin.site.file}:${origin.site.line}`
      : `${origin.site.file}:${origin.site.line} or one of ${others} other ${others === 1 ? "line" : "lines"}`;
  const times = origin.instances.length > 1 ? `${origin.instances.length} instances of ` : "";
  return `${times}${place}${origin.cause ? `, which ${origin.cause.text}` : times === "" ? " introduces a difference" : " introduce a difference"}`;
}

/** "4 of 13 parameters never came from torch (port.py:76, :77)". */
function parametersIn({ implementations }: Pick<Report, "implementations">, pair: Pair): string {
  const origins = pair.origins.filter((origin) => !isNoParameter(origin));
  if (origins.length === 0) return "";
  const total = implementations.find(({ id }) => id === pair.candidate)?.parameters.total ?? 0;
  const faulty = origins.flatMap((origin) => origin.parameters ?? []).length;
  const never = origins.every((origin) => origin.cause?.kind === "parameterNotFromReference");
  const what = never ? `never came from ${pair.reference}` : `are not those of ${pair.reference}`;
  const places = origins.map(({ site }, index) =>
    site.file === origins[index - 1]?.site.file ? `:${site.line}` : `${site.file}:${site.line}`,
  );
  return `${faulty} of ${total} parameters ${what} (${places.join(", ")})`;
}

function isNoParameter(origin: Origin): boolean {
  return origin.kind !== "parameter";
}

function coveragePercent({ coverage }: Pair): string {
  return coverage.total === 0
    ? "none"
    : `${Math.floor((100 * coverage.covered) / coverage.total)} %`;
}

function rank(pair: Pair): number {
  return ["pass", "warn", "unknown", "fail"].indexOf(pair.verdict);
}

function figure(value: Pair["output"]["relL2"]): string {
  if (value === undefined) return "undefined";
  const number = fromWire(value);
  return number === 0 ? "exactly 0" : number.toPrecision(2);
}
