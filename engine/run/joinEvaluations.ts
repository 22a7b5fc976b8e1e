import path from "node:path";
import { sameBytes } from "../core/integerComparison.js";
import { sameShape } from "../core/shapes.js";
import { isTelling } from "../core/sameTensor.js";
import type { TensorValue } from "../core/tensorValue.js";
import type { CapturedTrace } from "../protocol/capture.js";
import type { TraceFile, TraceFrame, TraceOp, TraceTensor } from "../protocol/trace.js";
import { readSafetensors, writeSafetensors } from "../trace/safetensors.js";
import { openTrace } from "../trace/traceReader.js";
import { writeTrace } from "../trace/traceWriter.js";

/** One eager evaluation, with the values that went in and came out, and where its inputs came from. */
interface Piece {
  readonly entry: CapturedTrace;
  readonly file: string;
  readonly trace: TraceFile;
  readonly values: ReadonlyMap<number, TensorValue>;
  readonly inputs: ReadonlyMap<string, TensorValue>;
  readonly outputs: ReadonlyMap<string, TensorValue>;
  /** By input port: the piece and the port that made its value. */
  readonly sources: ReadonlyMap<string, { readonly piece: Piece; readonly port: string }>;
}

/**
 * A script that evaluates Tripy tensors as it goes, to print them for instance, cuts one computation into many programs.
 * They are joined where one's input holds the values of an earlier one's output, so that the whole can be compared. The
 * joined programs are written beside the others.
 * @param folder of the capture.
 * @returns the entries, in which the last program of each computation stands for all of it.
 */
export async function joinEvaluations(
  entries: readonly CapturedTrace[],
  folder: string,
): Promise<CapturedTrace[]> {
  const evaluations = entries.filter(isEvaluation);
  if (evaluations.length < 2) return [...entries];
  const pieces: Piece[] = [];
  for (const entry of evaluations) pieces.push(await readPiece(entry, folder, pieces));
  const consumed = new Set(
    pieces.flatMap(({ sources }) => [...sources.values()].map((s) => s.piece)),
  );
  const joined = new Map<CapturedTrace, CapturedTrace>();
  for (const piece of pieces) {
    if (consumed.has(piece) || piece.sources.size === 0) continue;
    joined.set(piece.entry, await writeJoined(piece, folder));
  }
  const dropped = new Set([...consumed].map(({ entry }) => entry));
  return entries.filter((entry) => !dropped.has(entry)).map((entry) => joined.get(entry) ?? entry);
}

function isEvaluation({ kind, framework, executions }: CapturedTrace): boolean {
  return kind === "eval" && framework === "tripy" && executions?.[0]?.outputs !== undefined;
}

async function readPiece(
  entry: CapturedTrace,
  folder: string,
  earlier: readonly Piece[],
): Promise<Piece> {
  const file = path.resolve(folder, entry.file);
  const [execution] = entry.executions ?? [];
  const read = (name: string | undefined): Promise<Map<string, TensorValue>> =>
    name === undefined
      ? Promise.resolve(new Map<string, TensorValue>())
      : readSafetensors(path.resolve(folder, name));
  const [inputs, outputs] = [await read(execution?.inputs), await read(execution?.outputs)];
  const opened = await openTrace(file);
  try {
    const values = new Map<number, TensorValue>();
    for (const { id } of opened.trace.tensors) {
      if (opened.ref(id)) values.set(id, await opened.read(id));
    }
    const sources: [string, { piece: Piece; port: string }][] = [];
    for (const [port, value] of inputs) {
      const source = madeBy(value, earlier);
      if (source) sources.push([port, source]);
    }
    const { trace } = opened;
    return { entry, file, trace, values, inputs, outputs, sources: new Map(sources) };
  } finally {
    await opened.close();
  }
}

/** The latest evaluation that gave these very values. */
function madeBy(
  value: TensorValue,
  earlier: readonly Piece[],
): { piece: Piece; port: string } | undefined {
  if (!isTelling(value)) return undefined;
  for (const piece of [...earlier].reverse()) {
    for (const [port, made] of piece.outputs) {
      const isSame =
        made.dtype === value.dtype &&
        sameShape(made.shape, value.shape) &&
        sameBytes(made.bytes, value.bytes);
      if (isSame) return { piece, port };
    }
  }
  return undefined;
}

/** All pieces that lead to the last one, as one program. */
async function writeJoined(last: Piece, folder: string): Promise<CapturedTrace> {
  const pieces = leadingTo(last);
  const sources: TraceFile["sources"] = [];
  const frames: TraceFrame[] = [];
  const ops: TraceOp[] = [];
  const tensors: TraceTensor[] = [];
  const parameters: TraceFile["parameters"] = [];
  const inputs: TraceFile["inputs"] = [];
  const outputs: TraceFile["outputs"] = [];
  const values = new Map<number, TensorValue>();
  const fed = new Map<string, TensorValue>();
  const idOf = new Map<Piece, Map<number, number>>();
  let nextTensor = 0;
  for (const piece of pieces) {
    const { trace } = piece;
    const [firstSource, firstFrame] = [sources.length, frames.length];
    sources.push(...trace.sources);
    frames.push(...trace.frames.map((f) => ({ ...f, source: f.source + firstSource })));
    const ids = new Map<number, number>();
    idOf.set(piece, ids);
    for (const { name, tensor } of trace.inputs) {
      const source = piece.sources.get(name);
      const port = source?.piece.trace.outputs.find((output) => output.name === source.port);
      const made = source && port && idOf.get(source.piece)?.get(port.tensor);
      if (made !== undefined) ids.set(tensor, made);
    }
    for (const tensor of trace.tensors) {
      if (ids.has(tensor.id)) continue;
      const id = nextTensor++;
      ids.set(tensor.id, id);
      tensors.push({ ...tensor, id });
      const value = piece.values.get(tensor.id);
      if (value) values.set(id, value);
    }
    const renumbered = (tensor: number): number => ids.get(tensor) as number;
    for (const op of trace.ops) {
      ops.push({
        ...op,
        id: ops.length,
        inputs: op.inputs.map((input) => (input === null ? null : renumbered(input))),
        outputs: op.outputs.map(renumbered),
        stack: op.stack.map((frame) => frame + firstFrame),
        ...(op.constructedAt !== undefined && { constructedAt: op.constructedAt + firstFrame }),
      });
    }
    for (const { declaredAt, ...parameter } of trace.parameters) {
      parameters.push({
        ...parameter,
        tensor: renumbered(parameter.tensor),
        ...(declaredAt !== undefined && { declaredAt: declaredAt + firstFrame }),
      });
    }
    for (const { name, tensor } of trace.inputs) {
      if (piece.sources.has(name)) continue;
      const port = inputs.some((input) => input.name === name) ? `${name}#${inputs.length}` : name;
      inputs.push({ name: port, tensor: renumbered(tensor) });
      const value = piece.inputs.get(name);
      if (value) fed.set(port, value);
    }
    if (piece === last) {
      outputs.push(...trace.outputs.map((o) => ({ ...o, tensor: renumbered(o.tensor) })));
    }
  }
  const base = last.file.replace(/\.trace\.json$/, "");
  const file = `${base}.joined.trace.json`;
  const feeds = `${base}.joined.inputs.safetensors`;
  const whole = { ...last.trace, sources, frames, ops, tensors, parameters, inputs, outputs };
  await writeTrace(file, whole, values);
  await writeSafetensors(feeds, fed);
  const [execution] = last.entry.executions ?? [];
  return {
    ...last.entry,
    file: path.relative(folder, file),
    executions: [{ ...execution, inputs: path.relative(folder, feeds) }],
  };
}

/** In the order of their evaluation. */
function leadingTo(last: Piece): Piece[] {
  const found = new Set<Piece>();
  const visit = (piece: Piece): void => {
    if (found.has(piece)) return;
    for (const { piece: source } of piece.sources.values()) visit(source);
    found.add(piece);
  };
  visit(last);
  return [...found];
}
