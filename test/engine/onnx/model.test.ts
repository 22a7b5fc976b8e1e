import { mkdtemp, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { create, toBinary } from "@bufbuild/protobuf";
import { ModelProtoSchema, TensorProto_DataLocation, type TensorProto } from "onnx-buf";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadModel, readModel, serialise } from "../../../engine/onnx/model.js";
import { tensorValueOf } from "../../../engine/onnx/tensorProto.js";
import { UserError } from "../../../engine/protocol/userError.js";
import { floats, smallModel } from "../../support/onnxModel.js";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), "hstu-parity-model-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const model = smallModel({
  inputs: { x: ["float32", [2]] },
  initializers: { w: floats([2], [1, 2]) },
  nodes: [{ op: "Mul", in: ["x", "w"], out: ["y"] }],
  outputs: ["y"],
});

async function refusal(run: () => unknown): Promise<UserError> {
  let error: unknown;
  try {
    await run();
  } catch (reason) {
    error = reason;
  }
  expect(error).toBeInstanceOf(UserError);
  return error as UserError;
}

/** The model with the bytes of `w` in another file. */
function external(data: Record<string, string>): Uint8Array {
  const changed = smallModel({
    inputs: { x: ["float32", [2]] },
    initializers: { w: floats([2], [1, 2]) },
    nodes: [{ op: "Mul", in: ["x", "w"], out: ["y"] }],
    outputs: ["y"],
  });
  const w = changed.graph?.initializer[0] as TensorProto;
  w.rawData = new Uint8Array(0);
  w.dataLocation = TensorProto_DataLocation.EXTERNAL;
  w.externalData = Object.entries(data).map(([key, value]) => ({
    $typeName: "onnx.StringStringEntryProto",
    key,
    value,
  }));
  return serialise(changed);
}

describe("reading a model", () => {
  it("gives back what was written", async () => {
    const file = path.join(folder, "good.onnx");
    await writeFile(file, serialise(model));
    expect(await loadModel(file)).toEqual(model);
  });

  it("refuses a model that is cut off anywhere", async () => {
    const bytes = serialise(model);
    for (let length = 0; length < bytes.length; length++) {
      const error = await refusal(() => readModel(bytes.subarray(0, length), "cut.onnx"));
      expect(error.message).toBe("cut.onnx is truncated or no ONNX model");
      expect(error.problems[0]?.nextStep).not.toBe("");
    }
  });

  it("refuses what is not ONNX", async () => {
    const others = ["", "hello, this is text", '{"a": 1}', "\x80\x02}q\x00.", "PK\x03\x04"];
    for (const content of others) {
      await refusal(() => readModel(Buffer.from(content, "latin1"), "x"));
    }
    await refusal(() => readModel(toBinary(ModelProtoSchema, create(ModelProtoSchema, {})), "x"));
  });

  it("names a file that is missing or cannot be read", async () => {
    const missing = path.join(folder, "missing.onnx");
    expect((await refusal(() => loadModel(missing))).message).toBe(`there is no model ${missing}`);
    expect((await refusal(() => loadModel(folder))).message).toContain("cannot be read: EISDIR");
  });

  it("reads external data from beside the model, by range", async () => {
    const file = path.join(folder, "external.onnx");
    await writeFile(
      path.join(folder, "weights.bin"),
      Buffer.concat([Buffer.alloc(3), floats([2], [5, 6]).bytes]),
    );
    await writeFile(file, external({ location: "weights.bin", offset: "3", length: "8" }));
    const w = (await loadModel(file)).graph?.initializer[0] as TensorProto;
    expect(tensorValueOf(w)).toEqual(floats([2], [5, 6]));
  });

  const bad: [string, Record<string, string>, RegExp][] = [
    [
      "missing",
      { location: "gone.bin" },
      /tensor "w" has its data in "gone.bin", which is not there/,
    ],
    [
      "truncated",
      { location: "short.bin", offset: "0", length: "8" },
      /claims bytes 0 to 8 of "short.bin", which has 4/,
    ],
    ["past the end", { location: "short.bin", offset: "5" }, /which has 4/],
    ["outside the folder", { location: "../weights.bin" }, /outside the model's folder/],
    ["absolute", { location: "/etc/hostname" }, /outside the model's folder/],
    ["nameless", {}, /outside the model's folder/],
  ];
  it.each(bad)("refuses external data that is %s", async (_, data, message) => {
    const file = path.join(folder, "bad.onnx");
    await writeFile(path.join(folder, "short.bin"), Buffer.alloc(4));
    await writeFile(file, external(data));
    const error = await refusal(() => loadModel(file));
    expect(error.message).toMatch(message);
    expect(error.message).toContain(file);
  });
});

describe("a tensor of a model", () => {
  it("is read from every field in which ONNX may store it", () => {
    const [w] = model.graph?.initializer as TensorProto[];
    const typed = (change: Partial<TensorProto>) =>
      tensorValueOf({ ...(w as TensorProto), rawData: new Uint8Array(0), ...change });
    expect(typed({ floatData: [1, 2] })).toEqual(floats([2], [1, 2]));
    expect(typed({ dataType: 11, doubleData: [1, 2] })).toEqual(floats([2], [1, 2], "float64"));
    expect(typed({ dataType: 10, int32Data: [0x3c00, 0x4000] })).toEqual(
      floats([2], [1, 2], "float16"),
    );
    expect(typed({ dataType: 7, int64Data: [1n, -2n] })?.bytes).toEqual(
      new Uint8Array(BigInt64Array.of(1n, -2n).buffer),
    );
    expect(typed({ dataType: 3, int32Data: [-1, 2] })?.bytes).toEqual(Uint8Array.of(255, 2));
    expect(typed({ dataType: 9, int32Data: [0, 1] })).toEqual({
      dtype: "bool",
      shape: [2],
      bytes: Uint8Array.of(0, 1),
    });
    // Too few elements, a type that no tensor here has, bytes elsewhere.
    expect(typed({ floatData: [1] })).toBeUndefined();
    expect(typed({ dataType: 8 })).toBeUndefined();
    expect(
      typed({ dataLocation: TensorProto_DataLocation.EXTERNAL, floatData: [1, 2] }),
    ).toBeUndefined();
  });
});
