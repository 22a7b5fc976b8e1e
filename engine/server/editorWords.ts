import type { Problem } from "../protocol/report.js";

/** A problem of a script's run with the next step that there is in the editor, where options of a command line are none. */
export function inEditorWords(problem: Problem): Problem {
  const nextStep = nextSteps[problem.code];
  if (nextStep !== undefined) return { ...problem, nextStep };
  return problem.code.startsWith("python-") || problem.code.startsWith("package-")
    ? {
        ...problem,
        nextStep: `${problem.nextStep} The command HSTU Parity: Select Python chooses one.`,
      }
    : problem;
}

const nextSteps: Readonly<Record<string, string>> = {
  "script-timeout":
    "Allow more time with the setting hstuParity.timeout, or give the script less to do.",
  "script-raised":
    "Mend the script: its own traceback is in its output (HSTU Parity: Show Script Output).",
  "script-not-started":
    "Check that this Python starts, or choose another one with HSTU Parity: Select Python.",
  "implementations-chosen": "Choose otherwise in a run file.",
  "several-references": "Say which one it is in a run file.",
  "nothing-to-compare-with":
    "Call both implementations on the same inputs in one script, or name two calls in a run file.",
  "unlike-results": "If one is an implementation of the other, name both in a run file.",
  "nothing-to-save": "Run a script that calls both implementations on the same inputs.",
  "byte-budget-spent": "Raise the setting hstuParity.byteBudget to compare them.",
};
