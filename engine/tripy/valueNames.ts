import type { TraceFile } from "../protocol/trace.js";

/**
 * A unique ONNX value name per tensor id: an input port's name, else the first name that the source gives the tensor,
 * else `t<id>`. A name that is taken gets `%<id>` at its end.
 */
export function nameValues(trace: TraceFile): Map<number, string> {
  const names = new Map<number, string>();
  const taken = new Set<string>();
  for (const port of trace.inputs) {
    if (!names.has(port.tensor)) claim(port.tensor, port.name || `t${port.tensor}`);
  }
  for (const tensor of trace.tensors) {
    if (!names.has(tensor.id)) claim(tensor.id, tensor.names[0] || `t${tensor.id}`);
  }
  return names;

  function claim(id: number, wanted: string): void {
    let name = wanted;
    while (taken.has(name)) name = `${name}%${id}`;
    taken.add(name);
    names.set(id, name);
  }
}
