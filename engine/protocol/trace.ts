import type { DType, Layout, TensorStatistics } from "./tensor.js";
import type { WireNumber } from "./wire.js";

/**
 * A trace on disk: `NAME.trace.json` beside `NAME.safetensors`. It lists the operations of one implementation in
 * execution order, whatever made it: torch observed in the user's Python, a Tripy program, an ONNX model run with taps.
 */
export interface TraceFile {
  formatVersion: 1;
  label: string;
  framework: "torch" | "tripy" | "onnx";
  ranOn: TraceRun;
  /** The safetensors file with the values, relative to this file. Absent when no value was recorded. */
  tensorsFile?: string;
  /** User source files that took part. Names are relative to the folder of this file (`outside` ones are absolute). */
  sources: TraceSource[];
  /** Frame table: ops refer to frames by index, so that a line shared by a thousand ops is written once. */
  frames: TraceFrame[];
  ops: TraceOp[];
  tensors: TraceTensor[];
  parameters: TraceParameter[];
  inputs: TracePort[];
  outputs: TracePort[];
}

export interface TraceRun {
  executor: string;
  provider: string;
  device: string;
  precision: string;
  versions: Record<string, string>;
  /** Packages that were stood in for, for example "mlir_tensorrt". */
  standIns: string[];
  /** For example "cuda on cpu". */
  emulated: string[];
  /** Threads that torch computed with: they cut sums into parts. */
  threads?: number;
}

export interface TraceSource {
  file: string;
  outside?: boolean;
  sha256: string;
}

export interface TraceFrame {
  /** Index into `sources`. */
  source: number;
  /** 1-based. */
  line: number;
  /** 1-based; absent where Python does not give columns. */
  column?: number;
  endColumn?: number;
  function: string;
}

export interface TraceOp {
  id: number;
  /** The framework's own word: "LayerNorm", "torch.nn.functional.silu", "fbgemm.dense_to_jagged". */
  kind: string;
  /** Tensor ids; null for an optional input that is absent. */
  inputs: (number | null)[];
  outputs: number[];
  attributes: Record<string, unknown>;
  /** Indices into `frames`, innermost user frame first. Empty when the op has no user frame. */
  stack: number[];
  /** Module instance path, "" outside any module: "_hstu._attention_layers.0". */
  instance: string;
  /** n-th call of that module instance, from 0; absent when it is 0. */
  call?: number;
  /** Index into `frames`: where the user made the library's module in whose code the op ran. */
  constructedAt?: number;
}

export interface TraceTensor {
  id: number;
  /**
   * Names that the user's source gives it, best first: "INSTANCE/FUNCTION.VARIABLE", with "#k" for the k-th (k ≥ 1)
   * assignment of that variable in that call, and "@n" after the function for its n-th (n ≥ 1) call within that
   * instance. A tensor that a function returns without naming it is "INSTANCE/FUNCTION.return".
   */
  names: string[];
  dtype: DType;
  /** Tripy's own type, of which no tensor here can be; `dtype` is one that holds all its values exactly. */
  narrow?: "float8" | "int4";
  /** −1 where the size is known at run time only and no value was recorded. */
  shape: number[];
  layout?: Layout;
  /** Key in the safetensors file; absent when no value was recorded. */
  key?: string;
  statistics?: TensorStatistics;
  /**
   * Instead of the values, where the byte budget was spent: rows of the tensor seen as [rows, last axis], at most 16,
   * the first and the last among them. `key` names them in the safetensors file, as [rows.length, last axis].
   */
  sample?: { rows: number[]; key: string };
  /** relL2 between two runs of this implementation on the same inputs; absent when exactly 0. */
  nonDeterminism?: WireNumber;
}

export interface TraceParameter {
  /** The state dict's key. */
  name: string;
  tensor: number;
  /** Index into `frames`: the line that declares it. */
  declaredAt?: number;
  buffer?: boolean;
}

export interface TracePort {
  name: string;
  tensor: number;
}
