import type { FailureText } from "./messages.js";

/** What an error of ONNX Runtime's means for the user. Its messages are not an interface: what is unknown is passed on. */
export function ortFailure(error: unknown, phase: "load" | "run"): FailureText {
  const said = wordsOf(error);
  for (const [pattern, explain] of known) {
    const match = pattern.exec(said);
    if (match) return explain(match, said);
  }
  return {
    code: "model-refused",
    message:
      phase === "load"
        ? `ONNX Runtime refuses the model: ${said}`
        : `ONNX Runtime could not run the model: ${said}`,
    nextStep: "Export the model again, or check it with onnx.checker.",
  };
}

const known: readonly [RegExp, (match: RegExpExecArray, said: string) => FailureText][] = [
  [
    /Unsupported data type: (\d+)/,
    ([, type]) => ({
      code: "model-refused",
      message: `the model has an input or output of the ONNX element type ${type}, which cannot be handed over`,
      nextStep: "Cast it to float32 inside the model.",
      elementType: Number(type),
    }),
  ],
  [
    /bad_alloc|Failed to allocate memory|out of memory|Array buffer allocation failed/i,
    (_, said) => ({
      code: "out-of-memory",
      message: `ONNX Runtime ran out of memory: ${said}`,
      nextStep: "Close other programs, or compare a smaller batch.",
    }),
  ],
  [
    /Could not find an implementation for (?:[\w.]+[.:])?(\w+)\(\d+\) node with name '([^']*)'/,
    ([, op = "", node = ""]) => missing(op, node),
  ],
  [/No Op registered for (\w+)/, ([, op = ""]) => missing(op, "")],
  [/(?:[\w.]+:)?(\w+)\(-?\d+\) is not a registered function\/op/, ([, op = ""]) => missing(op, "")],
  [
    /Got invalid dimensions for input|Unexpected input data type|missing in 'feeds'|Invalid rank for input|Invalid (?:feed|input) name/i,
    (_, said) => ({
      code: "bad-feeds",
      message: `the inputs do not fit the model: ${said}`,
      nextStep: "Give inputs of the type and shape that the model takes.",
    }),
  ],
  [
    /Non-zero status code returned while running (\w+) node\. Name:'([^']*)' Status Message: ([^]*)/,
    ([, op = "", node = "", why = ""]) => ({
      code: "model-refused",
      message: `${op}${node ? ` "${node}"` : ""} cannot be computed on these inputs: ${why}`,
      nextStep: "Check the shapes that reach this op.",
      op,
    }),
  ],
  [
    /(?:Node \(([^)]*)\) Op \((\w+)\)) ([^]*)/,
    ([, node = "", op = "", why = ""]) => ({
      code: "model-refused",
      message: `${op}${node ? ` "${node}"` : ""} does not fit its inputs: ${why}`,
      nextStep: "Export the model again.",
      op,
    }),
  ],
  [
    /of operator \((\w+)\) in node \(([^)]*)\) is invalid/,
    ([, op = ""], said) => ({
      code: "model-refused",
      message: `ONNX Runtime refuses the model: ${said}`,
      nextStep: "Export the model again.",
      op,
    }),
  ],
];

function missing(op: string, node: string): FailureText {
  return {
    code: "operator-missing",
    message: `ONNX Runtime has no implementation of ${op}${node ? ` (node "${node}")` : ""} on the CPU`,
    nextStep: `Replace ${op} in the model, export it with another opset, or use a provider that has it.`,
    op,
  };
}

/** Without the temporary file's name, and in one line. */
function wordsOf(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message
    .replace(/^Load model from \S+ failed:\s*/, "")
    .replace(/^Error: /, "")
    .replace(/^\S*\.cc:\d+ \S+ /, "")
    .replace(/\s+/g, " ")
    .trim();
}
