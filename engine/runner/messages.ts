import type { RunnerFailure } from "./executor.js";

/** From the supervisor to the child. Tensors travel as safetensors files, never through a message. */
export interface EvaluateRequest {
  readonly type: "evaluate";
  readonly job: number;
  /** SHA-256 of the serialised model: the child keeps its session under it. */
  readonly modelHash: string;
  /** Absent when the child holds a session of this model already. */
  readonly modelFile?: string;
  readonly feedsFile: string;
  readonly outputs: readonly string[];
  /** Where the child writes the outputs. */
  readonly outputsFile: string;
}

/** From the child to the supervisor, one for each request. */
export type EvaluateReply = EvaluateDone | EvaluateFailed;

export interface EvaluateDone {
  readonly type: "done";
  readonly job: number;
  /** Hashes of the models whose sessions the child holds now. */
  readonly held: readonly string[];
}

export interface EvaluateFailed extends FailureText {
  readonly type: "failed";
  readonly job: number;
  readonly held: readonly string[];
}

/** A failure as it crosses the process boundary. */
export interface FailureText {
  readonly code: RunnerFailure["code"];
  readonly message: string;
  readonly nextStep: string;
  /** The op type that ONNX Runtime named. */
  readonly op?: string;
  /** ONNX element type of an input or output that the JavaScript binding cannot hand over. */
  readonly elementType?: number;
}

/** Options that the child gets as its first argument, as JSON. */
export interface RunnerOptions {
  /** Folder for the files of this child; it removes the folder when the supervisor is gone. */
  readonly folder: string;
  /** 0 leaves the choice to ONNX Runtime. */
  readonly intraOpNumThreads: number;
  readonly graphOptimizationLevel: GraphOptimizationLevel;
}

export type GraphOptimizationLevel = "disabled" | "basic" | "extended" | "all";
