import type { TensorKey } from "../core/observation.js";
import { segmentOf, type SegmentGraph } from "../core/segments.js";
import type { CounterpartOptions, Question, Supposed } from "./counterpartOptions.js";

/** What the tensors that one line makes could each stand for, if its likeliest counterpart is what it should have been. */
export function supposedByLine(
  pending: readonly TensorKey[],
  question: Question,
  options: CounterpartOptions,
  graph: SegmentGraph,
): Supposed[][] {
  const byLine = new Map<string, Supposed[]>();
  for (const key of pending) {
    const maker = graph.producerOf.get(key);
    const site = maker?.frames[0];
    const own = options.entering(key, segmentOf(key, question.cuts, graph));
    const found = options.optionsFor(key, question);
    const likely = found.filter(({ rank }) => rank === 0).map(({ match: m }) => m);
    const match =
      likely[0] ??
      (own.length === 1 ? own[0] : undefined) ??
      onlyOne(found.filter(({ match: m }) => options.readsMore(m.reference, key, question)))?.match;
    if (!site || !match) continue;
    const line = `${site.file}:${site.line} ${maker.kind}`;
    const one = { candidate: key, match, likely };
    const known = byLine.get(line);
    if (known) known.push(one);
    else byLine.set(line, [one]);
  }
  return [...byLine.values()];
}

function onlyOne<T>(items: readonly T[]): T | undefined {
  return items.length === 1 ? items[0] : undefined;
}
