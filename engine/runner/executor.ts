import type { TensorValue } from "../core/tensorValue.js";

/**
 * Whatever can execute a model behind one interface: the runner child with onnxruntime-node, later the user's Python.
 * The blame algorithm asks an executor to evaluate models and knows nothing else about it.
 */
export interface Executor {
  /** "onnxruntime-node 1.30.0". */
  readonly name: string;
  readonly provider: string;
  /**
   * Runs `model` (a serialised ONNX ModelProto) once on `feeds` and returns the named outputs.
   * @throws RunnerFailure when the model is refused, a kernel is missing, the child dies or does not answer in time.
   * @throws the signal's reason when cancelled; the child is killed then.
   */
  evaluate(
    model: Uint8Array,
    feeds: Readonly<Record<string, TensorValue>>,
    outputs: readonly string[],
    signal: AbortSignal,
  ): Promise<Record<string, TensorValue>>;
  dispose(): void;
}

/** An expected failure of an execution, in the user's terms. */
export class RunnerFailure extends Error {
  constructor(
    readonly code:
      | "model-refused"
      | "operator-missing"
      | "bad-feeds"
      | "runner-crashed"
      | "runner-timeout"
      | "provider-unavailable"
      | "out-of-memory",
    message: string,
    readonly nextStep: string,
    /** The child's last words (stderr). */
    readonly lastWords = "",
    /** The op that ONNX Runtime named, where it did. */
    readonly op?: string,
  ) {
    super(message);
    this.name = "RunnerFailure";
  }
}
