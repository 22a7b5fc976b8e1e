import fc from "fast-check";
import type { ModelProto } from "onnx-buf";
import { fromFloat64 } from "../../engine/core/dtypes.js";
import { tensorProtoOf } from "../../engine/onnx/tensorProto.js";
import { pseudoRandom, storyModelProto, type StoryNode, type StoryTensor } from "./storyModel.js";

/** Random models for properties of the comparison: a plan of steps, each one source line, written out as ONNX nodes. */

const kinds = [
  "matmul",
  "bias",
  "add",
  "sub",
  "mul",
  "silu",
  "tanh",
  "layerNorm",
  "softmax",
  "centre",
  "swapHalves",
  "heads",
  "attention",
] as const;
export type StepKind = (typeof kinds)[number];

export interface Step {
  readonly kind: StepKind;
  /** Values read: 0 is the input, n is what step n − 1 makes. */
  readonly a: number;
  readonly b: number;
}

export interface Plan {
  readonly steps: readonly Step[];
  readonly seed: number;
}

export interface Fault {
  readonly step: number;
  readonly how: "scale" | "replace" | "swap";
}

export interface Rendering {
  readonly fault?: Fault | undefined;
  /** Honest rewriting: other ops, the same function. */
  readonly rewritten?: boolean;
  /** Opaque names for tensors and parameters. */
  readonly renamed?: boolean;
  /** Another topological order of the nodes, by this seed. */
  readonly reordered?: number;
  /** Rows are [samples, rows, width] instead of [rows, width]. */
  readonly samples?: number;
  /** Default: 6. */
  readonly rows?: number;
}

export const rows = 6;
export const width = 8;
const firstLine = 10;

/** Steps that treat each row by itself: they do the same in any layout. */
export const rowwise: readonly StepKind[] = kinds.filter((kind) => kind !== "attention");

/** Every value is read: what no later step reads is added up at the end. */
export function plans(allowed: readonly StepKind[] = kinds): fc.Arbitrary<Plan> {
  const step = fc.record({
    kind: fc.constantFrom(...allowed),
    back: fc.integer({ min: 0, max: 2 }),
    other: fc.nat({ max: 20 }),
  });
  return fc
    .record({
      steps: fc.array(step, { minLength: 2, maxLength: 9 }),
      seed: fc.integer({ min: 1, max: 1e6 }),
    })
    .map(({ steps, seed }) => {
      const made: Step[] = [];
      for (const { kind, back, other } of steps) {
        const last = made.length;
        const next = { kind, a: Math.max(0, last - back), b: other % (last + 1) };
        // Zeros say nothing, and of two values that are the same only names say which is which.
        if (kind === "sub" && next.a === next.b) continue;
        if (!made.some((one) => isSameValue(one, next))) made.push(next);
      }
      const read = new Set(made.flatMap(reads));
      const open = made.map((_, n) => n + 1).filter((n) => !read.has(n));
      while (open.length > 1) {
        made.push({ kind: "add", a: open.shift() as number, b: open.shift() as number });
        open.push(made.length);
      }
      if (made.length === 0) made.push({ kind: "tanh", a: 0, b: 0 });
      return { steps: made, seed };
    });
}

function isSameValue(one: Step, other: Step): boolean {
  return (
    one.kind === other.kind &&
    JSON.stringify(reads(one).sort()) === JSON.stringify(reads(other).sort())
  );
}

/** A plan with a fault somewhere. */
export const faultyPlans: fc.Arbitrary<{ plan: Plan; fault: Fault }> = plans().chain((plan) =>
  fc
    .record({
      step: fc.nat({ max: plan.steps.length - 1 }),
      how: fc.constantFrom("scale", "replace", "swap"),
    })
    .map((fault) => ({ plan, fault: fault as Fault })),
);

export function lineOf({ step }: Fault): number {
  return firstLine + step;
}

function reads({ kind, a, b }: Step): number[] {
  return ["add", "sub", "mul", "attention"].includes(kind) ? [a, b] : [a];
}

export function render(plan: Plan, rendering: Rendering = {}): ModelProto {
  const { renamed = false, samples, rows: height = rows } = rendering;
  const opaque = new Map<string, string>();
  const name = (own: string): string => {
    if (!renamed || own === "x" || own === "out") return own;
    const other = opaque.get(own) ?? `q${(opaque.size * 7919 + 13) % 10007}`;
    opaque.set(own, other);
    return other;
  };
  const lead = samples === undefined ? [] : [samples];
  const parameters: Record<string, StoryTensor & { line: number; tensor: string }> = {};
  const integers: Record<string, readonly number[]> = {};
  const scalars: Record<string, StoryTensor> = {};
  const nodes: StoryNode[] = [];
  plan.steps.forEach((step, n) => {
    const faultHere = rendering.fault?.step === n ? rendering.fault.how : undefined;
    const isLast = n === plan.steps.length - 1;
    const line = firstLine + n;
    const result = isLast ? "out" : `forward.v${n + 1}`;
    let count = 0;
    const value = (index: number): string => (index === 0 ? "x" : `forward.v${index}`);
    const parameter = (own: string, shape: readonly number[], spread = 1): string => {
      const size = shape.reduce((p, s) => p * s, 1);
      const values = pseudoRandom(size, plan.seed + 31 * n + own.length).map((x) => spread * x);
      const full = `layer${n}.${own}`;
      parameters[name(full)] = { shape, values, line: 2, tensor: name(full) };
      return full;
    };
    const scalar = (own: string, x: number): string => {
      scalars[name(own)] = { shape: [], values: [x] };
      return own;
    };
    const integer = (values: readonly number[]): string => {
      const own = `i_${values.join("_")}`;
      integers[name(own)] = values;
      return own;
    };
    const emit = (
      op: string,
      inputs: readonly string[],
      attributes?: StoryNode["attributes"],
      output = `${rendering.rewritten ? "other" : "t"}${n}_${count++}`,
    ): string => {
      nodes.push({
        op,
        inputs: inputs.map(name),
        output: name(output),
        line,
        ...(attributes && { attributes }),
      });
      return output;
    };
    const body = stepBody(step, {
      value,
      parameter,
      scalar,
      integer,
      emit,
      lead,
      height,
      faultHere,
      rewritten: rendering.rewritten === true,
    });
    // Scaling is the fault of every step that has no other op or order of its own.
    const scaled =
      faultHere === "scale" || (faultHere !== undefined && body.hasFault !== true)
        ? emit("Mul", [body.output, scalar("wrong", 1.25)])
        : body.output;
    const end = nodes.at(-1) as StoryNode;
    nodes[nodes.length - 1] = { ...end, output: name(result) };
    if (end.output !== name(scaled)) throw new Error("the last node makes the step's value");
  });
  const ordered = rendering.reordered === undefined ? nodes : reordered(nodes, rendering.reordered);
  const proto = storyModelProto({
    file: "model.py",
    inputs: { x: [...lead, height, width] },
    parameters,
    constants: scalars,
    nodes: ordered,
    outputs: ["out"],
  });
  for (const [own, values] of Object.entries(integers)) {
    const value = {
      dtype: "int64" as const,
      shape: [values.length],
      bytes: fromFloat64(values, "int64"),
    };
    proto.graph?.initializer.push(tensorProtoOf(own, value));
  }
  return proto;
}

interface Writer {
  readonly value: (index: number) => string;
  readonly parameter: (own: string, shape: readonly number[], spread?: number) => string;
  readonly scalar: (own: string, x: number) => string;
  readonly integer: (values: readonly number[]) => string;
  readonly emit: (
    op: string,
    inputs: readonly string[],
    attributes?: StoryNode["attributes"],
  ) => string;
  readonly lead: readonly number[];
  readonly height: number;
  readonly faultHere: Fault["how"] | undefined;
  readonly rewritten: boolean;
}

function stepBody({ kind, a, b }: Step, write: Writer): { output: string; hasFault?: boolean } {
  const { value, parameter, scalar, integer, emit, lead, height, faultHere, rewritten } = write;
  const x = value(a);
  const y = value(b);
  const replaced = faultHere === "replace";
  const rank = lead.length + 2;
  const half = width / 2;
  const elementwise = (op: string, instead: string): { output: string; hasFault: boolean } => {
    const isCommuted = rewritten && op !== "Sub";
    const order = (faultHere === "swap" && op === "Sub") || isCommuted ? [y, x] : [x, y];
    return {
      output: emit(replaced ? instead : op, order),
      hasFault: replaced || (faultHere === "swap" && op === "Sub"),
    };
  };
  switch (kind) {
    case "matmul": {
      const w = parameter("w", [width, width], 0.6);
      if (!rewritten) return { output: emit("MatMul", [x, w]) };
      const [left, right] = [0, half].map((from) =>
        emit("MatMul", [
          emit("Slice", [x, integer([from]), integer([from + half]), integer([rank - 1])]),
          emit("Slice", [w, integer([from]), integer([from + half]), integer([0])]),
        ]),
      );
      return { output: emit("Add", [left as string, right as string]) };
    }
    case "bias": {
      const bias = parameter("bias", [width]);
      return {
        output: emit(replaced ? "Sub" : "Add", rewritten && !replaced ? [bias, x] : [x, bias]),
        hasFault: replaced,
      };
    }
    case "add":
      return elementwise("Add", "Sub");
    case "sub":
      return elementwise("Sub", "Add");
    case "mul":
      return elementwise("Mul", "Add");
    case "silu": {
      if (!rewritten)
        return {
          output: emit("Mul", [x, emit(replaced ? "Tanh" : "Sigmoid", [x])]),
          hasFault: replaced,
        };
      const below = emit("Add", [emit("Exp", [emit("Neg", [x])]), scalar("one", 1)]);
      return { output: emit("Div", [x, below]) };
    }
    case "tanh":
      return { output: emit(replaced ? "Sigmoid" : "Tanh", [x]), hasFault: replaced };
    case "layerNorm": {
      const weights = [parameter("weight", [width]), parameter("shift", [width])];
      const epsilon = replaced ? 0.125 + 1e-3 : 1e-5;
      return {
        output: emit("LayerNormalization", [x, ...weights], { axis: -1, epsilon }),
        hasFault: replaced,
      };
    }
    case "softmax":
      return { output: emit("Softmax", [x], { axis: replaced ? -2 : -1 }), hasFault: replaced };
    case "centre": {
      const mean = emit(replaced ? "ReduceMax" : "ReduceMean", [x, integer([rank - 1])]);
      return { output: emit("Sub", [x, mean]), hasFault: replaced };
    }
    case "swapHalves": {
      const hasFault = replaced || faultHere === "swap";
      // Not the halves in order: where a fault makes what the reference has elsewhere, only names say which of them it is.
      const at = hasFault ? 1 : half;
      const parts = [
        [at, width],
        [0, at],
      ].map(([from = 0, to = 0]) =>
        emit("Slice", [x, integer([from]), integer([to]), integer([rank - 1])]),
      );
      return { output: emit("Concat", parts, { axis: rank - 1 }), hasFault };
    }
    case "heads": {
      const split = emit("Reshape", [x, integer([...lead, height, 2, half])]);
      const weights = emit("Softmax", [split], { axis: replaced ? -2 : -1 });
      const mixed = emit("Mul", rewritten ? [weights, split] : [split, weights]);
      return {
        output: emit("Reshape", [mixed, integer([...lead, height, width])]),
        hasFault: replaced,
      };
    }
    case "attention": {
      const [q, k] = faultHere === "swap" ? [y, x] : [x, y];
      const turned = emit("Transpose", [k], {
        perm: [...lead.keys(), lead.length + 1, lead.length],
      });
      const scores = emit("Softmax", [emit("MatMul", [q, turned])], { axis: replaced ? -2 : -1 });
      return {
        output: emit("MatMul", [scores, value(a)]),
        hasFault: replaced || (faultHere === "swap" && a !== b),
      };
    }
  }
}

/** Another order in which every node still comes after those that it reads. */
function reordered(nodes: readonly StoryNode[], seed: number): StoryNode[] {
  const made = new Set(nodes.map((node) => node.output));
  const done = new Set<string>();
  const open = [...nodes];
  const order: StoryNode[] = [];
  const numbers = pseudoRandom(nodes.length, seed);
  while (open.length > 0) {
    const ready = open.filter((node) => node.inputs.every((i) => !made.has(i) || done.has(i)));
    const at = Math.floor(((numbers[order.length] as number) + 1) * 0.4999 * ready.length);
    const [next] = open.splice(open.indexOf(ready[at] as StoryNode), 1) as [StoryNode];
    done.add(next.output);
    order.push(next);
  }
  return order;
}
