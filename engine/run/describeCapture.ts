import type { CaptureResult } from "../capture/agent.js";
import type { CapturedError, CapturedFrame, CaptureIndex } from "../protocol/capture.js";
import type { Problem, Site } from "../protocol/report.js";
import { fromWire } from "../protocol/wire.js";
import { relativeToBase } from "./sources.js";

/** What the run of the script itself has to say, besides the comparison. */
export function describeCapture(
  index: CaptureIndex,
  { timedOut, endedBy }: Pick<CaptureResult, "timedOut" | "endedBy">,
  base: string,
): { problems: Problem[]; atBest: "pass" | "warn" } {
  const problems: Problem[] = [];
  const cut = timedOut
    ? "ran out of time"
    : endedBy
      ? `was ended by ${endedBy}`
      : index.error && `raised ${namesError(index.error)}`;
  if (cut !== undefined) {
    const site = siteOf(index.error?.frames[0], base);
    problems.push({
      severity: "warning",
      code: timedOut ? "script-timeout" : "script-raised",
      message: `the script ${cut}; what it had called until then was compared`,
      nextStep: timedOut ? "Allow more time with --timeout." : "Mend the script and run it again.",
      ...(site && { site }),
    });
  }
  if (cut === undefined && index.exitCode !== null && index.exitCode !== 0) {
    problems.push({
      severity: "warning",
      code: "script-exit-code",
      message: `the script ended with exit code ${index.exitCode}`,
      nextStep: "Its own check may have failed: see what it printed.",
    });
  }
  for (const message of index.problems ?? []) {
    problems.push({
      severity: "warning",
      code: "capture-incomplete",
      message,
      nextStep: "What was not observed is not compared.",
    });
  }
  for (const trace of index.traces) {
    const { label, calls, differing, otherValues = 0, reduced } = trace;
    if (differing !== undefined && fromWire(differing) !== 0) {
      problems.push({
        severity: "warning",
        code: "results-differ",
        message: `${label} gave different results for equal inputs in ${calls} calls: relL2 up to ${fromWire(differing).toPrecision(2)}`,
        nextStep: "Seed what is random, or ask torch for deterministic algorithms.",
      });
    }
    if (otherValues > 0) {
      problems.push({
        severity: "information",
        code: "calls-not-compared",
        message: `${otherValues} more ${otherValues === 1 ? "call" : "calls"} of ${label} on other values ${otherValues === 1 ? "was" : "were"} not recorded`,
        nextStep:
          "The first ones of each shape were; give the script less to do if a later one matters.",
      });
    }
    if (reduced) {
      problems.push({
        severity: "information",
        code: "byte-budget-spent",
        message: `${reduced.tensors} tensors of ${label} (${mebibytes(reduced.bytes)} MiB) were kept as statistics and samples only: the byte budget was spent`,
        nextStep: "Raise --byte-budget to compare them.",
      });
    }
  }
  for (const [framework, count] of Object.entries(index.skipped ?? {})) {
    problems.push({
      severity: "information",
      code: "calls-not-recorded",
      message: `${count} more calls of ${framework} models were not recorded`,
      nextStep: "Give the script less to do if one of them matters.",
    });
  }
  if ((index.childProcesses ?? 0) > 0) {
    problems.push({
      severity: "information",
      code: "child-processes",
      message:
        index.childProcesses === 1
          ? "the script started a process; what it computed was not seen"
          : `the script started ${index.childProcesses} processes; what they computed was not seen`,
      nextStep: "Run what matters in the script's own process.",
    });
  }
  return { problems, atBest: cut === undefined ? "pass" : "warn" };
}

export function siteOf(frame: CapturedFrame | undefined, base: string): Site | undefined {
  return frame && { ...frame, file: relativeToBase(base, frame.file) };
}

/** "ValueError: no data", or the type alone where there is nothing more to say. Colours and line breaks are left out. */
export function namesError({ type, message }: Pick<CapturedError, "type" | "message">): string {
  const plain = message
    .replace(/\x1b\[[0-9;]*m/g, "")
    .replace(/\s+/g, " ")
    .trim();
  const shown = plain.length > 200 ? `${plain.slice(0, 200)}…` : plain;
  return shown === "" ? type : `${type}: ${shown}`;
}

function mebibytes(bytes: number): number {
  return Math.round(bytes / 2 ** 20);
}
