import { convertFloats } from "../core/conversions.js";
import type { InputTwin } from "../core/implementations.js";
import { sameTensor } from "../core/sameTensor.js";
import type { ObservedPort, TensorKey } from "../core/observation.js";
import type { TensorValue } from "../core/tensorValue.js";
import type { CapturedCall } from "./capturedCalls.js";
import type { ObservedImplementation } from "./observe.js";
import type { Program } from "./program.js";

/** The reference's values for inputs of the candidate that differ from them by rounding only, by the candidate's names. */
export function roundedInputs(
  reference: CapturedCall,
  candidate: CapturedCall,
  twins: readonly InputTwin[],
): ReadonlyMap<string, TensorValue> {
  const valueOf = (call: CapturedCall, name: string): TensorValue | undefined =>
    call.inputs.find((input) => input.name === name)?.value;
  const values = new Map<string, TensorValue>();
  for (const twin of twins.filter(({ isNear }) => isNear)) {
    const r = valueOf(reference, twin.reference);
    const c = valueOf(candidate, twin.candidate);
    if (r && c) values.set(twin.candidate, convertFloats(r, c.dtype));
  }
  return values;
}

/** A recorded implementation as it computes on other inputs. What cannot be computed again has no value. */
export async function onInputs(
  observed: ObservedImplementation,
  inputs: ReadonlyMap<string, TensorValue>,
  signal: AbortSignal,
): Promise<ObservedImplementation> {
  const { program, observation } = observed;
  if (!program || inputs.size === 0) return observed;
  const given = new Map<TensorKey, TensorValue>();
  for (const { name, tensor } of observation.inputs) {
    const value = inputs.get(name);
    if (value) given.set(tensor, value);
  }
  const onGiven: Program = {
    isDouble: (tensor) => program.isDouble(tensor),
    evaluate: (request, cancelled) =>
      program.evaluate(
        { ...request, replaced: new Map([...given, ...(request.replaced ?? [])]) },
        cancelled,
      ),
  };
  const made = new Set(observation.ops.flatMap((op) => op.outputs));
  const outputs = [...observation.tensors.values()]
    .filter(({ key, value }) => value !== undefined && made.has(key))
    .map(({ key }) => key);
  const values = await onGiven.evaluate({ outputs }, signal);
  const tensors = new Map(
    [...observation.tensors].map(([key, tensor]) => {
      const { value: old, ...rest } = tensor;
      const value = given.get(key) ?? (made.has(key) ? values.get(key) : old);
      return [key, { ...rest, ...(value && { value }) }];
    }),
  );
  return { ...observed, program: onGiven, observation: { ...observation, tensors } };
}

/** Constants of an eagerly evaluated program that hold the reference's inputs are inputs, not parameters. */
export function withConstantsAsInputs(
  observed: ObservedImplementation,
  { inputs: wanted }: CapturedCall,
): ObservedImplementation {
  const { observation } = observed;
  if (observation.inputs.length > 0) return observed;
  const inputs: ObservedPort[] = [];
  for (const { tensor, value } of observation.parameters) {
    const twin = wanted.find((input) => sameTensor(input.value, value) !== undefined);
    if (twin) inputs.push({ name: twin.name, tensor });
  }
  const taken = new Set(inputs.map(({ tensor }) => tensor));
  const parameters = observation.parameters.filter(({ tensor }) => !taken.has(tensor));
  return { ...observed, observation: { ...observation, inputs, parameters } };
}
