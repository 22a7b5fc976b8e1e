import type { Site } from "../protocol/report.js";
import type { BlamedLine, LineContext } from "./lineContext.js";
import type { Flow } from "./sourceFlow.js";
import type { Statement } from "./statements.js";

/** Statements between two ops of one function in which nothing is computed of some variables, although it could be. */
export function idleBetween(
  { from, to }: Flow,
  names: ReadonlySet<string>,
  context: LineContext,
): BlamedLine[] {
  const isLoop = from.line > to.line;
  return idleIn(to, names, context, ({ line, endLine }) =>
    isLoop ? line > from.line || endLine < to.line : line > from.line && endLine < to.line,
  );
}

/** Such statements above or below a line. */
export function idle(
  site: Site,
  side: "after" | "before",
  names: ReadonlySet<string>,
  context: LineContext,
): BlamedLine[] {
  return idleIn(site, names, context, ({ line, endLine }) =>
    side === "after" ? line > site.line : endLine < site.line,
  );
}

/** Whether an earlier line of the function makes something of the tensor that no line after it reads. */
export function hasUnused(
  site: Site,
  names: ReadonlySet<string>,
  { statementsOf }: LineContext,
): boolean {
  const own = statementsOf(site.file).filter((one) => one.function === site.function);
  return own.some(
    ({ kind, line, reads, writes }) =>
      kind === "assignment" &&
      line < site.line &&
      reads.some((name) => names.has(name)) &&
      writes.length === 1 &&
      !writes.some((name) => name.includes(".") || names.has(name)) &&
      !own.some((other) => other.line > line && other.reads.some((name) => writes.includes(name))),
  );
}

/** Statements of the function around a line in which nothing is computed, although they could: best first. */
function idleIn(
  site: Site,
  names: ReadonlySet<string>,
  { statementsOf, isComputing }: LineContext,
  isThere: (statement: Statement) => boolean,
): BlamedLine[] {
  const all = statementsOf(site.file);
  const around = all.findLast(
    (one) =>
      one.function === site.function && one.line <= site.line && one.functionLine <= site.line,
  );
  const isRelevant = ({ reads }: Statement): boolean => reads.some((name) => names.has(name));
  const own = all.filter(
    (one) => one.functionLine === around?.functionLine && one.function === site.function,
  );
  /** What nothing reads afterwards is no step that was left out, but one whose result is not used. */
  const isUnused = ({ writes, line }: Statement): boolean =>
    writes.length > 0 &&
    !own.some((other) => other.line > line && other.reads.some((name) => writes.includes(name)));
  return own
    .filter((one) => ["assignment", "return", "condition"].includes(one.kind))
    .filter((one) => isThere(one) && isRelevant(one) && !isUnused(one))
    .filter((one) => {
      for (let line = one.line; line <= one.endLine; line++) {
        if (isComputing(site.file, line)) return false;
      }
      return true;
    })
    .flatMap(({ line, condition, kind }) => {
      const at = (where: number): Site => ({
        file: site.file,
        line: where,
        function: site.function,
      });
      const decides = "decides whether a step is made, and none was";
      const makes = "makes nothing of the tensor; the reference does a step here";
      return [
        ...(condition > 0 ? [{ site: at(condition), why: decides }] : []),
        { site: at(line), why: kind === "condition" ? decides : makes },
      ];
    });
}
