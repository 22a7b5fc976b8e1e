/**
 * The run file `*.parity.json`: what to compare. This type is the only definition; the JSON schema that validates it
 * in the engine and completes it in the editor is generated from here (`npm run schemas`).
 */
export interface RunFile {
  /** The JSON schema of this file. Editors use it; the engine ignores it. */
  $schema?: string;
  /** A short name for lists and reports. Default: the file's name. */
  name?: string;
  /**
   * What takes part, by id. The ids are yours: "torch", "dense", "tripy".
   * @minProperties 2
   */
  implementations: Record<string, ImplementationSource>;
  /**
   * The id of the implementation held to be right. All others are candidates.
   * @minLength 1
   */
  reference: string;
  /**
   * A safetensors file with the inputs, by name. Default: the inputs recorded in the reference's trace.
   * @minLength 1
   */
  inputs?: string;
  /** Which ONNX Runtime provider runs ONNX models. Default: "cpu". */
  provider?: Provider;
  /**
   * Gates by glob over the rows' stage or tensor names; the last match wins. They replace the measured gate and are shown as yours.
   */
  tolerances?: Record<string, Tolerance>;
  /** Differences that are meant to be. They are listed in the report and never blamed. */
  expected?: ExpectedDifference[];
  /** Tensors that must be equal although their names differ. */
  pairs?: DeclaredPair[];
  /**
   * Names for the steps of the model, by glob over the reference's tensor names; a `*` in the stage stands for the same text as
   * in the glob. Default: the module instance path and the function.
   */
  stages?: Record<string, string>;
  /** Parameters that must be equal although their names differ. */
  parameterPairs?: DeclaredParameterPair[];
  /**
   * Share of the candidate's float operations that must be covered for a PASS. Default: 0.9.
   * @minimum 0
   * @maximum 1
   */
  coverageThreshold?: number;
  /** The check that your own script makes on the final output; the report says whether it would notice. */
  ownCheck?: OwnCheck;
}

/** How two implementations are compared: what a run file says beyond what takes part. */
export type ComparisonRules = Pick<
  RunFile,
  | "tolerances"
  | "expected"
  | "pairs"
  | "stages"
  | "parameterPairs"
  | "coverageThreshold"
  | "ownCheck"
>;

/** One implementation: exactly one of `python`, `trace` and `onnx`. */
export type ImplementationSource = PythonSource | RecordedTraceSource | OnnxModelSource;

export interface PythonSource {
  /** What runs it: it is run and watched, and one of its calls is the implementation. */
  python: PythonScript;
  /** What lists and reports call it. */
  label?: string;
}

/** A script or a module: implementations that name the same one, with the same arguments, share one run. */
export interface PythonScript {
  /**
   * A Python script, relative to this file.
   * @minLength 1
   */
  script?: string;
  /**
   * A module instead of a script, as after `python -m`.
   * @minLength 1
   */
  module?: string;
  /** What follows the script on its command line. */
  args?: string[];
  /** Environment variables that are set besides those of the run. */
  env?: Record<string, string>;
  /**
   * The working directory, relative to this file. Default: this file's folder.
   * @minLength 1
   */
  cwd?: string;
  /**
   * The Python that runs it, relative to this file if it has a slash. Default: as for a script without a run file.
   * @minLength 1
   */
  interpreter?: string;
  /**
   * Which of its calls: the name of the class or function, with ".2" for the second of that name. Default: the one that is found.
   * @minLength 1
   */
  function?: string;
}

export interface RecordedTraceSource {
  /**
   * A recorded trace, NAME.trace.json, relative to this file.
   * @minLength 1
   */
  trace: string;
  /** What lists and reports call it. */
  label?: string;
}

export interface OnnxModelSource {
  /**
   * An ONNX model, relative to this file.
   * @minLength 1
   */
  onnx: string;
  /** What lists and reports call it. */
  label?: string;
}

export type Provider = "auto" | "tensorrt" | "cuda" | "webgpu" | "cpu";

/** @minProperties 1 */
export interface Tolerance {
  /**
   * Largest ‖d‖₂ / ‖r‖₂ that counts as a match.
   * @minimum 0
   */
  relL2?: number;
  /**
   * As in numpy.allclose: |d| ≤ atol + rtol·|r|, for every element.
   * @minimum 0
   */
  rtol?: number;
  /**
   * As in numpy.allclose: |d| ≤ atol + rtol·|r|, for every element.
   * @minimum 0
   */
  atol?: number;
  /** NaN at the same place on both sides is equal. Default: false. */
  equalNan?: boolean;
}

export interface ExpectedDifference {
  /**
   * Glob over the rows' stage or tensor name.
   * @minLength 1
   */
  rows: string;
  /**
   * Why the difference is meant to be.
   * @minLength 1
   */
  reason: string;
}

/** `*` stands for any part of a name between separators; the k-th `*` of each pattern stands for the same text. */
export interface DeclaredPair {
  /** Glob over the reference's tensor names. */
  reference: string;
  /** Glob over the candidate's tensor names. */
  candidate: string;
}

export interface DeclaredParameterPair {
  /** Glob over the reference's parameter names. */
  reference: string;
  /** Glob over the candidate's parameter names. */
  candidate: string;
}

export interface OwnCheck {
  /**
   * Absolute tolerance.
   * @minimum 0
   */
  atol: number;
  /**
   * Relative tolerance. Default: 0.
   * @minimum 0
   */
  rtol?: number;
}
