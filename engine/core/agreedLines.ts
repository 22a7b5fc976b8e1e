import type { Site } from "../protocol/report.js";
import type { Explanation } from "./explanation.js";
import type { Judgement } from "./judge.js";
import type { BlamedLine } from "./lineContext.js";
import type { ObservedOp } from "./observation.js";
import type { Blamed } from "./originLines.js";
import { isSameLine } from "./sourceFlow.js";

/** One instance of an origin with its lines. */
export interface Supposed {
  readonly judgement: Judgement;
  readonly blamed: Blamed;
}

/**
 * What happens in several instances is one fault where one line accounts for it. Instances that should read what one line of
 * the reference makes agree on a line that all of them list. And an instance behind which a line stands that is at fault in
 * more instances, or in another that says so alone, is one of these.
 */
export function agreed(
  supposed: readonly Supposed[],
  wantedAt: (explanation: Explanation | undefined) => Site | undefined,
  opsBehind: (judgement: Judgement) => readonly ObservedOp[],
): readonly Supposed[] {
  const sharing = supposed.map((one) => {
    const wanted = wantedAt(one.blamed.explanation);
    const others = wanted
      ? supposed.filter(({ blamed }) => isSameLine(wantedAt(blamed.explanation), wanted))
      : [one];
    const best =
      others.length > 1 ? bestShared(others.map(({ blamed }) => blamed.lines)) : undefined;
    return best ? withFirst(one, best) : one;
  });
  return sharing.map((one) => {
    const own = sharing.filter((other) => startsWith(other, one.blamed.lines[0]?.site)).length;
    const within = opsBehind(one.judgement).flatMap((op) => op.frames);
    const known = sharing.find((other) => {
      const site = other.blamed.lines[0]?.site;
      if (startsWith(other, one.blamed.lines[0]?.site)) return false;
      if (!within.some((frame) => isSameLine(frame, site))) return false;
      const instances = sharing.filter((third) => startsWith(third, site)).length;
      return instances > own || (instances === own && isNarrower(other, one));
    });
    const line = known?.blamed.lines[0];
    return known && line
      ? withFirst({ ...one, blamed: { ...one.blamed, kind: known.blamed.kind } }, line)
      : one;
  });
}

/** Whether one names fewer lines, and the first of them is among the other's. */
function isNarrower({ blamed: one }: Supposed, { blamed: other }: Supposed): boolean {
  return (
    one.lines.length < other.lines.length &&
    other.lines.some(({ site }) => isSameLine(site, one.lines[0]?.site))
  );
}

/** The line that stands nearest to the front in all lists. */
function bestShared(lists: readonly (readonly BlamedLine[])[]): BlamedLine | undefined {
  const [first = []] = lists;
  const places = first.map((line) => ({
    line,
    places: lists.map((list) => list.findIndex(({ site }) => isSameLine(site, line.site))),
  }));
  return places
    .filter(({ places: all }) => all.every((place) => place >= 0))
    .sort((a, b) => sum(a.places) - sum(b.places))[0]?.line;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((a, b) => a + b, 0);
}

function startsWith({ blamed }: Supposed, site: Site | undefined): boolean {
  return isSameLine(blamed.lines[0]?.site, site);
}

function withFirst(one: Supposed, line: BlamedLine): Supposed {
  const { blamed } = one;
  const own = blamed.lines.find(({ site }) => isSameLine(site, line.site)) ?? line;
  const rest = blamed.lines.filter((other) => other !== own);
  return { ...one, blamed: { ...blamed, lines: [own, ...rest] } };
}
