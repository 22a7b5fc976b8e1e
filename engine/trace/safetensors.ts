import { open, rename, rm, type FileHandle } from "node:fs/promises";
import path from "node:path";
import { elementCount, elementSize } from "../core/dtypes.js";
import type { TensorValue } from "../core/tensorValue.js";
import type { DType, TensorRef } from "../protocol/tensor.js";
import { userError, type UserError } from "../protocol/userError.js";

/**
 * A safetensors file whose header has been checked; values are read by range when they are asked for.
 * Format: eight bytes with the header's length (little-endian), the header as JSON, the tensors' bytes.
 * https://huggingface.co/docs/safetensors/index#format
 */
export interface SafetensorsFile {
  readonly metadata: Readonly<Record<string, string>>;
  /** `file` is the name that was opened; `byteOffset` counts from the start of the file. */
  readonly tensors: ReadonlyMap<string, TensorRef>;
  /** @throws UserError for a name that is not there and for a file that has become shorter. */
  read(name: string): Promise<TensorValue>;
  close(): Promise<void>;
}

/** @throws UserError that names the file and the tensor when the file is missing, truncated or malformed. */
export async function openSafetensors(file: string): Promise<SafetensorsFile> {
  const handle = await openForReading(file);
  try {
    const { tensors, metadata } = await readHeader(handle, file);
    return {
      tensors,
      metadata,
      async read(name) {
        const ref = tensors.get(name);
        if (!ref) {
          throw userError(
            "tensor-missing",
            `${file} has no tensor "${name}"`,
            `It has ${list([...tensors.keys()])}. Record it again, or correct the name.`,
          );
        }
        const bytes = await readRange(handle, ref.byteOffset, ref.byteLength, file);
        if (bytes.byteLength < ref.byteLength) throw truncated(file, `tensor "${name}"`);
        return { dtype: ref.dtype, shape: ref.shape, bytes };
      },
      close: () => handle.close(),
    };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/**
 * Reads all tensors. Their bytes are views of a few large reads: a thousand small tensors cost what one large one costs.
 * @throws UserError as `openSafetensors` does.
 */
export async function readSafetensors(file: string): Promise<Map<string, TensorValue>> {
  const handle = await openForReading(file);
  try {
    const { tensors } = await readHeader(handle, file);
    const values = new Map<string, TensorValue>();
    for (const batch of batches([...tensors])) {
      const start = batch[0]?.[1].byteOffset ?? 0;
      const end = batch.reduce((far, [, r]) => Math.max(far, r.byteOffset + r.byteLength), start);
      const bytes = await readRange(handle, start, end - start, file);
      for (const [name, { dtype, shape, byteOffset, byteLength }] of batch) {
        const from = byteOffset - start;
        if (from + byteLength > bytes.byteLength) throw truncated(file, `tensor "${name}"`);
        values.set(name, { dtype, shape, bytes: bytes.subarray(from, from + byteLength) });
      }
    }
    return values;
  } finally {
    await handle.close();
  }
}

/** Neighbours whose bytes are read at once: as many as fit into one batch, a larger tensor by itself. */
function batches(tensors: [string, TensorRef][]): [string, TensorRef][][] {
  const found: [string, TensorRef][][] = [];
  let start = -Infinity;
  for (const entry of tensors.sort(([, a], [, b]) => a.byteOffset - b.byteOffset)) {
    const { byteOffset, byteLength } = entry[1];
    if (byteOffset + byteLength - start > bytesAtOnce) {
      found.push([]);
      start = byteOffset;
    }
    found.at(-1)?.push(entry);
  }
  return found;
}

export type NamedTensors = ReadonlyMap<string, TensorValue> | Readonly<Record<string, TensorValue>>;

/**
 * Writes all tensors, widest elements first so that every one of them lies aligned. The file appears whole or not at
 * all. @throws RangeError when the bytes of a value do not fit its type and shape.
 */
export async function writeSafetensors(
  file: string,
  tensors: NamedTensors,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  const entries = [...(tensors instanceof Map ? tensors : Object.entries(tensors))] as [
    string,
    TensorValue,
  ][];
  entries.sort(
    ([a, x], [b, y]) => elementSize[y.dtype] - elementSize[x.dtype] || (a < b ? -1 : a > b ? 1 : 0),
  );
  const header: [string, unknown][] = [];
  if (Object.keys(metadata).length > 0) header.push(["__metadata__", metadata]);
  let end = 0;
  for (const [name, { dtype, shape, bytes }] of entries) {
    if (bytes.byteLength !== elementCount(shape) * elementSize[dtype]) {
      throw new RangeError(
        `"${name}" has ${bytes.byteLength} bytes, but ${dtype} [${shape.join(", ")}] takes ${elementCount(shape) * elementSize[dtype]}`,
      );
    }
    const data_offsets = [end, (end += bytes.byteLength)];
    header.push([name, { dtype: storedNames[dtype], shape, data_offsets }]);
  }
  // Object.fromEntries would take a tensor called "__proto__" for the object's prototype.
  const members = header.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`);
  const json = Buffer.from(`{${members.join(",")}}`);
  const padded = Buffer.alloc(Math.ceil(json.byteLength / 8) * 8, " ");
  json.copy(padded);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.byteLength));
  await writeWhole(file, [length, padded, ...entries.map(([, value]) => value.bytes)]);
}

/** Writes beside the file and renames, so that a reader never sees half of it. */
export async function writeWhole(file: string, parts: readonly Uint8Array[]): Promise<void> {
  const beside = path.join(path.dirname(file), `.${path.basename(file)}.${process.pid}.part`);
  const handle = await open(beside, "w");
  try {
    try {
      let gathered: Uint8Array[] = [];
      let size = 0;
      for (const part of parts) {
        gathered.push(part);
        size += part.byteLength;
        if (size < bytesAtOnce && part !== parts.at(-1)) continue;
        await handle.writeFile(gathered.length === 1 ? part : Buffer.concat(gathered));
        gathered = [];
        size = 0;
      }
    } finally {
      await handle.close();
    }
    await rename(beside, file);
  } catch (error) {
    await rm(beside, { force: true });
    throw error;
  }
}

const storedNames: Readonly<Record<DType, string>> = {
  float64: "F64",
  float32: "F32",
  float16: "F16",
  bfloat16: "BF16",
  int64: "I64",
  int32: "I32",
  int16: "I16",
  int8: "I8",
  uint64: "U64",
  uint32: "U32",
  uint16: "U16",
  uint8: "U8",
  bool: "BOOL",
};
const dtypesByStoredName = new Map(
  Object.entries(storedNames).map(([dtype, stored]) => [stored, dtype as DType]),
);

const bytesAtOnce = 16 * 2 ** 20;

/** The reference implementation refuses longer headers too. */
const longestHeader = 100_000_000;

async function readHeader(
  handle: FileHandle,
  file: string,
): Promise<Pick<SafetensorsFile, "tensors" | "metadata">> {
  const { size } = await handle.stat();
  const first = await readRange(handle, 0, 8, file);
  if (first.byteLength < 8) throw truncated(file, "its header's length");
  const claimed = new DataView(first.buffer, first.byteOffset, 8).getBigUint64(0, true);
  if (claimed > BigInt(size - 8)) {
    throw malformed(
      file,
      `its header claims ${claimed} bytes, but only ${size - 8} follow: it is truncated or no safetensors file`,
    );
  }
  if (claimed > longestHeader) throw malformed(file, `its header claims ${claimed} bytes`);
  const text = await readRange(handle, 8, Number(claimed), file);
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(text));
  } catch {
    throw malformed(file, "its header is not JSON: it is no safetensors file");
  }
  if (!isRecord(header)) throw malformed(file, "its header is not a JSON object");

  const dataStart = 8 + Number(claimed);
  const tensors = new Map<string, TensorRef>();
  let metadata: Record<string, string> = {};
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") metadata = readMetadata(entry, file);
    else tensors.set(name, readEntry(name, entry, file, dataStart, size));
  }
  refuseOverlaps(tensors, file);
  return { tensors, metadata };
}

function readMetadata(entry: unknown, file: string): Record<string, string> {
  if (isRecord(entry) && Object.values(entry).every((value) => typeof value === "string")) {
    return entry as Record<string, string>;
  }
  throw malformed(file, "its __metadata__ is not an object of texts");
}

function readEntry(
  name: string,
  entry: unknown,
  file: string,
  dataStart: number,
  size: number,
): TensorRef {
  const wrong = (what: string): UserError => malformed(file, `tensor "${name}" ${what}`);
  if (!isRecord(entry)) throw wrong("is not described by a JSON object");
  const { dtype: stored, shape, data_offsets: offsets } = entry;
  const dtype = typeof stored === "string" ? dtypesByStoredName.get(stored) : undefined;
  if (!dtype) throw wrong(`has the unknown dtype ${JSON.stringify(stored)}`);
  if (!isSizes(shape)) throw wrong(`has the shape ${JSON.stringify(shape)}`);
  if (!isSizes(offsets) || offsets.length !== 2) {
    throw wrong(`has the data_offsets ${JSON.stringify(offsets)}`);
  }
  const [begin, end] = offsets as [number, number];
  if (end < begin) throw wrong(`ends at ${end}, before it begins at ${begin}`);
  const wanted = elementCount(shape) * elementSize[dtype];
  if (end - begin !== wanted) {
    throw wrong(`has ${end - begin} bytes, but ${dtype} [${shape.join(", ")}] takes ${wanted}`);
  }
  if (dataStart + end > size) {
    throw malformed(
      file,
      `tensor "${name}" claims to end ${dataStart + end - size} bytes after the end of the file: the file is truncated`,
    );
  }
  return { file, dtype, shape, byteOffset: dataStart + begin, byteLength: wanted };
}

function refuseOverlaps(tensors: ReadonlyMap<string, TensorRef>, file: string): void {
  let previous: [string, TensorRef] | undefined;
  const byOffset = [...tensors]
    .filter(([, ref]) => ref.byteLength > 0)
    .sort(([, a], [, b]) => a.byteOffset - b.byteOffset);
  for (const [name, ref] of byOffset) {
    if (previous && ref.byteOffset < previous[1].byteOffset + previous[1].byteLength) {
      throw malformed(file, `tensors "${previous[0]}" and "${name}" overlap`);
    }
    previous = [name, ref];
  }
}

async function openForReading(file: string): Promise<FileHandle> {
  return open(file, "r").catch((error: NodeJS.ErrnoException) => {
    throw unreadable(file, error);
  });
}

/** Fewer bytes come back when the file ends before. */
async function readRange(
  handle: FileHandle,
  offset: number,
  length: number,
  file: string,
): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  let done = 0;
  while (done < length) {
    // One read call takes at most 2 GiB.
    const size = Math.min(length - done, 2 ** 30);
    const { bytesRead } = await handle
      .read(bytes, done, size, offset + done)
      .catch((error: NodeJS.ErrnoException) => {
        throw unreadable(file, error);
      });
    if (bytesRead === 0) return bytes.subarray(0, done);
    done += bytesRead;
  }
  return bytes;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0);
}

function list(names: readonly string[]): string {
  const shown = names.slice(0, 8).map((name) => `"${name}"`);
  if (names.length > shown.length) shown.push(`${names.length - shown.length} more`);
  return shown.join(", ") || "none";
}

function unreadable(file: string, error: NodeJS.ErrnoException): UserError {
  return error.code === "ENOENT"
    ? userError(
        "tensors-missing",
        `there is no file ${file}`,
        "Check the path, or record it again.",
      )
    : userError(
        "tensors-unreadable",
        `${file} cannot be read: ${error.code ?? error.message}`,
        "Check that it is a file that you may read.",
      );
}

function truncated(file: string, what: string): UserError {
  return userError(
    "tensors-truncated",
    `${file} ends within ${what}: it is truncated or no safetensors file`,
    "Copy or record it again.",
  );
}

function malformed(file: string, what: string): UserError {
  return userError("tensors-malformed", `${file}: ${what}`, "Copy or record it again.");
}
