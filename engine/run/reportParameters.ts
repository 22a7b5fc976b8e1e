import type { TensorKey } from "../core/observation.js";
import { isFaulty, reportParameter, type FoundOrigin } from "../core/origins.js";
import type { ParameterComparison } from "../core/parameters.js";
import type { Implementation, Problem, Site } from "../protocol/report.js";
import type { ObservedImplementation } from "./observe.js";

/** What became of each of the candidate's parameters, for the report. */
export function reportParameters(
  reference: ObservedImplementation,
  candidate: ObservedImplementation,
  comparison: ParameterComparison,
): Implementation["parameters"] {
  const of = (status: string) =>
    comparison.findings
      .filter((finding) => finding.status === status)
      .map((finding) =>
        reportParameter(finding, reference.id, usesOf(candidate, finding.candidate.tensor)),
      );
  return {
    total: comparison.findings.length,
    same: of("same"),
    transposed: of("transposed"),
    different: of("different"),
    notFromReference: of("notFromReference"),
    missing: comparison.missing.map((parameter) => ({
      name: parameter.name,
      shape: [...parameter.value.shape],
      dtype: parameter.value.dtype,
      ...(parameter.declaredAt && { site: parameter.declaredAt }),
      usedAt: usesOf(reference, parameter.tensor),
    })),
  };
}

function usesOf({ observation }: ObservedImplementation, tensor: TensorKey): Site[] {
  const sites = new Map<string, Site>();
  for (const op of observation.ops) {
    const site = op.frames[0];
    if (site && op.inputs.includes(tensor)) sites.set(`${site.file}:${site.line}`, site);
  }
  return [...sites.values()];
}

/** Parameters that do not pair at all, and those that differ without effect. */
export function parameterProblems(
  reference: ObservedImplementation,
  candidate: ObservedImplementation,
  comparison: ParameterComparison,
  found: readonly FoundOrigin[],
): Problem[] {
  const { findings } = comparison;
  if (
    findings.length > 0 &&
    reference.observation.parameters.length > 0 &&
    findings.every((finding) => !finding.reference) &&
    findings.some((finding) => !finding.candidate.isConstant)
  ) {
    return [
      {
        severity: "error",
        code: "parameters-do-not-pair",
        message: `none of the ${findings.length} parameters of ${candidate.id} pairs with one of ${reference.id}, neither by name nor by content`,
        nextStep: 'Declare which belong together in "parameterPairs", or compare another model.',
      },
    ];
  }
  const blamed = new Set(found.flatMap((o) => o.parameters.map((p) => p.candidate.name)));
  return findings
    .filter((finding) => isFaulty(finding) && !blamed.has(finding.candidate.name))
    .map((finding): Problem => ({
      severity: "warning",
      code: "parameter-without-effect",
      message: `${finding.candidate.name} differs from the reference's ${finding.reference?.name ?? ""}, ${
        candidate.program
          ? "but nothing that was compared is over its gate because of it"
          : "and a recording cannot tell what that does to the result"
      }`,
      nextStep: "Copy it from the reference, or declare the difference as expected.",
      ...(finding.candidate.declaredAt && { site: finding.candidate.declaredAt }),
    }));
}
