import type { Cause } from "../protocol/report.js";
import { toWire } from "../protocol/wire.js";
import type { Explanation } from "./explanation.js";
import { splitTensorName } from "./names.js";
import { producers, type Observation, type TensorKey } from "./observation.js";

/** What an explanation proves, in words that follow "which". */
export function explainedCause(
  explanation: Explanation,
  reference: Observation,
  candidate: Observation,
): Cause {
  const { kind, operand, wanted, remaining, reader } = explanation;
  const read = nameOf(operand, candidate);
  const right = nameOf(wanted, reference);
  const maker = producers(reference).get(wanted);
  const site = maker?.frames[0];
  const place = site ? ` (${site.file}:${site.line})` : "";
  const texts: Readonly<Record<Explanation["kind"], string>> = {
    operand: `reads ${read} where the reference reads ${right}${place}`,
    transposed: `reads ${read} the wrong way round: with its last two axes exchanged the result is the reference's`,
    swapped: `has two operands in one another's place: with ${right} for ${read} and the other way round the result is the reference's`,
    missingStep: `leaves out a step: the reference makes ${right} by ${maker?.kind ?? "an op"}${place} before it goes on`,
    parameter: `reads ${read}, which is no parameter of the reference: with ${right} the result is the reference's`,
  };
  return {
    kind,
    text: texts[kind],
    confidence: "certain",
    evidence: {
      reader: reader.kind,
      operand: read,
      wanted: right,
      remaining: toWire(remaining),
    },
  };
}

/** The name that the user's source gives to it. */
function nameOf(key: TensorKey, observation: Observation): string {
  const given = [...observation.parameters, ...observation.inputs].find(
    ({ tensor }) => tensor === key,
  );
  const name = observation.tensors.get(key)?.names[0];
  return given?.name ?? (name === undefined ? "a tensor" : splitTensorName(name).local);
}
