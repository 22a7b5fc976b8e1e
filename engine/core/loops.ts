import type { Site } from "../protocol/report.js";
import type { LineContext } from "./lineContext.js";
import type { ObservedOp } from "./observation.js";
import { callKey, commonFrames } from "./sourceFlow.js";

type Sources = Pick<LineContext, "statementsOf">;

/** Where lines of one function stand, and what encloses them. */
export interface Enclosing {
  /** The innermost line through which all ops came: a call. */
  readonly call: Site | undefined;
  /** Their lines in the function that it calls, where all stand in one. */
  readonly sites: readonly Site[];
  /** The innermost loop of that function around all of them. */
  readonly loop: Site | undefined;
}

export function enclosing(ops: readonly ObservedOp[], sources: Sources): Enclosing {
  const common = commonFrames(ops.map((op) => op.frames));
  const below = ops.map(({ frames }) => frames.at(-1 - common.length));
  const [first] = below;
  const sites = below.filter(
    (site) => site && site.file === first?.file && site.function === first.function,
  ) as Site[];
  const isOne = sites.length === ops.length;
  return {
    call: common.at(-1),
    sites: isOne ? sites : [],
    loop: isOne ? loopAround(sites, sources) : undefined,
  };
}

/** The innermost loop around lines of one function. */
export function loopAround(sites: readonly Site[], sources: Sources): Site | undefined {
  const [first] = sites;
  const [own = [], ...others] = sites.map((site) => loopsAround(site, sources));
  const line = own.find((loop) => others.every((loops) => loops.includes(loop)));
  return first && line !== undefined
    ? { file: first.file, line, function: first.function }
    : undefined;
}

/** The lines of the loops around a line, the innermost first. */
function loopsAround({ file, line, function: name }: Site, { statementsOf }: Sources): number[] {
  const own = statementsOf(file).filter((one) => one.function === name);
  const loops: number[] = [];
  let at = own.findLast((one) => one.line <= line && line <= one.endLine);
  while (at && at.loop > 0 && !loops.includes(at.loop)) {
    const { loop } = at;
    loops.push(loop);
    at = own.find((one) => one.kind === "loop" && one.line === loop);
  }
  return loops;
}

/** Whether all that a loop computes in its own lines is computed in these. */
export function isWholeTurn(
  loop: Site,
  sites: readonly Site[],
  { statementsOf, isComputing }: Pick<LineContext, "statementsOf" | "isComputing">,
): boolean {
  const lines = new Set(sites.map(({ line }) => line));
  return statementsOf(loop.file)
    .filter((one) => one.function === loop.function && one.loop === loop.line)
    .flatMap(({ line, endLine }) =>
      Array.from({ length: endLine - line + 1 }, (_, at) => line + at),
    )
    .every((line) => lines.has(line) || !isComputing(loop.file, line));
}

/** Whether two ops ran in one call of a function: nothing was computed outside of it between the two. */
export function isSameCall(
  one: ObservedOp,
  other: ObservedOp,
  depth: number,
  ops: readonly ObservedOp[],
): boolean {
  const [from, to] = [ops.indexOf(one), ops.indexOf(other)].sort((a, b) => a - b) as [
    number,
    number,
  ];
  const key = callKey(one.frames, depth);
  return ops
    .slice(from, to + 1)
    .filter((op) => op.frames.length > 0)
    .every((op) => op.frames.length > depth && callKey(op.frames, depth) === key);
}
