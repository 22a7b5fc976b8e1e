import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { fromFloat64, toFloat64 } from "../../engine/core/dtypes.js";
import type { TensorValue } from "../../engine/core/tensorValue.js";
import type { CapturedTrace, CaptureIndex } from "../../engine/protocol/capture.js";
import type { Layout } from "../../engine/protocol/tensor.js";
import type { TraceFile, TraceOp, TraceTensor } from "../../engine/protocol/trace.js";
import type { TorchExecutor } from "../../engine/run/torchProgram.js";
import { writeSafetensors } from "../../engine/trace/safetensors.js";
import { openTrace } from "../../engine/trace/traceReader.js";
import { writeTrace } from "../../engine/trace/traceWriter.js";

/** A call that computes `input * parameter * scale * 2` in three operations, elementwise; all tensors have one shape. */
export interface MadeCall {
  readonly label: string;
  readonly inputs: Readonly<Record<string, TensorValue>>;
  readonly parameters?: Readonly<Record<string, TensorValue>>;
  /** Default: 0.5. */
  readonly scale?: number;
  readonly entry?: Partial<CapturedTrace>;
  /** Layout of the first input. */
  readonly layout?: Layout;
  /** Constants of the program; each is its own operation. */
  readonly constants?: Readonly<Record<string, TensorValue>>;
  /** Inputs and parameters whose values were not recorded. */
  readonly unrecorded?: readonly string[];
  /** What a Tripy program was executed on, each by port. */
  readonly executions?: readonly Readonly<Record<string, TensorValue>>[];
}

/** Line 1 declares the parameters, each operation has one of the next. */
const scriptText = "# parameters\n# hidden\n# scaled\n# out\n";

/** Writes a capture folder as the agent does, for a script SCRIPT.py in `base`. */
export async function writeCapture(
  folder: string,
  base: string,
  calls: readonly MadeCall[],
  more: Partial<CaptureIndex> = {},
): Promise<CaptureIndex> {
  await mkdir(folder, { recursive: true });
  await mkdir(base, { recursive: true });
  const script = path.join(base, "script.py");
  await writeFile(script, scriptText);
  const traces: CapturedTrace[] = [];
  for (const [order, call] of calls.entries()) {
    const file = `call-${order}.trace.json`;
    const made = madeTrace(call, path.relative(folder, script));
    await writeTrace(path.join(folder, file), made.trace, made.values);
    const executions = [];
    for (const [n, feeds] of (call.executions ?? []).entries()) {
      const inputs = `call-${order}-inputs-${n}.safetensors`;
      await writeSafetensors(path.join(folder, inputs), feeds);
      executions.push({ inputs });
    }
    traces.push({
      file,
      framework: "torch",
      label: call.label,
      kind: "module",
      order,
      calls: 1,
      ...(call.executions && { executions }),
      ...call.entry,
    });
  }
  return {
    formatVersion: 1,
    script,
    args: [],
    cwd: base,
    exitCode: 0,
    traces,
    versions: {},
    emulated: [],
    comparisons: [],
    sources: [script],
    opened: [],
    environment: [],
    randomness: { unseeded: [], seeded: [] },
    childProcesses: 0,
    ...more,
  };
}

/** Evaluates made calls again, as the user's torch would. */
export const madeTorch: TorchExecutor = {
  name: "torch of the tests",
  async evaluate({ trace: file, outputs, replace, correct, parameters, double }) {
    const opened = await openTrace(file);
    const computed = new Map<string, TensorValue>();
    try {
      for (const op of opened.trace.ops) {
        const read = async (id: number): Promise<TensorValue> => {
          const key = String(id);
          const known = replace.get(key) ?? parameters.get(key) ?? computed.get(key);
          return known ?? (await opened.read(id));
        };
        const [a, b] = await Promise.all(op.inputs.map((id) => read(id as number)));
        const made = multiplied(a as TensorValue, b, op.attributes["by"], double);
        const key = String(op.outputs[0]);
        const correction = correct.get(key);
        computed.set(key, correction ? added(made, correction) : made);
      }
      const values = new Map<string, TensorValue>();
      for (const id of outputs) {
        const value = computed.get(id) ?? (await opened.read(Number(id)));
        values.set(id, value);
      }
      return { values, unavailable: new Map() };
    } finally {
      await opened.close();
    }
  },
};

function madeTrace(
  call: MadeCall,
  source: string,
): { trace: TraceFile; values: Map<number, TensorValue> } {
  const { label, inputs, parameters = {}, constants = {}, unrecorded = [], scale = 0.5 } = call;
  const framework = call.entry?.framework ?? "torch";
  const tensors: TraceTensor[] = [];
  const values = new Map<number, TensorValue>();
  const add = (name: string, value: TensorValue, names: string[], layout?: Layout): number => {
    const id = tensors.length;
    const { dtype, shape } = value;
    const isKept = !unrecorded.includes(name);
    tensors.push({ id, names, dtype, shape: [...shape], ...(layout && { layout }) });
    if (isKept) values.set(id, value);
    return id;
  };
  const ports = Object.entries(inputs).map(([name, value], i) => ({
    name,
    tensor: add(name, value, [`/forward.${name}`], i === 0 ? call.layout : undefined),
  }));
  const weights = Object.entries(parameters).map(([name, value]) => ({
    name,
    tensor: add(name, value, []),
    declaredAt: 0,
  }));
  const ops: TraceOp[] = [];
  const op = (kind: string, from: number[], output: number, by?: number): void => {
    const attributes = by === undefined ? {} : { by };
    const id = ops.length;
    const stack = [id + 1];
    ops.push({ id, kind, inputs: from, outputs: [output], attributes, stack, instance: "" });
  };
  for (const [name, value] of Object.entries(constants)) {
    op("Constant", [], add(name, value, [`/forward.${name}`]));
  }
  const outputs: { name: string; tensor: number }[] = [];
  const [first] = ports;
  if (first) {
    const x = Object.values(inputs)[0] as TensorValue;
    const [weight] = weights;
    const w = Object.values(parameters)[0];
    const hidden = multiplied(x, w, undefined);
    const h = add("hidden", hidden, ["/forward.hidden"]);
    op("torch.mul", [first.tensor, ...(weight ? [weight.tensor] : [])], h);
    const scaled = multiplied(hidden, undefined, scale);
    const s = add("scaled", scaled, ["/forward.scaled"]);
    op("torch.mul", [h], s, scale);
    const out = add("out", multiplied(scaled, undefined, 2), ["/forward.out"]);
    op("torch.mul", [s], out, 2);
    outputs.push({ name: "output", tensor: out });
  }
  const trace: TraceFile = {
    formatVersion: 1,
    label,
    framework,
    ranOn: {
      executor: "torch",
      provider: "cpu",
      device: "cpu",
      precision: "float32",
      versions: {},
      standIns: [],
      emulated: [],
    },
    sources: [{ file: source, sha256: "00" }],
    frames: Array.from({ length: ops.length + 1 }, (_, i) => ({
      source: 0,
      line: i + 1,
      function: "forward",
    })),
    ops,
    tensors,
    parameters: weights,
    inputs: ports,
    outputs,
  };
  return { trace, values };
}

function multiplied(a: TensorValue, b?: TensorValue, by: unknown = 1, double = false): TensorValue {
  const y = b && toFloat64(b);
  const product = toFloat64(a).map((value, i) => value * (y ? (y[i] as number) : 1) * Number(by));
  const dtype = double ? "float64" : "float32";
  return { dtype, shape: a.shape, bytes: fromFloat64(product, dtype) };
}

function added(a: TensorValue, b: TensorValue): TensorValue {
  const y = toFloat64(b);
  const sum = toFloat64(a).map((value, i) => value + (y[i] as number));
  return { ...a, bytes: fromFloat64(sum, a.dtype) };
}
