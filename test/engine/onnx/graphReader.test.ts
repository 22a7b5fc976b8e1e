import { describe, expect, it } from "vitest";
import { readCandidateGraph } from "../../../engine/onnx/graphReader.js";
import { UserError } from "../../../engine/protocol/userError.js";
import { floats, smallGraph, smallModel, type SmallModel } from "../../support/onnxModel.js";

const own: SmallModel = {
  inputs: { x: ["float32", ["batch", 2]], w0: ["float32", [2]] },
  initializers: {
    "norm.weight": floats([2], [1, 2]),
    w0: floats([2], [3, 4]),
    half: floats([], [0.5]),
  },
  nodes: [
    {
      op: "Mul",
      in: ["x", "norm.weight"],
      out: ["a"],
      name: "n",
      metadata: {
        "hstu_parity.op": "12",
        "hstu_parity.kind": "tp.mul",
        "hstu_parity.stack": "[1,0]",
        "hstu_parity.instance": "layers.0",
        "hstu_parity.call": "2",
      },
    },
    {
      op: "Cast",
      in: ["a"],
      out: ["b"],
      name: "n",
      attributes: { to: 1n },
      metadata: { "hstu_parity.op": "12", "hstu_parity.call": "0" },
    },
    { op: "Clip", in: ["b", "", "half"], out: ["c"] },
  ],
  outputs: ["c"],
  metadata: {
    "hstu_parity.framework": "tripy",
    "hstu_parity.run": JSON.stringify({
      executor: "e",
      provider: "cpu",
      device: "cpu",
      precision: "float32",
      versions: {},
      standIns: ["mlir_tensorrt"],
      emulated: ["cuda on cpu"],
    }),
    "hstu_parity.sources": JSON.stringify([
      { file: "../port.py", sha256: "ab" },
      { file: "u.py", sha256: "" },
    ]),
    "hstu_parity.frames": JSON.stringify([
      { source: 0, line: 30, function: "forward" },
      { source: 1, line: 4, column: 2, endColumn: 9, function: "mul" },
    ]),
    "hstu_parity.names": JSON.stringify({ a: ["layers.0/forward.a", "a2"] }),
    "hstu_parity.parameters": JSON.stringify([
      { name: "model.norm.weight", tensor: "norm.weight", declaredAt: 0 },
      { name: "w", tensor: "w0" },
    ]),
  },
};

describe("a model of our own lowering", () => {
  const graph = readCandidateGraph(smallModel(own));

  it("says for each node which source op, line, instance and call it came from", () => {
    expect(graph.nodes[0]).toEqual({
      index: 0,
      id: "n",
      kind: "tp.mul",
      onnxType: "Mul",
      inputs: ["x", "norm.weight"],
      outputs: ["a"],
      sourceOp: "12",
      frames: [
        { file: "u.py", line: 4, column: 2, endColumn: 9, function: "mul" },
        { file: "../port.py", line: 30, function: "forward" },
      ],
      instance: "layers.0",
      call: 2,
    });
    // The nodes of one source op share it; two nodes never share an id; call 0 is not said.
    expect(graph.nodes[1]).toMatchObject({ id: "n#1", sourceOp: "12", kind: "Cast", frames: [] });
    expect(graph.nodes[1]).not.toHaveProperty("call");
    expect(graph.nodes[2]).toMatchObject({
      id: "Clip_2",
      sourceOp: "Clip_2",
      inputs: ["b", "", "half"],
    });
  });

  it("knows inputs, parameters, names and how it was made", () => {
    expect(graph.inputs).toEqual([{ name: "x", dtype: "float32", shape: [undefined, 2] }]);
    expect(graph.outputs).toEqual(["c"]);
    expect(graph.parameters).toEqual([
      {
        name: "model.norm.weight",
        tensor: "norm.weight",
        value: floats([2], [1, 2]),
        declaredAt: { file: "../port.py", line: 30, function: "forward" },
      },
      { name: "w", tensor: "w0", value: floats([2], [3, 4]) },
    ]);
    expect(graph.namesOf.get("a")).toEqual(["layers.0/forward.a", "a2", "a"]);
    expect(graph.namesOf.get("b")).toEqual(["b"]);
    expect(graph.namesOf.has("")).toBe(false);
    expect(graph.sources).toEqual([{ file: "../port.py", sha256: "ab" }, { file: "u.py" }]);
    expect(graph).toMatchObject({
      framework: "tripy",
      standIns: ["mlir_tensorrt"],
      emulated: ["cuda on cpu"],
    });
  });

  it("finds the value of a parameter that the source declares as zeros", () => {
    const declared = readCandidateGraph(
      smallModel({
        initializers: {
          zero: floats([], [0]),
          size: {
            dtype: "int64",
            shape: [2],
            bytes: new Uint8Array(BigInt64Array.of(2n, 1n).buffer),
          },
        },
        nodes: [
          { op: "Expand", in: ["zero", "size"], out: ["bias"] },
          { op: "Relu", in: ["bias"], out: ["computed"] },
        ],
        outputs: ["computed"],
        metadata: {
          "hstu_parity.parameters": JSON.stringify([
            { name: "bias", tensor: "bias" },
            { name: "c", tensor: "computed" },
          ]),
        },
      }),
    );
    // What has to be computed has no value before the run.
    expect(declared.parameters).toEqual([
      { name: "bias", tensor: "bias", value: floats([2, 1], [0, 0]) },
    ]);
  });

  const broken: [string, string, string][] = [
    ["hstu_parity.frames", "[{", "it is not JSON"],
    ["hstu_parity.frames", '[{"source":0}]', "[0].line: expected a value, found nothing"],
    [
      "hstu_parity.frames",
      '[{"source":7,"line":1,"function":"f"},{"source":7,"line":1,"function":"f"}]',
      "no frame 1 with a source",
    ],
    ["hstu_parity.parameters", '[{"name":"w"}]', "[0].tensor"],
    ["hstu_parity.names", '{"a":"b"}', "a: expected a list"],
  ];
  it.each(broken)("refuses a malformed %s: %s", (key, value, message) => {
    const model = smallModel({ ...own, metadata: { ...own.metadata, [key]: value } });
    expect(() => readCandidateGraph(model)).toThrow(UserError);
    expect(() => readCandidateGraph(model)).toThrow(message);
  });
});

describe("a model that torch exported", () => {
  const graph = readCandidateGraph(
    smallModel({
      producer: "pytorch",
      initializers: {
        "layers.0.weight": floats([2], [1, 2]),
        val_3: floats([2], [1, 2]),
        _tensor_constant0: floats([2], [1, 2]),
        scale: floats([], [2]),
        index: { dtype: "int64", shape: [1], bytes: new Uint8Array(8) },
      },
      nodes: [
        {
          op: "Mul",
          in: ["layers.0.weight", "val_3"],
          out: ["mul"],
          name: "node_mul",
          metadata: {
            "pkg.torch.onnx.stack_trace": [
              '  File "/home/u/model.py", line 20, in forward',
              "    return self.layers[0](x)",
              '  File "/opt/lib/python3.11/site-packages/torch/nn/modules/module.py", line 1779, in _call_impl',
              "    return forward_call(*args, **kwargs)",
              '  File "/home/u/layer.py", line 7, in forward',
              "    return self.weight * x",
            ].join("\n"),
            "pkg.torch.onnx.name_scopes": "['', 'layers.0', 'mul']",
          },
        },
        { op: "Relu", in: ["mul"], out: ["relu"] },
      ],
      outputs: ["relu"],
    }),
  );

  it("gives the user's frames, innermost first, and the module", () => {
    expect(graph.framework).toBe("torch");
    expect(graph.nodes[0]).toMatchObject({
      kind: "Mul",
      sourceOp: "node_mul",
      instance: "layers.0",
      frames: [
        { file: "/home/u/layer.py", line: 7, function: "forward" },
        { file: "/home/u/model.py", line: 20, function: "forward" },
      ],
    });
  });

  it("tolerates nodes without metadata", () => {
    expect(graph.nodes[1]).toMatchObject({ frames: [], instance: "" });
    expect(graph.sources).toEqual([]);
    expect(graph.standIns).toEqual([]);
  });

  it("takes float initializers with a name of their own as parameters", () => {
    expect(graph.parameters.map((p) => p.name)).toEqual(["layers.0.weight"]);
  });
});

it("counts what a branch takes from outside as an input of the node", () => {
  const branch = (name: string) =>
    smallGraph({
      nodes: [{ op: "Mul", in: [name, "local"], out: ["m"] }],
      initializers: { local: floats([], [1]) },
      outputs: ["m"],
    });
  const graph = readCandidateGraph(
    smallModel({
      inputs: { yes: ["bool", []], a: ["float32", [1]], b: ["float32", [1]] },
      nodes: [
        {
          op: "If",
          in: ["yes"],
          out: ["y"],
          attributes: { then_branch: branch("a"), else_branch: branch("b") },
        },
      ],
      outputs: ["y"],
    }),
  );
  expect(graph.nodes[0]?.inputs).toEqual(["yes", "a", "b"]);
});
