import type { Layout } from "../../protocol/tensor.js";
import type { Observation } from "../observation.js";

/** Lengths of the run's samples, from the layouts of its inputs; undefined where none says or two disagree. */
export function sampleLengths({ inputs, tensors }: Observation): readonly number[] | undefined {
  const found = new Map<string, number[]>();
  for (const { tensor } of inputs) {
    const lengths = lengthsOf(tensors.get(tensor)?.layout);
    if (lengths) found.set(lengths.join(), lengths);
  }
  const [only] = found.values();
  return found.size === 1 ? only : undefined;
}

function lengthsOf(layout: Layout | undefined): number[] | undefined {
  if (layout?.kind === "padded") return layout.lengths;
  if (layout?.kind !== "jagged") return undefined;
  return layout.offsets.slice(1).map((end, b) => end - (layout.offsets[b] as number));
}
