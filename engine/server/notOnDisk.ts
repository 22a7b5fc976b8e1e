import type { Problem } from "../protocol/report.js";
import type { RunResult } from "../protocol/requests.js";

/** What is answered about a run file or a script that no folder has. */
export function notRunnable(uri: string): RunResult {
  return { outcome: "invalid", problems: [notOnDisk(uri)] };
}

export function notOnDisk(uri: string): Problem {
  return {
    severity: "error",
    code: "run-file-not-on-disk",
    message: `${uri} is not a file on disk`,
    nextStep: "Save the run file first; its paths are relative to where it lies.",
  };
}
