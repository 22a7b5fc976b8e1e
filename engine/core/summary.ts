import type { Origin, Pair, Report } from "../protocol/report.js";
import { fromWire } from "../protocol/wire.js";

/** One sentence that says what is so, fit for a bug report's title. */
export function summarise(report: Pick<Report, "pairs" | "reference">): string {
  const worst = [...report.pairs].sort((a, b) => rank(b) - rank(a))[0];
  if (!worst) return `there is nothing to compare ${report.reference} with`;
  const { candidate, reference, origins } = worst;
  if (worst.verdict === "fail") {
    if (origins.length === 0) {
      return `${candidate} differs from ${reference} at the output (relL2 ${figure(worst.output.relL2)}), and no line could be blamed`;
    }
    return `${candidate} differs from ${reference}: ${origins.map(describeOrigin).join("; ")}`;
  }
  const percent = coveragePercent(worst);
  if (worst.verdict === "unknown") {
    return `${candidate} cannot be judged against ${reference}: ${percent} of its operations are covered, ${Math.round(worst.coverage.threshold * 100)} % are needed`;
  }
  const warning = worst.verdict === "warn" ? ", with warnings" : "";
  return `${candidate} matches ${reference}${warning}: output relL2 ${figure(worst.output.relL2)}, ${percent} of ${worst.coverage.total} operations covered`;
}

/** "2 lines, 4 tensors": one faulty line in eight layers is one line and eight instances. */
function describeOrigin(origin: Origin): string {
  const place = `${origin.site.file}:${origin.site.line}`;
  const times = origin.instances.length > 1 ? ` (${origin.instances.length} instances)` : "";
  return origin.kind === "parameter"
    ? `the parameter declared at ${place} is not the reference's${times}`
    : `${place} is wrong${times}`;
}

function coveragePercent({ coverage }: Pair): string {
  return coverage.total === 0 ? "none" : `${Math.floor((100 * coverage.covered) / coverage.total)} %`;
}

function rank(pair: Pair): number {
  return ["pass", "warn", "unknown", "fail"].indexOf(pair.verdict);
}

function figure(value: Pair["output"]["relL2"]): string {
  if (value === undefined) return "undefined";
  const number = fromWire(value);
  return number === 0 ? "exactly 0" : number.toPrecision(2);
}
