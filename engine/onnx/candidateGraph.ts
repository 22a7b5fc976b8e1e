import type { TensorValue } from "../core/tensorValue.js";
import type { Site } from "../protocol/report.js";

/** An ONNX model as the comparison sees it: ops in topological order with their source sites. */
export interface CandidateGraph {
  readonly nodes: readonly CandidateNode[];
  /** Graph inputs without initializers. */
  readonly inputs: readonly CandidatePort[];
  readonly outputs: readonly string[];
  /** Initializers that are parameters: they have a state dict name. Other initializers are constants. */
  readonly parameters: readonly CandidateParameter[];
  /** Names that the user's source gives to a tensor, best first; contains the tensor's own name. */
  readonly namesOf: ReadonlyMap<string, readonly string[]>;
  /** Sources that the model's metadata names, with their hashes where they are known. */
  readonly sources: readonly { file: string; sha256?: string }[];
  readonly framework: string;
  readonly standIns: readonly string[];
  readonly emulated: readonly string[];
}

export interface CandidateNode {
  /** Index in topological order. */
  readonly index: number;
  readonly id: string;
  /** The framework's word for the op where the metadata has it, else the ONNX op type. */
  readonly kind: string;
  readonly onnxType: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** Ops of the same source op (one Tripy op lowered to several nodes) share this. */
  readonly sourceOp: string;
  /** User frames, innermost first. Files are relative to the model's folder. */
  readonly frames: readonly Site[];
  readonly instance: string;
  readonly call?: number;
  readonly constructedAt?: Site;
}

export interface CandidatePort {
  readonly name: string;
  /** undefined where the model leaves it open. */
  readonly dtype?: string;
  readonly shape?: readonly (number | undefined)[];
}

export interface CandidateParameter {
  readonly name: string;
  readonly tensor: string;
  readonly value: TensorValue;
  readonly declaredAt?: Site;
}
