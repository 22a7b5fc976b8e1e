import { expandFused, expansionOf, isMadeOfSteps } from "../core/fused/expand.js";
import { fromTensor, toTensor, zip } from "../core/fused/ndarray.js";
import { add } from "../core/fused/products.js";
import type { Observation, ObservedOp, ObservedTensor, TensorKey } from "../core/observation.js";
import type { TensorValue } from "../core/tensorValue.js";
import { RunnerFailure } from "../runner/executor.js";
import type { ObservedImplementation } from "./observe.js";
import type { Evaluation, Program, Values } from "./program.js";

/**
 * A candidate whose attention, which one op computes, is written out in steps that can be replaced one by one. The op
 * itself still runs where none of them is.
 * @returns undefined where there is nothing to write out
 */
export function withStepsOf(
  candidate: ObservedImplementation,
  ops: ReadonlySet<ObservedOp>,
): ObservedImplementation | undefined {
  const { observation, program } = candidate;
  const written = new Set([...ops].filter(isMadeOfSteps));
  const expanded = program && written.size > 0 ? expandFused(observation, written) : undefined;
  if (!program || !expanded) return undefined;
  return {
    ...candidate,
    observation: expanded,
    program: {
      isDouble: (tensor) => program.isDouble(tensor),
      evaluate: (request, signal) =>
        evaluateWithSteps(program, { whole: observation, expanded, written }, request, signal),
    },
  };
}

interface WrittenOut {
  readonly whole: Observation;
  readonly expanded: Observation;
  readonly written: ReadonlySet<ObservedOp>;
}

async function evaluateWithSteps(
  program: Program,
  { whole, expanded, written }: WrittenOut,
  request: Evaluation,
  signal: AbortSignal,
): Promise<Values> {
  const isKnown = (key: TensorKey): boolean => whole.tensors.has(key);
  const outputs = request.outputs.filter(isKnown);
  let inner: Evaluation = {
    ...request,
    outputs,
    replaced: only(request.replaced, isKnown),
    corrected: only(request.corrected, isKnown),
    operands: (request.operands ?? []).filter(({ reader }) => !isInWritten(reader)),
  };
  const values = new Map<TensorKey, TensorValue>();
  for (const op of whole.ops.filter((one) => written.has(one))) {
    const asked = stepsAsked(op, expanded, request);
    if (!asked) continue;
    const read = await readBy(program, op, whole, inner, signal);
    for (const { key, value } of asked.operands) read.set(key, value);
    const made = computed(op, whole, read, asked, request);
    for (const key of request.outputs) {
      const step = made.steps.get(key);
      if (step) values.set(key, step);
    }
    const [result] = op.outputs;
    if (!asked.isOther || result === undefined) continue;
    if (outputs.includes(result)) values.set(result, made.result);
    const replaced = new Map(inner.replaced);
    const more = inner.corrected?.get(result);
    if (!replaced.has(result)) replaced.set(result, more ? sum(made.result, more) : made.result);
    const corrected = only(inner.corrected, (key) => key !== result);
    inner = { ...inner, replaced, corrected };
  }
  const rest = await program.evaluate(inner, signal);
  return new Map([...rest, ...values]);

  function isInWritten(reader: TensorKey): boolean {
    return !isKnown(reader) || [...written].some(({ outputs: made }) => made.includes(reader));
  }
}

interface StepsAsked {
  /** Whether the op's result is another one with these. */
  readonly isOther: boolean;
  readonly given: Values;
  /** What is added to steps. */
  readonly added: Values;
  /** What the op reads from outside. */
  readonly operands: readonly { readonly key: TensorKey; readonly value: TensorValue }[];
}

/** What a request says of the steps of one op; undefined where it says nothing. */
function stepsAsked(
  op: ObservedOp,
  { ops }: Observation,
  { outputs, replaced, corrected, operands = [] }: Evaluation,
): StepsAsked | undefined {
  const steps = ops.filter(({ sourceOp }) => sourceOp === op.sourceOp);
  const inner = new Set(steps.flatMap((step) => step.outputs));
  for (const output of op.outputs) inner.delete(output);
  const given = new Map([...(replaced ?? [])].filter(([key]) => inner.has(key)));
  const fed = operands.flatMap((operand) => {
    const step = steps.find((one) => one.outputs.includes(operand.reader));
    const key = step?.inputs[operand.position];
    return key === undefined ? [] : [{ key, value: operand.value }];
  });
  for (const { key, value } of fed) if (inner.has(key)) given.set(key, value);
  const added = new Map([...(corrected ?? [])].filter(([key]) => inner.has(key)));
  const isOther = given.size + fed.length + added.size > 0;
  if (!isOther && !outputs.some((key) => inner.has(key))) return undefined;
  return { isOther, given, added, operands: fed.filter(({ key }) => !inner.has(key)) };
}

/** What an op reads on the values of a request. */
async function readBy(
  program: Program,
  op: ObservedOp,
  { tensors }: Observation,
  inner: Evaluation,
  signal: AbortSignal,
): Promise<Map<TensorKey, TensorValue>> {
  const { replaced, parameters } = inner;
  const given = (key: TensorKey): TensorValue | undefined =>
    replaced?.get(key) ?? parameters?.get(key);
  const asked = [...new Set(op.inputs)].filter((key) => !given(key));
  const made = await program.evaluate({ ...inner, outputs: asked }, signal);
  return new Map(
    op.inputs.flatMap((key) => {
      const value = given(key) ?? made.get(key) ?? tensors.get(key)?.value;
      const more = inner.corrected?.get(key);
      return value ? [[key, more ? sum(value, more) : value] as const] : [];
    }),
  );
}

function computed(
  op: ObservedOp,
  whole: Observation,
  read: Values,
  { given, added }: StepsAsked,
  { double }: Evaluation,
): { steps: Values; result: TensorValue } {
  const dtype = double ? "float64" : undefined;
  const [result] = op.outputs;
  const tensors = new Map<TensorKey, ObservedTensor>(whole.tensors);
  for (const [key, value] of read) {
    const tensor = tensors.get(key);
    if (tensor) tensors.set(key, { ...tensor, dtype: value.dtype, shape: value.shape, value });
  }
  const made = result === undefined ? undefined : tensors.get(result);
  if (made && dtype) tensors.set(made.key, { ...made, dtype });
  const observation = { ...whole, tensors };
  let expansion = expansionIn(op, observation, given);
  const others = new Map(given);
  // Each correction changes the steps after it.
  for (const key of (expansion?.tensors ?? []).map((step) => step.key)) {
    const more = added.get(key);
    const step = more && expansion?.tensors.find((one) => one.key === key)?.value;
    if (!more || !step) continue;
    others.set(key, sum(step, more));
    expansion = expansionIn(op, observation, others);
  }
  if (!made || !expansion?.value) throw refused;
  const steps = expansion.tensors.flatMap(({ key, value }) =>
    value ? [[key, value] as const] : [],
  );
  return { steps: new Map(steps), result: toTensor(expansion.value(), dtype ?? made.dtype) };
}

function sum(a: TensorValue, b: TensorValue): TensorValue {
  return toTensor(zip(fromTensor(a), fromTensor(b), add), a.dtype);
}

function expansionIn(op: ObservedOp, observation: Observation, given: Values) {
  try {
    return expansionOf(op, observation, given);
  } catch {
    // Values of a hypothesis need not fit.
    throw refused;
  }
}

const refused = new RunnerFailure(
  "model-refused",
  "the steps of an op do not fit these values",
  "Compare the op as a whole.",
);

function only(values: Values | undefined, isKept: (key: TensorKey) => boolean): Values {
  return new Map([...(values ?? [])].filter(([key]) => isKept(key)));
}
