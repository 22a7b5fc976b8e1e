/** One kind of test that has no meaning without TensorRT and a GPU. */
interface Inapplicable {
  readonly reason: string;
  readonly file?: RegExp;
  readonly test?: RegExp;
  /** What the failure must say: another failure of the same test is a failure. */
  readonly failure: RegExp;
}

/** All kinds; a failed test that fits none of them counts as failed. */
export const INAPPLICABLE: readonly Inapplicable[] = [
  {
    reason: "a TensorRT plugin",
    file: /^test_plugin\.py$/,
    failure: /Plugin\b.* cannot run outside TensorRT/,
  },
  {
    reason: "a TensorRT plugin whose kernel Triton compiles",
    file: /^test_plugin_qdp\.py$/,
    failure: /cannot run outside TensorRT/,
  },
  {
    reason: "int8 without a scale, whose meaning TensorRT takes from its calibration",
    failure: /of int8 depends on TensorRT's quantisation scales|AvgPooling of int8/,
  },
];

/** Why a failed test cannot apply here; undefined when it is a failure. */
export function reasonNotToApply(file: string, test: string, failure: string): string | undefined {
  return INAPPLICABLE.find(
    (kind) =>
      (kind.file?.test(file) ?? true) &&
      (kind.test?.test(test) ?? true) &&
      kind.failure.test(failure),
  )?.reason;
}
