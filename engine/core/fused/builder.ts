import type { Observation, ObservedOp, ObservedTensor, TensorKey } from "../observation.js";
import type { DType, Layout } from "../../protocol/tensor.js";
import type { TensorValue } from "../tensorValue.js";
import { fromTensor, product, toTensor, type NdArray } from "./ndarray.js";

/** One tensor within a fused op, or one that it reads. */
export interface Node extends NdArray {
  readonly key: TensorKey;
}

/** The steps of one op as ops of their own: the last one makes what the op makes. */
export interface Expansion {
  readonly ops: readonly ObservedOp[];
  readonly tensors: readonly ObservedTensor[];
  /** What the op makes of its steps, where it is computed again. */
  readonly value?: () => NdArray;
}

/** Writes the steps of a fused op down, each with its value. */
export interface StepWriter {
  /** What the op reads under this name of its signature; `at` where a name stands for several. */
  readonly operand: (role: string, at?: number) => Node | undefined;
  readonly attribute: (name: string) => unknown;
  readonly number: (name: string, otherwise: number) => number;
  /** The op's own first result. */
  readonly result: () => NdArray | undefined;
  readonly step: (name: string, value: NdArray, ...reads: readonly Node[]) => Node;
  /** A step of which only zero and not zero count. */
  readonly mask: (name: string, value: NdArray, ...reads: readonly Node[]) => Node;
  /** What the op makes is made of these. */
  readonly end: (...reads: readonly Node[]) => Expansion | undefined;
  /** As `end`, and how. */
  readonly made: (value: () => NdArray, ...reads: readonly Node[]) => Expansion | undefined;
}

/** Steps of a fused op that are too large to be computed only to be looked at. */
const mostElements = 1 << 25;

/** @param given Other values for steps: what follows is made of these. */
export function stepWriter(
  op: ObservedOp,
  observation: Observation,
  given: ReadonlyMap<TensorKey, TensorValue> = new Map(),
): StepWriter {
  const attributes = op.attributes ?? {};
  const roles = Array.isArray(attributes["operands"]) ? (attributes["operands"] as unknown[]) : [];
  const word = op.kind.split(".").at(-1) ?? op.kind;
  const [first = ""] = op.outputs;
  const made = observation.tensors.get(first);
  const sources = [...op.outputs, ...op.inputs].flatMap(
    (key) => observation.tensors.get(key) ?? [],
  );
  const ops: ObservedOp[] = [];
  const tensors: ObservedTensor[] = [];
  let elements = 0;
  const valueOf = (key: TensorKey) => observation.tensors.get(key)?.value;
  const write = (
    name: string,
    computed: NdArray,
    dtype: DType | undefined,
    reads: readonly Node[],
  ): Node => {
    const key = `${first}:${name}`;
    const other = given.get(key);
    const value = other ? fromTensor(other) : computed;
    elements += product(value.shape);
    if (dtype && elements <= mostElements) {
      tensors.push({
        key,
        names: [],
        description: `${word}'s ${name}`,
        dtype,
        shape: value.shape,
        layout: layoutFor(value.shape, sources),
        value: toTensor(computed, dtype),
      });
      ops.push({
        ...op,
        id: `${op.id}:${name}`,
        kind: `${op.kind}:${name}`,
        sourceOp: op.id,
        inputs: reads.map((read) => read.key),
        outputs: [key],
      });
    }
    return { key, ...value };
  };
  const end = (reads: readonly Node[]): Expansion | undefined => {
    if (!made?.value || ops.length === 0 || elements > mostElements) return undefined;
    const last = { ...op, inputs: reads.map((read) => read.key), wholeInputs: op.inputs };
    return { ops: [...ops, last], tensors };
  };
  return {
    operand: (role, at = 0) => {
      const positions = roles.flatMap((one, position) => (one === role ? [position] : []));
      const key = op.inputs[positions[at] ?? -1];
      const value = key === undefined ? undefined : valueOf(key);
      return key === undefined || !value ? undefined : { key, ...fromTensor(value) };
    },
    attribute: (name) => attributes[name],
    number: (name, otherwise) => {
      const value = attributes[name];
      return typeof value === "number" ? value : otherwise;
    },
    result: () => made?.value && fromTensor(made.value),
    step: (name, value, ...reads) => write(name, value, made?.dtype, reads),
    mask: (name, value, ...reads) => write(name, value, "bool", reads),
    end: (...reads) => end(reads),
    made: (value, ...reads) => {
      const expansion = end(reads);
      return expansion && { ...expansion, value };
    },
  };
}

/** Rows and padding lie in a step as they lie in what the op reads or makes. */
function layoutFor(shape: readonly number[], sources: readonly ObservedTensor[]): Layout {
  const source = sources.find(({ layout, shape: own }) => {
    if (layout.kind === "jagged") return own[0] === shape[0];
    if (layout.kind !== "padded") return false;
    return [layout.batchAxis, ...layout.axes].every((axis) => own[axis] === shape[axis]);
  });
  return source?.layout ?? { kind: "dense" };
}
