import { normalisedName } from "../core/names.js";
import type { Observation, TensorKey } from "../core/observation.js";
import { sameTensor } from "../core/sameTensor.js";

/** The candidate's inputs by those of the reference: of one name, or of the same values. */
export function twinInputs(
  reference: Observation,
  candidate: Observation,
): Map<TensorKey, TensorKey> {
  const valueOf = (side: Observation, key: TensorKey) => side.tensors.get(key)?.value;
  const twins = new Map<TensorKey, TensorKey>();
  for (const { name, tensor } of candidate.inputs) {
    const value = valueOf(candidate, tensor);
    const twin = reference.inputs.find(
      (port) =>
        normalisedName(port.name) === normalisedName(name) ||
        (value && sameTensor(valueOf(reference, port.tensor) ?? value, value) !== undefined),
    );
    if (twin) twins.set(tensor, twin.tensor);
  }
  return twins;
}
