import { describe, expect, it } from "vitest";
import type { CapturedTrace, CaptureIndex } from "../../engine/protocol/capture.js";
import { describeCapture, siteOf } from "../../engine/run/describeCapture.js";

const quiet: CaptureIndex = {
  formatVersion: 1,
  script: "/home/me/work/port.py",
  args: [],
  cwd: "/home/me/work",
  exitCode: 0,
  traces: [],
  versions: {},
  emulated: [],
  comparisons: [],
  sources: [],
  opened: [],
  environment: [],
  randomness: { unseeded: [], seeded: [] },
  childProcesses: 0,
};
const call: CapturedTrace = {
  file: "model.trace.json",
  framework: "torch",
  label: "Model",
  kind: "module",
  order: 0,
  calls: 1,
};

function said(
  index: Partial<CaptureIndex>,
  how: Partial<Parameters<typeof describeCapture>[1]> = {},
) {
  return describeCapture({ ...quiet, ...index }, { timedOut: false, ...how }, "/home/me/work");
}

const raised: Partial<CaptureIndex> = {
  exitCode: 1,
  error: {
    type: "ValueError",
    message: "no rows",
    frames: [
      { file: "/home/me/work/lib/data.py", line: 7, function: "load" },
      { file: "/home/me/work/port.py", line: 3, function: "<module>" },
    ],
  },
};

describe("what the run of a script has to say", () => {
  it("is nothing when it went well", () => {
    const traces = [
      { ...call, calls: 3 },
      { ...call, differing: 0 },
    ];
    expect(said({ traces })).toEqual({ problems: [], atBest: "pass" });
  });

  it("is what it raised, at the innermost line of the user's, relative to the base: a warning at best", () => {
    expect(said(raised)).toEqual({
      atBest: "warn",
      problems: [
        {
          severity: "warning",
          code: "script-raised",
          message:
            "the script raised ValueError: no rows; what it had called until then was compared",
          nextStep: "Mend the script and run it again.",
          site: { file: "lib/data.py", line: 7, function: "load" },
        },
      ],
    });
  });

  it("has no site where what raised has no line of the user's", () => {
    const { problems } = said({ error: { type: "KeyError", message: "'x'", frames: [] } });
    expect(problems[0]).not.toHaveProperty("site");
  });

  it("is the signal that ended it", () => {
    const { problems, atBest } = said({ exitCode: null }, { endedBy: "SIGSEGV" });
    expect(atBest).toBe("warn");
    expect(problems[0]?.message).toMatch(/^the script was ended by SIGSEGV; /);
  });

  it("is that its time was over, whatever else ended it, and how to allow more", () => {
    const { problems, atBest } = said(raised, { timedOut: true, endedBy: "SIGKILL" });
    expect(atBest).toBe("warn");
    expect(problems).toMatchObject([{ code: "script-timeout", severity: "warning" }]);
    expect(problems[0]?.message).toMatch(/^the script ran out of time; /);
    expect(problems[0]?.nextStep).toContain("--timeout");
  });

  it("is no more than the type of an exception that says nothing", () => {
    const { problems } = said({ error: { type: "MemoryError", message: "", frames: [] } });
    expect(problems[0]?.message).toMatch(/^the script raised MemoryError; what/);
  });

  it("is its exit code, where nothing else ended it", () => {
    const { problems, atBest } = said({ exitCode: 3 });
    expect(problems).toMatchObject([{ severity: "warning", code: "script-exit-code" }]);
    expect(problems[0]?.message).toContain("exit code 3");
    expect(atBest).toBe("pass");
    expect(said({ exitCode: null }).problems).toEqual([]);
    expect(said(raised).problems.map(({ code }) => code)).toEqual(["script-raised"]);
  });

  it("is each of the agent's own troubles, in its words", () => {
    const { problems } = said({ problems: ["torch 1.4.0 could not be observed", "disk full"] });
    expect(problems.map(({ code, message }) => [code, message])).toEqual([
      ["capture-incomplete", "torch 1.4.0 could not be observed"],
      ["capture-incomplete", "disk full"],
    ]);
  });

  it("is how much calls on equal inputs differed, for each that did: measured, not guessed", () => {
    const { problems, atBest } = said({
      traces: [
        { ...call, label: "Same", calls: 9 },
        { ...call, label: "Noisy", calls: 4, differing: 0.0125 },
        { ...call, label: "Broken", calls: 2, differing: "NaN" },
        { ...call, label: "Gone", calls: 2, differing: "Infinity" },
      ],
    });
    expect(problems.map(({ code }) => code)).toEqual(Array(3).fill("results-differ"));
    expect(problems.map(({ message }) => message)).toEqual([
      "Noisy gave different results for equal inputs in 4 calls: relL2 up to 0.013",
      "Broken gave different results for equal inputs in 2 calls: relL2 up to NaN",
      "Gone gave different results for equal inputs in 2 calls: relL2 up to Infinity",
    ]);
    expect(atBest).toBe("pass");
  });

  it("counts the calls on other values that nobody compared", () => {
    const several = said({ traces: [{ ...call, otherValues: 3 }] }).problems;
    expect(several).toMatchObject([{ code: "calls-not-compared", severity: "information" }]);
    expect(several[0]?.message).toBe("3 more calls of Model on other values were not recorded");
    const one = said({ traces: [{ ...call, otherValues: 1 }] }).problems;
    expect(one[0]?.message).toBe("1 more call of Model on other values was not recorded");
    expect(said({ traces: [call] }).problems).toEqual([]);
  });

  it("is what was kept as samples only, in mebibytes", () => {
    const reduced = { tensors: 12, bytes: 7.4 * 2 ** 20 };
    const { problems } = said({ traces: [{ ...call, reduced }] });
    expect(problems).toMatchObject([{ code: "byte-budget-spent", severity: "information" }]);
    expect(problems[0]?.message).toMatch(/^12 tensors of Model \(7 MiB\) were kept as statistics/);
    expect(problems[0]?.nextStep).toContain("--byte-budget");
  });

  it("is how many calls were not recorded, by framework", () => {
    const { problems } = said({ skipped: { torch: 70, tripy: 1 } });
    expect(problems.map(({ code }) => code)).toEqual(["calls-not-recorded", "calls-not-recorded"]);
    expect(problems.map(({ message }) => message).join()).toMatch(/^70 .*torch.*,1 .*tripy/);
  });

  it("is how many processes it started", () => {
    const { problems, atBest } = said({ childProcesses: 2 });
    expect(problems).toMatchObject([{ code: "child-processes", severity: "information" }]);
    expect(problems[0]?.message).toMatch(/started 2 processes; what they computed was not seen/);
    expect(atBest).toBe("pass");
    expect(said({ childProcesses: 1 }).problems[0]?.message).toMatch(/a process; what it computed/);
  });

  it("is all of that together, the end of the script first", () => {
    const traces = [{ ...call, differing: 1e-6, reduced: { tensors: 1, bytes: 2 ** 20 } }];
    const { problems } = said({ ...raised, traces, skipped: { torch: 1 }, childProcesses: 3 });
    expect(problems.map(({ code }) => code)).toEqual([
      "script-raised",
      "results-differ",
      "byte-budget-spent",
      "calls-not-recorded",
      "child-processes",
    ]);
  });
});

describe("a frame", () => {
  it("is a site relative to the base inside it, and absolute outside", () => {
    const frame = { file: "/home/me/work/lib/data.py", line: 7, function: "load" };
    expect(siteOf(frame, "/home/me/work")?.file).toBe("lib/data.py");
    expect(siteOf(frame, "/home/you")?.file).toBe("/home/me/work/lib/data.py");
    expect(siteOf(undefined, "/home/me")).toBeUndefined();
  });
});
