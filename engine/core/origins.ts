import type { Origin, Parameter, Site } from "../protocol/report.js";
import { fromWire, toWire } from "../protocol/wire.js";
import { causeOfOp, causeOfParameter } from "./causes.js";
import { sampleLengths } from "./causes/sampleLengths.js";
import type { Judgement } from "./judge.js";
import { splitTensorName } from "./names.js";
import { consumers, producers, type Observation, type ObservedOp } from "./observation.js";
import type { ParameterFinding } from "./parameters.js";
import type { TensorValue } from "./tensorValue.js";

/** One origin before grouping: one instance at one line. */
interface OriginInstance {
  readonly kind: "op" | "parameter" | "output";
  readonly site: Site;
  readonly alternatives: readonly { site: Site; why: string }[];
  readonly usedAt?: Site;
  readonly referenceSite?: Site;
  readonly referenceUsedAt?: Site;
  readonly judgement: Judgement;
  readonly parameter?: ParameterFinding;
}

/** Origins with what a repair must replace to undo each of them. */
export interface FoundOrigin {
  readonly origin: Origin;
  readonly judgements: readonly Judgement[];
  readonly parameters: readonly ParameterFinding[];
}

export interface OriginOptions {
  readonly reference: Observation;
  readonly candidate: Observation;
  readonly parameters: ReadonlyMap<string, ParameterFinding>;
  readonly rowIdOf: (judgement: Judgement) => string;
  /** f_c(x_r) with the reference's parameters, for causes. */
  readonly onReference?: ReadonlyMap<string, TensorValue>;
}

/** All origins among the judgements, grouped by the line to fix, in execution order. */
export function findOrigins(
  judgements: readonly Judgement[],
  options: OriginOptions,
): FoundOrigin[] {
  const makerOf = producers(options.candidate);
  const referenceMakerOf = producers(options.reference);
  const referenceReaders = consumers(options.reference);
  const referenceNameOf = new Map(options.reference.parameters.map((p) => [p.name, p]));
  const groups = new Map<string, OriginInstance[]>();
  const add = (instance: OriginInstance): void => {
    const { site, kind } = instance;
    const key = `${kind} ${site.file}:${site.line}:${site.function}`;
    const group = groups.get(key);
    if (group) group.push(instance);
    else groups.set(key, [instance]);
  };

  for (const judgement of judgements) {
    if (judgement.verdict !== "origin") continue;
    const lines = linesOf(judgement, options.candidate);
    const referenceMaker = referenceMakerOf.get(judgement.pair.reference);
    const faulty = judgement.segment.parameters
      .map((key) => options.parameters.get(key))
      .filter((finding) => finding !== undefined && isFaulty(finding))
      .filter((finding) => isFelt(finding as ParameterFinding, judgement)) as ParameterFinding[];
    for (const parameter of faulty) {
      const reader = judgement.segment.ops.find((op) =>
        op.inputs.includes(parameter.candidate.tensor),
      );
      const usedAt = dataSite(reader, judgement, lines);
      const declared = parameter.candidate.declaredAt ?? usedAt;
      if (!declared) continue;
      const counterpart = referenceNameOf.get(parameter.reference?.name ?? "");
      const referenceReader = counterpart && referenceReaders.get(counterpart.tensor)?.[0];
      const referenceUsedAt = referenceReader?.frames[0];
      const referenceSite = counterpart?.declaredAt ?? referenceUsedAt;
      add({
        kind: "parameter",
        site: declared,
        alternatives: [],
        judgement,
        parameter,
        ...(usedAt && { usedAt }),
        ...(referenceSite && { referenceSite }),
        ...(referenceUsedAt && { referenceUsedAt }),
      });
    }
    const opsAreWrong =
      faulty.length === 0 ||
      judgement.introducedByOps === undefined ||
      judgement.introducedByOps > Number(judgement.gate.value);
    const [site, ...others] = lines;
    if (!opsAreWrong || !site) continue;
    const referenceSite = referenceMaker?.frames[0];
    add({
      kind: judgement.pair.alignment ? "op" : "output",
      site,
      alternatives: others.map((other) => ({
        site: other,
        why: "lies between the last tensors that match and this one; nothing in between has a counterpart",
      })),
      judgement,
      ...(referenceSite && { referenceSite }),
    });
  }

  const found = [...groups.values()].map((group) => toOrigin(group, options));
  const position = new Map(options.candidate.ops.map((op, index) => [op, index]));
  const first = (origin: FoundOrigin): number =>
    position.get(makerOf.get(origin.judgements[0]?.pair.candidate ?? "") as ObservedOp) ?? 0;
  return found
    .sort((a, b) => first(a) - first(b) || a.origin.site.line - b.origin.site.line)
    .map((entry, index) => ({ ...entry, origin: { ...entry.origin, id: `o${index + 1}` } }));
}

/** A parameter whose values are not the reference's although a counterpart for it is known. */
export function isFaulty(finding: ParameterFinding): boolean {
  return (
    finding.reference !== undefined &&
    (finding.status === "different" || finding.status === "notFromReference")
  );
}

/** A parameter that differs by rounding only is not to blame for what another fault of the segment does. */
function isFelt(
  { candidate }: ParameterFinding,
  { parameterEffects, gate, introducedByOps }: Judgement,
): boolean {
  const limit = fromWire(gate.value);
  const effect = parameterEffects?.get(candidate.tensor);
  if (effect === undefined || !(effect <= limit)) return true;
  // Several that are felt together only: none of them can be let off.
  const together = [...(parameterEffects?.values() ?? [])].every((other) => other <= limit);
  return together && introducedByOps !== undefined && introducedByOps <= limit;
}

function toOrigin(group: readonly OriginInstance[], options: OriginOptions): FoundOrigin {
  const lead = group[0] as OriginInstance;
  const introduced = Math.max(...group.map((g) => g.judgement.introduced ?? g.judgement.total));
  const inherited = Math.max(...group.map((g) => g.judgement.inherited ?? 0));
  const { instance: _instance, call: _call, ...site } = lead.site;
  const parameters = [
    ...new Set(group.map((g) => g.parameter).filter((p) => p !== undefined)),
  ] as ParameterFinding[];
  const referenceTensor = options.reference.tensors.get(lead.judgement.pair.reference);
  const reference = referenceTensor?.value;
  const candidate = options.onReference?.get(lead.judgement.pair.candidate);
  const cause = lead.parameter
    ? causeOfParameter(lead.parameter, options.reference.parameters)
    : lead.judgement.pair.shapeReason !== undefined
      ? {
          kind: "shape",
          text: `the shape differs: ${lead.judgement.pair.shapeReason}`,
          confidence: "certain" as const,
          evidence: {},
        }
      : reference &&
        candidate &&
        lead.judgement.pair.alignment &&
        causeOfOp(reference, candidate, lead.judgement.pair.alignment, {
          referenceLayout: referenceTensor?.layout,
          lengths: sampleLengths(options.reference),
        });
  return {
    judgements: group.map((g) => g.judgement),
    parameters,
    origin: {
      id: "",
      kind: lead.kind,
      site,
      alternatives: [...lead.alternatives],
      ...(lead.usedAt && { usedAt: lead.usedAt }),
      ...(lead.referenceSite && { referenceSite: lead.referenceSite }),
      ...(lead.referenceUsedAt && { referenceUsedAt: lead.referenceUsedAt }),
      stage: lead.judgement.stage,
      instances: group.map((g) => ({
        instance: instanceOf(g.judgement, options.candidate),
        row: options.rowIdOf(g.judgement),
        introduced: toWire(g.judgement.introduced ?? g.judgement.total),
      })),
      ...(parameters.length > 0 && { parameters: parameters.map((p) => p.candidate.name) }),
      introduced: toWire(introduced),
      inherited: toWire(inherited),
      ...(cause && { cause }),
    },
  };
}

function instanceOf(judgement: Judgement, candidate: Observation): string {
  const name = candidate.tensors.get(judgement.pair.candidate)?.names[0] ?? "";
  return splitTensorName(name).instance;
}

/** Lines of the segment's ops on tensors of rank 2 or more: the line that makes the tensor first, then backwards. */
function linesOf(judgement: Judgement, candidate: Observation): Site[] {
  const ops = judgement.segment.ops.filter((op) => op.frames.length > 0);
  const data = ops.filter((op) =>
    op.outputs.some((key) => (candidate.tensors.get(key)?.shape.length ?? 0) >= 2),
  );
  const seen = new Set<string>();
  const lines: Site[] = [];
  for (const op of [...(data.length > 0 ? data : ops)].reverse()) {
    const site = op.frames[0] as Site;
    const key = `${site.file}:${site.line}`;
    if (!seen.has(key)) lines.push(site);
    seen.add(key);
  }
  return lines;
}

function dataSite(
  reader: ObservedOp | undefined,
  judgement: Judgement,
  lines: readonly Site[],
): Site | undefined {
  return reader?.frames[0] ?? judgement.segment.ops.at(-1)?.frames[0] ?? lines[0];
}

/** The report's entry for one parameter. */
export function reportParameter(
  finding: ParameterFinding,
  referenceId: string,
  usedAt: readonly Site[],
): Parameter {
  const { candidate, reference } = finding;
  return {
    name: candidate.name,
    shape: [...candidate.value.shape],
    dtype: candidate.value.dtype,
    ...(candidate.declaredAt && { site: candidate.declaredAt }),
    usedAt: [...usedAt],
    ...(reference && {
      reference: {
        implementation: referenceId,
        name: reference.name,
        ...(reference.declaredAt && { site: reference.declaredAt }),
      },
    }),
    ...(finding.pairedBy && { howPaired: finding.pairedBy }),
    ...(finding.relL2 !== undefined && { relL2: toWire(finding.relL2) }),
  };
}
