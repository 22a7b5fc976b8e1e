import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { open, readFile, stat } from "node:fs/promises";
import path from "node:path";
import {
  ModelProtoSchema,
  TensorProto_DataLocation,
  type GraphProto,
  type ModelProto,
  type TensorProto,
} from "onnx-buf";
import { userError, type UserError } from "../protocol/userError.js";
import { withFields } from "./fields.js";

/**
 * Reads a model with its external data, so that the model is complete in memory.
 * @throws UserError that names the file when it is missing, truncated, not ONNX, or when its external data is missing.
 */
export async function loadModel(file: string): Promise<ModelProto> {
  const bytes = await readFile(file).catch((error: NodeJS.ErrnoException) => {
    throw error.code === "ENOENT"
      ? userError(
          "model-missing",
          `there is no model ${file}`,
          "Check the path, or export it again.",
        )
      : userError(
          "model-unreadable",
          `the model ${file} cannot be read: ${error.code ?? error.message}`,
          error.code === "ERR_FS_FILE_TOO_LARGE"
            ? "Export it with external data: an ONNX file itself holds at most 2 GiB."
            : "Check that it is a file that you may read.",
        );
  });
  return withExternalData(readModel(bytes, file), file);
}

/**
 * Decodes a model; its external data stays where it is.
 * @throws UserError that names the file when the bytes are no ONNX model or end too early.
 */
export function readModel(bytes: Uint8Array, fileForMessages: string): ModelProto {
  let model: ModelProto | undefined;
  try {
    // A plain view: from a Buffer every field of bytes would become a Buffer, whose slice() does not copy.
    const plain = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    model = fromBinary(ModelProtoSchema, plain);
  } catch {
    // The decoder's own words ("invalid wire type") help nobody.
  }
  if (!model || !model.graph || model.irVersion <= 0n || model.opsetImport.length === 0) {
    throw userError(
      "model-malformed",
      `${fileForMessages} is truncated or no ONNX model`,
      "Copy or export it again.",
    );
  }
  return model;
}

export function serialise(model: ModelProto): Uint8Array {
  return toBinary(ModelProtoSchema, model);
}

async function withExternalData(model: ModelProto, file: string): Promise<ModelProto> {
  const { graph } = model;
  if (!graph?.initializer.some(isExternal)) return model;
  const initializer: TensorProto[] = [];
  for (const tensor of graph.initializer) {
    initializer.push(isExternal(tensor) ? await internalised(tensor, file) : tensor);
  }
  return withFields(model, { graph: withFields<GraphProto>(graph, { initializer }) });
}

function isExternal(tensor: TensorProto): boolean {
  return tensor.dataLocation === TensorProto_DataLocation.EXTERNAL;
}

async function internalised(tensor: TensorProto, file: string): Promise<TensorProto> {
  const entries = new Map(tensor.externalData.map(({ key, value }) => [key, value]));
  const location = entries.get("location") ?? "";
  const folder = path.dirname(path.resolve(file));
  const from = path.resolve(folder, location);
  const inside = path.relative(folder, from);
  const wrong = (what: string, nextStep: string): UserError =>
    userError("external-data", `${file}: tensor "${tensor.name}" ${what}`, nextStep);
  if (location === "" || inside.startsWith("..") || path.isAbsolute(inside)) {
    throw wrong(
      `has its data outside the model's folder: "${location}"`,
      "Export the model with its data beside it.",
    );
  }
  const { size } = await stat(from).catch(() => {
    throw wrong(
      `has its data in "${location}", which is not there`,
      `Copy "${location}" beside the model.`,
    );
  });
  const offset = Number(entries.get("offset") ?? 0);
  const length = Number(entries.get("length") ?? size - offset);
  if (!isSize(offset) || !isSize(length) || offset + length > size) {
    throw wrong(
      `claims bytes ${offset} to ${offset + length} of "${location}", which has ${size}`,
      `Copy "${location}" again: it is truncated or belongs to another model.`,
    );
  }
  const handle = await open(from, "r");
  try {
    const rawData = new Uint8Array(length);
    for (let done = 0; done < length;) {
      const { bytesRead } = await handle.read(rawData, done, length - done, offset + done);
      if (bytesRead === 0) throw wrong(`lost its data while it was read`, "Try again.");
      done += bytesRead;
    }
    return withFields(tensor, {
      rawData,
      externalData: [],
      dataLocation: TensorProto_DataLocation.DEFAULT,
    });
  } finally {
    await handle.close();
  }
}

function isSize(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}
