import type { Cause, Origin, Parameter, Site } from "../protocol/report.js";
import { fromWire, toWire } from "../protocol/wire.js";
import { causeOfOp, causeOfParameter } from "./causes.js";
import { sampleLengths } from "./causes/sampleLengths.js";
import type { Judgement } from "./judge.js";
import { explainedCause } from "./explainedCause.js";
import { differsInPart } from "./partOfElements.js";
import type { Explanation } from "./explanation.js";
import { splitTensorName } from "./names.js";
import type { LineOptions, Side } from "./lineContext.js";
import { findLines } from "./originLines.js";
import { agreed } from "./agreedLines.js";
import type { StatementsOf } from "./statements.js";
import {
  consumers,
  producers,
  type Observation,
  type ObservedOp,
  type ObservedTensor,
} from "./observation.js";
import type { ParameterFinding } from "./parameters.js";
import type { TensorValue } from "./tensorValue.js";

/** One origin before grouping: one instance at one line. */
interface OriginInstance {
  readonly kind: Origin["kind"];
  readonly site: Site;
  readonly alternatives: readonly { site: Site; why: string }[];
  readonly explanation?: Explanation;
  readonly usedAt?: Site;
  readonly referenceSite?: Site;
  readonly referenceUsedAt?: Site;
  readonly judgement: Judgement;
  readonly parameter?: ParameterFinding;
}

/** Further back, what stands behind an origin says nothing about it. */
const mostOpsBehind = 64;

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
  /** What was proven about wrong operands and missing steps. */
  readonly explanations: ReadonlyMap<string, Explanation>;
  /** Candidate tensors that hold what a tensor of the reference holds. */
  readonly counterpartsOf: (reference: string) => readonly string[];
  readonly twinOf: LineOptions["twinOf"];
  /** Tensors of the candidate of one class hold the same values. */
  readonly classOf: (candidate: string) => string | undefined;
  readonly referenceClassOf: (reference: string) => string | undefined;
  readonly statementsOf: StatementsOf;
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
  const sideOf = (observation: Observation, makerOf: Side["makerOf"]): Side => ({
    observation,
    makerOf,
    readersOf: consumers(observation),
  });
  const reference = sideOf(options.reference, referenceMakerOf);
  const candidate = sideOf(options.candidate, makerOf);
  const isPartial = ({ pair }: Judgement): boolean => {
    const wanted = options.reference.tensors.get(pair.reference)?.value;
    const made = options.onReference?.get(pair.candidate);
    return Boolean(wanted && made && pair.alignment && differsInPart(wanted, made, pair.alignment));
  };
  const lineOptions = { ...options, reference, candidate, judgements, differsInPart: isPartial };
  const blame = findLines(lineOptions);
  const referenceNameOf = new Map(options.reference.parameters.map((p) => [p.name, p]));
  const groups = new Map<string, OriginInstance[]>();
  const add = (instance: OriginInstance): void => {
    const { site, kind } = instance;
    const key = `${kind === "parameter"} ${site.file}:${site.line}`;
    const group = groups.get(key);
    if (group) group.push(instance);
    else groups.set(key, [instance]);
  };

  const supposed = judgements
    .filter(({ verdict }) => verdict === "origin")
    .map((judgement) => ({ judgement, blamed: blame(judgement) }));
  const stepOf = (explanation: Explanation | undefined): Site | undefined => {
    return explanation?.kind === "missingStep"
      ? referenceMakerOf.get(explanation.reads[0]?.wanted ?? "")?.frames[0]
      : undefined;
  };
  /** One line of the reference: the first block reads its input, the others what the block before made. */
  const wantedAt = (explanation: Explanation | undefined): Site | undefined => {
    return explanation?.kind === "missingStep" || explanation?.kind === "operand"
      ? referenceMakerOf.get(explanation.reads[0]?.wanted ?? "")?.frames[0]
      : undefined;
  };
  const paired = new Set(judgements.map(({ pair }) => pair.candidate));
  /** With what makes a wrong operand: a sum with zeros is the other operand, and yet something was added. */
  const opsBehind = ({ segment, pair }: Judgement): ObservedOp[] => {
    const ops = new Set(segment.ops);
    const reads = options.explanations.get(pair.candidate)?.reads ?? [];
    const open = reads.flatMap(({ operand }) => makerOf.get(operand) ?? []);
    for (let op = open.pop(); op && ops.size < mostOpsBehind; op = open.pop()) {
      if (ops.has(op)) continue;
      ops.add(op);
      for (const key of op.inputs) {
        const maker = paired.has(key) ? undefined : makerOf.get(key);
        if (maker) open.push(maker);
      }
    }
    return [...ops];
  };
  for (const { judgement, blamed } of agreed(supposed, wantedAt, opsBehind)) {
    const referenceMaker = referenceMakerOf.get(judgement.pair.reference);
    const faulty = judgement.segment.parameters
      .map((key) => options.parameters.get(key))
      .filter((finding) => finding !== undefined && isFaulty(finding))
      .filter((finding) => isFelt(finding as ParameterFinding, judgement)) as ParameterFinding[];
    for (const parameter of faulty) {
      const reader = judgement.segment.ops.find((op) =>
        op.inputs.includes(parameter.candidate.tensor),
      );
      const usedAt = reader?.frames[0] ?? judgement.segment.ops.at(-1)?.frames[0];
      const declared = parameter.candidate.declaredAt ?? usedAt;
      if (!declared) continue;
      const counterpart = referenceNameOf.get(parameter.reference?.name ?? "");
      const referenceReader = counterpart && reference.readersOf.get(counterpart.tensor)?.[0];
      const referenceUsedAt = referenceReader?.frames[0];
      const referenceSite =
        counterpart?.declaredAt ?? referenceUsedAt ?? parameter.reference?.declaredAt;
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
    const [first, ...alternatives] = blamed.lines;
    if (!opsAreWrong || !first) continue;
    const { explanation } = blamed;
    const referenceSite = stepOf(explanation) ?? referenceMaker?.frames[0];
    add({
      kind: blamed.kind,
      site: first.site,
      alternatives,
      judgement,
      ...(explanation && { explanation }),
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
    : lead.explanation
      ? explainedCause(lead.explanation, options.reference, options.candidate)
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
          (causeOfOp(reference, candidate, lead.judgement.pair.alignment, {
            referenceLayout: referenceTensor?.layout,
            lengths: sampleLengths(options.reference),
          }) ??
            causeWithin(referenceTensor));
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

/** Of a step of a fused op at least its name can be told. */
function causeWithin(reference: ObservedTensor | undefined): Cause | undefined {
  return reference?.description === undefined
    ? undefined
    : {
        kind: "step",
        text: `stands where the reference has ${reference.description}, and makes something else`,
        confidence: "certain",
        evidence: { step: reference.description },
      };
}

function instanceOf(judgement: Judgement, candidate: Observation): string {
  const name = candidate.tensors.get(judgement.pair.candidate)?.names[0] ?? "";
  return splitTensorName(name).instance;
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
