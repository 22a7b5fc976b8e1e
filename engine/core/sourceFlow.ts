import type { ObservedOp } from "./observation.js";
import type { Site } from "../protocol/report.js";

/** How a tensor gets from the op that makes it to the op that reads it, in lines of the user's source. */
export interface Flow {
  /** Lines of the activation of one function that both stand in, directly or through calls. */
  readonly from: Site;
  readonly to: Site;
  /** The maker stands in functions that return to `from`: their lines, innermost first. */
  readonly returned: readonly Site[];
  /** The reader stands in functions that `to` calls: their lines, outermost first. */
  readonly called: readonly Site[];
}

/** Frames are innermost first. Undefined where the two have no function in common. */
export function flowBetween(maker: readonly Site[], reader: readonly Site[]): Flow | undefined {
  const from = maker.toReversed();
  const to = reader.toReversed();
  let depth = 0;
  while (depth < Math.min(from.length, to.length) - 1 && isSamePlace(from[depth], to[depth]))
    depth++;
  const [a, b] = [from[depth], to[depth]];
  if (!a || !b || a.file !== b.file || a.function !== b.function) return undefined;
  return {
    from: a,
    to: b,
    returned: from.slice(depth + 1).reverse(),
    called: to.slice(depth + 1),
  };
}

/**
 * As `flowBetween`, for two ops. Lines of one function that ran for two instances, or in two calls of one, have only the
 * function around it in common.
 */
export function flowOf(maker: ObservedOp, reader: ObservedOp): Flow | undefined {
  const flow = flowBetween(maker.frames, reader.frames);
  if (!flow || !isOfOtherCall(maker, reader, flow)) return flow;
  const outer = flowBetween(
    maker.frames.slice(flow.returned.length + 1),
    reader.frames.slice(flow.called.length + 1),
  );
  return outer
    ? {
        ...outer,
        returned: [...flow.returned, flow.from, ...outer.returned],
        called: [...outer.called, flow.to, ...flow.called],
      }
    : flow;
}

/** Whether the function that both stand in ran twice: for two instances, or in two calls of one. */
function isOfOtherCall(maker: ObservedOp, reader: ObservedOp, { returned, called }: Flow): boolean {
  const [own, other] = [ownerOf(maker), ownerOf(reader)];
  const isBelow = (inner: string, outer: string): boolean =>
    outer === "" || inner === outer || inner.startsWith(`${outer}.`);
  if (returned.length === 0 && called.length === 0) {
    const isLater = maker.instance === reader.instance && (maker.call ?? 0) !== (reader.call ?? 0);
    return own !== other || isLater;
  }
  if (returned.length === 0) return !isBelow(other, own);
  return called.length === 0 && !isBelow(own, other);
}

/** The numbered module that a line belongs to: "layers.1" for what runs in "layers.1.norm". */
export function ownerOf({ instance, constructedAt, frames }: ObservedOp): string {
  const parts = instance.split(".");
  // A layer that is made where it is called has no place among the modules.
  const isOfCall = frames.some(
    (site) => site.file === constructedAt?.file && site.function === constructedAt.function,
  );
  if (constructedAt && !isOfCall) parts.pop();
  while (parts.length > 0 && !/^\d+$/.test(parts.at(-1) as string)) parts.pop();
  return parts.join(".");
}

/** Whether an op ran in the same call of the function in which another one stands, or in what that calls. */
export function isInActivationOf(op: ObservedOp, other: ObservedOp): boolean {
  const depth = other.frames.length - 1;
  return (
    op.frames.length > depth &&
    callKey(op.frames, depth) === callKey(other.frames, depth) &&
    ownerOf(op) === ownerOf(other)
  );
}

export function isSameLine(a: Site | undefined, b: Site | undefined): boolean {
  return a !== undefined && b !== undefined && a.file === b.file && a.line === b.line;
}

/** The same expression: a line may hold several calls of one function. */
export function isSamePlace(a: Site | undefined, b: Site | undefined): boolean {
  return isSameLine(a, b) && a?.function === b?.function && a?.column === b?.column;
}

/** The frames from one on outwards, as text: ops with the same text stand in the same call. */
export function callKey(frames: readonly Site[], depthFromOutside: number): string {
  return frames
    .toReversed()
    .slice(0, depthFromOutside)
    .map((site) => `${site.file}:${site.line}:${site.column ?? ""}:${site.function}`)
    .join("|");
}

/** The places that all have in common, outermost first: the last is the innermost line through which all came. */
export function commonFrames(frames: readonly (readonly Site[])[]): readonly Site[] {
  const [first = [], ...others] = frames.map((list) => list.toReversed());
  let depth = 0;
  const isCommon = (site: Site | undefined): boolean =>
    isSameLine(site, first[depth]) && site?.function === first[depth]?.function;
  while (depth < first.length && others.every((other) => isCommon(other[depth]))) depth++;
  return first.slice(0, depth);
}
