import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { ModelProtoSchema, TensorProto_DataType, type NodeProto } from "onnx-buf";
import { describe, expect, it } from "vitest";
import {
  lowerTripyTrace,
  UNSUPPORTED_DOMAIN,
  type LoweredTrace,
} from "../../../engine/tripy/lower.js";
import type { TraceFile, TraceOp } from "../../../engine/protocol/trace.js";
import { EMPTY_TRACE, encode, run, values, type Values } from "./runTrace.js";

const frames = [
  { source: 0, line: 12, column: 5, endColumn: 20, function: "forward" },
  { source: 0, line: 40, function: "main" },
];

/** y = cast(x + w, float16); s = x - w. `w` is a parameter made by a Constant op. */
const trace: TraceFile = {
  ...EMPTY_TRACE,
  label: "port",
  sources: [{ file: "port.py", sha256: "ab" }],
  frames,
  tensors: [
    { id: 3, names: ["main.x"], dtype: "float32", shape: [2] },
    { id: 4, names: ["net.w"], dtype: "float32", shape: [2] },
    { id: 5, names: ["net/forward.y", "main.result"], dtype: "float32", shape: [-1] },
    { id: 6, names: [], dtype: "float16", shape: [2] },
    { id: 7, names: ["net/forward.y"], dtype: "float32", shape: [2] },
  ],
  ops: [
    op(0, "Constant", [], [4], { stack: [1] }),
    op(1, "Add", [3, 4], [5], { stack: [0, 1], instance: "net", call: 2 }),
    op(2, "Cast", [5], [6], { attributes: { dtype: "tp.float16" } }),
    op(3, "Sub", [3, 4], [7]),
  ],
  parameters: [{ name: "w", tensor: 4, declaredAt: 1 }],
  inputs: [{ name: "x", tensor: 3 }],
  outputs: [
    { name: "out0", tensor: 6 },
    { name: "out1", tensor: 7 },
  ],
};
const weight = values("float32", [2], [1, 2]);
const lowered = lower(trace, { 4: weight });

describe("names", () => {
  it("gives inputs the port's name, others the source's first name, made unique, or t<id>", () => {
    expect([...lowered.valueNames]).toEqual([
      [3, "x"],
      [4, "net.w"],
      [5, "net/forward.y"],
      [6, "t6"],
      [7, "net/forward.y%7"],
    ]);
    const graph = lowered.model.graph;
    expect(graph?.input.map((value) => value.name)).toEqual(["x"]);
    expect(graph?.output.map((value) => value.name)).toEqual(["t6", "net/forward.y%7"]);
  });

  it("lists every name of the source that the value's own name does not say", () => {
    expect(JSON.parse(metadataOf(lowered, "hstu_parity.names"))).toEqual({
      x: ["main.x"],
      "net/forward.y": ["net/forward.y", "main.result"],
      "net/forward.y%7": ["net/forward.y"],
    });
  });
});

describe("metadata", () => {
  it("every node and every constant says its source op, kind, frames and instance", () => {
    const nodes = lowered.model.graph?.node ?? [];
    expect(nodes.map(propsOf)).toEqual([
      props("1", "Add", "[0,1]", "net", "2"),
      props("2", "Cast", "[]", "", "0"),
      props("3", "Sub", "[]", "", "0"),
    ]);
    expect(propsOf(lowered.model.graph?.initializer[0] as never)).toEqual(
      props("0", "Constant", "[1]", "", "0"),
    );
  });

  it("the model holds what the nodes refer to", () => {
    expect(metadataOf(lowered, "hstu_parity.framework")).toBe("tripy");
    expect(JSON.parse(metadataOf(lowered, "hstu_parity.run"))).toEqual(trace.ranOn);
    expect(JSON.parse(metadataOf(lowered, "hstu_parity.sources"))).toEqual(trace.sources);
    expect(JSON.parse(metadataOf(lowered, "hstu_parity.frames"))).toEqual(frames);
    expect(JSON.parse(metadataOf(lowered, "hstu_parity.parameters"))).toEqual([
      { name: "w", tensor: "net.w", declaredAt: 1 },
    ]);
  });

  it("source tensors inside the graph are typed, with open sizes left open", () => {
    const info = lowered.model.graph?.valueInfo.find((value) => value.name === "net/forward.y");
    const type = info?.type?.value;
    expect(type?.case).toBe("tensorType");
    if (type?.case !== "tensorType") return;
    expect(type.value.elemType).toBe(TensorProto_DataType.FLOAT);
    expect(type.value.shape?.dim.map((dim) => dim.value.case)).toEqual([undefined]);
  });
});

describe("the model", () => {
  it("is the same bytes for the same trace, and survives being written and read", () => {
    const bytes = toBinary(ModelProtoSchema, lowered.model);
    expect(toBinary(ModelProtoSchema, lower(structuredClone(trace), { 4: weight }).model)).toEqual(
      bytes,
    );
    expect(toBinary(ModelProtoSchema, fromBinary(ModelProtoSchema, bytes))).toEqual(bytes);
  });

  it("runs", async () => {
    const [y, s] = await run(lowered, trace, { x: values("float32", [2], [0.5, 8]) });
    expect(y).toEqual(values("float16", [2], [1.5, 10]));
    expect(s).toEqual(values("float32", [2], [-0.5, 6]));
  });

  it("rounds to float16 between two ops that both compute in float32", async () => {
    const chain = chainOf("float16", ["Add", "Sub"]);
    const x = values("float16", [1], [2048]);
    const one = values("float16", [1], [1]);
    const [got] = await run(lower(chain, {}), chain, { a: x, b: one });
    // 2048 + 1 is 2048 in float16, so that 1 less is 2047 and not 2048.
    expect(got?.data).toEqual([2047]);
  });

  it("subtracts booleans through int8, float32 and back as the frontend does", async () => {
    const kinds = ["Cast", "Cast", "Sub", "Dequantize", "Cast"];
    const bools: TraceFile = {
      ...EMPTY_TRACE,
      tensors: [
        ...[0, 1].map((id) => ({ id, names: [], dtype: "bool" as const, shape: [4] })),
        ...[2, 3, 4].map((id) => ({ id, names: [], dtype: "int8" as const, shape: [4] })),
        { id: 5, names: [], dtype: "float32", shape: [] },
        { id: 6, names: [], dtype: "float32", shape: [4] },
        { id: 7, names: [], dtype: "bool", shape: [4] },
      ],
      ops: [
        op(0, "Constant", [], [5]),
        op(1, "Cast", [0], [2], { attributes: { dtype: "int8" } }),
        op(2, "Cast", [1], [3], { attributes: { dtype: "int8" } }),
        op(3, "Sub", [2, 3], [4]),
        op(4, "Dequantize", [4, 5], [6], { attributes: { dtype: "float32", dim: null } }),
        op(5, "Cast", [6], [7], { attributes: { dtype: "bool" } }),
      ],
      inputs: [
        { name: "a", tensor: 0 },
        { name: "b", tensor: 1 },
      ],
      outputs: [{ name: "out", tensor: 7 }],
    };
    expect(bools.ops.slice(1).map(({ kind }) => kind)).toEqual(kinds);
    const [got] = await run(lower(bools, { 5: values("float32", [], [1]) }), bools, {
      a: values("bool", [4], [0, 0, 1, 1]),
      b: values("bool", [4], [0, 1, 0, 1]),
    });
    expect(got).toEqual(values("bool", [4], [0, 1, 1, 0]));
  });

  it("gives a constant, an input and a tensor returned twice as outputs", async () => {
    const through: TraceFile = {
      ...trace,
      outputs: [3, 4, 5, 5].map((tensor, index) => ({ name: `out${index}`, tensor })),
    };
    const x = values("float32", [2], [3, 4]);
    const got = await run(lower(through, { 4: weight }), through, { x });
    expect(got.map(({ data }) => data)).toEqual([
      [3, 4],
      [1, 2],
      [4, 6],
      [4, 6],
    ]);
  });

  it("feeds a port although a Constant op made its tensor, and needs no value for an empty constant", async () => {
    const fed: TraceFile = {
      ...trace,
      tensors: [...trace.tensors, { id: 8, names: [], dtype: "int32", shape: [0] }],
      ops: [op(9, "Constant", [], [3]), op(10, "Constant", [], [8]), ...trace.ops],
      outputs: [
        { name: "out0", tensor: 5 },
        { name: "out1", tensor: 8 },
      ],
    };
    const result = lower(fed, { 3: values("float32", [2], [7, 7]), 4: weight });
    expect(result.unsupported).toEqual([]);
    expect(result.model.graph?.initializer.map(({ name }) => name)).toEqual(["net.w", "t8"]);
    const [y, empty] = await run(result, fed, { x: values("float32", [2], [1, 1]) });
    expect(y?.data).toEqual([2, 3]);
    expect(empty).toEqual(values("int32", [0], []));
  });
});

describe("what cannot be lowered", () => {
  const broken: TraceFile = {
    ...trace,
    ops: [
      op(0, "Constant", [], [4]),
      op(1, "Plugin", [3, 4], [5], { stack: [0, 1], instance: "net", attributes: { name: "p" } }),
      op(2, "Cast", [5], [6], { attributes: { dtype: "tp.float8" }, stack: [1] }),
      op(3, "Sub", [3, 4], [7]),
    ],
  };

  it("is reported with its reason and source line, and the rest is lowered", () => {
    const { unsupported, model } = lower(broken, { 4: weight });
    expect(unsupported).toEqual([
      {
        op: broken.ops[1],
        reason: "there is no ONNX form of Plugin",
        site: {
          file: "port.py",
          line: 12,
          column: 5,
          endColumn: 20,
          function: "forward",
          instance: "net",
        },
      },
      {
        op: broken.ops[2],
        reason:
          'attribute "dtype" of Cast is "tp.float8", not a data type that ONNX Runtime can hold',
        site: { file: "port.py", line: 40, function: "main" },
      },
    ]);
    expect(model.graph?.node.map((node) => [node.opType, node.domain])).toEqual([
      ["Plugin", UNSUPPORTED_DOMAIN],
      ["Cast", UNSUPPORTED_DOMAIN],
      ["Sub", ""],
    ]);
    expect(model.graph?.node[0]?.output).toEqual(["net/forward.y"]);
  });

  it("includes a constant whose value was not recorded", () => {
    expect(lower(trace, {}).unsupported.map(({ op: { id }, reason }) => [id, reason])).toEqual([
      [0, "the value of this constant was not recorded"],
    ]);
  });

  it.each([
    ["Concatenate", {}, 'attribute "dim" of Concatenate is absent, not an integer'],
    [
      "Permute",
      { permutation: [0.5] },
      'attribute "permutation" of Permute is [0.5], not a list of integers',
    ],
    ["Softmax", { dim: 0.5 }, 'attribute "dim" of Softmax is 0.5, not an integer'],
    ["Tanhh", {}, "there is no ONNX form of Tanhh"],
    ["constructor", {}, "there is no ONNX form of constructor"],
  ])("%s with attributes %j", (kind, attributes, reason) => {
    const one: TraceFile = { ...trace, ops: [op(0, kind, [3, 3], [5], { attributes })] };
    expect(lower(one, {}).unsupported.map((entry) => entry.reason)).toEqual([reason]);
  });
});

function op(
  id: number,
  kind: string,
  inputs: number[],
  outputs: number[],
  rest: Partial<TraceOp> = {},
): TraceOp {
  return { id, kind, inputs, outputs, attributes: {}, stack: [], instance: "", ...rest };
}

/** Each op takes the last result and the input b. */
function chainOf(dtype: "float16", kinds: string[]): TraceFile {
  return {
    ...EMPTY_TRACE,
    tensors: [...kinds, "", ""].map((_, id) => ({ id, names: [], dtype, shape: [1] })),
    ops: kinds.map((kind, index) => op(index, kind, [index === 0 ? 0 : index + 1, 1], [index + 2])),
    inputs: [
      { name: "a", tensor: 0 },
      { name: "b", tensor: 1 },
    ],
    outputs: [{ name: "out", tensor: kinds.length + 1 }],
  };
}

function lower(file: TraceFile, constants: Record<number, Values>): LoweredTrace {
  return lowerTripyTrace(file, (id) => constants[id] && encode(constants[id]));
}

function metadataOf({ model }: LoweredTrace, key: string): string {
  return model.metadataProps.find((entry) => entry.key === key)?.value ?? "";
}

function propsOf(node: Pick<NodeProto, "metadataProps">): Record<string, string> {
  return Object.fromEntries(node.metadataProps.map(({ key, value }) => [key, value]));
}

function props(
  id: string,
  kind: string,
  stack: string,
  instance: string,
  call: string,
): Record<string, string> {
  return {
    "hstu_parity.op": id,
    "hstu_parity.kind": kind,
    "hstu_parity.stack": stack,
    "hstu_parity.instance": instance,
    "hstu_parity.call": call,
  };
}
