import type { Site } from "../protocol/report.js";

/**
 * The user's frames in `pkg.torch.onnx.stack_trace`, which is text as Python prints a traceback: outermost first. Here
 * they are innermost first, without those of torch itself, of installed packages and of generated code.
 */
export function framesOfStackTrace(trace: string): Site[] {
  const frames: Site[] = [];
  for (const [, file = "", line = "", name = ""] of trace.matchAll(
    /^\s*File "([^"\n]+)", line (\d+)(?:, in (.+))?$/gm,
  )) {
    if (!isUsers(file)) continue;
    frames.unshift({ file: file.replaceAll("\\", "/"), line: Number(line), function: name.trim() });
  }
  return frames;
}

/**
 * The module instance in `pkg.torch.onnx.name_scopes`, a Python list of texts from the outermost module ("") to the
 * node's own name, which is last: "['', 'layers.0', 'layers.0.norm', 'layer_norm']" is in "layers.0.norm".
 */
export function instanceOfNameScopes(scopes: string): string {
  const names = [...scopes.matchAll(/'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"/g)].map(
    ([, single, double]) => single ?? double ?? "",
  );
  return names.at(-2) ?? "";
}

function isUsers(file: string): boolean {
  return !/[\\/](site|dist)-packages[\\/]|[\\/]torch[\\/](nn|fx|_dynamo|_ops|onnx|export)[\\/.]|^</.test(
    file,
  );
}
