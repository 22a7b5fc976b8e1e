import type { Cause } from "../protocol/report.js";
import { toWire } from "../protocol/wire.js";
import { figure } from "./causes/elementwise.js";
import type { Explanation, WrongRead } from "./explanation.js";
import { splitTensorName } from "./names.js";
import { producers, type Observation, type ObservedOp, type TensorKey } from "./observation.js";

/** What an explanation proves, in words that follow "which". */
export function explainedCause(
  explanation: Explanation,
  reference: Observation,
  candidate: Observation,
): Cause {
  const { kind, reads, remaining, constant = { own: 1, wanted: 1 } } = explanation;
  const [{ reader, operand, wanted }] = reads as [WrongRead];
  const read = nameOf(operand, candidate);
  const right = nameOf(wanted, reference);
  const maker = producers(reference).get(wanted);
  const site = maker?.frames[0];
  const place = site ? ` (${site.file}:${site.line})` : "";
  // Several places may read the same.
  const distinct = reads.filter(
    (one, at) => reads.findIndex((other) => other.operand === one.operand) === at,
  );
  const each = distinct.map((one) => nameOf(one.operand, candidate)).join(" and ");
  const instead = distinct.map((one) => nameOf(one.wanted, reference)).join(" and ");
  // Rows that one side packs and the other pads have two shapes and one layout.
  const isDense = reference.tensors.get(wanted)?.layout.kind === "dense";
  const [own, other] = isDense ? [shapeOf(operand, candidate), shapeOf(wanted, reference)] : [];
  const shapes = own && other && own !== other ? `: as [${own}], not [${other}]` : "";
  const texts: Readonly<Record<Explanation["kind"], string>> = {
    operand: `reads ${each} where the reference reads ${instead}${place}`,
    layout: `lays ${each} out in another way than the reference lays out ${instead}${place}${shapes}`,
    transposed: `reads ${read} the wrong way round: with its last two axes exchanged the result is the reference's`,
    swapped: `has two operands in one another's place: ${each}`,
    constant: `${factor(reader, constant.own)} where the reference ${constant.wanted === 1 ? "does not" : `${factor(maker, constant.wanted)}${place}`}`,
    missingStep: `leaves out a step: the reference makes ${right} by ${maker?.kind ?? "an op"}${place} before it goes on`,
    extraStep: `makes a step that the reference does not make: it goes on with ${right}${place} as it is`,
  };
  return {
    kind,
    text: texts[kind],
    confidence: "certain",
    evidence: {
      reader: reader.kind,
      reads: each,
      wanted: instead,
      remaining: toWire(remaining),
    },
  };
}

/** In the terms of the op: half of something may be a product or a quotient. */
function factor(op: ObservedOp | undefined, multiplier: number): string {
  return /div/i.test(op?.kind ?? "")
    ? `divides by ${figure(1 / multiplier)}`
    : `multiplies by ${figure(multiplier)}`;
}

function shapeOf(key: TensorKey, { tensors }: Observation): string | undefined {
  return tensors.get(key)?.shape.join(", ");
}

/** The name that the user's source gives to it. */
function nameOf(key: TensorKey, observation: Observation): string {
  const given = [...observation.parameters, ...observation.inputs].find(
    ({ tensor }) => tensor === key,
  );
  const tensor = observation.tensors.get(key);
  const name = tensor?.names[0];
  return given?.name ?? (name ? splitTensorName(name).local : (tensor?.description ?? "a tensor"));
}
