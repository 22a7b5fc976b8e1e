import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { RunResult } from "../../engine/protocol/requests.js";
import { userError } from "../../engine/protocol/userError.js";
import { RunnerFailure } from "../../engine/runner/executor.js";
import {
  createRuns,
  type RunParity,
  type RunRequest,
  type RunsParts,
} from "../../engine/server/runs.js";
import type { RunScript } from "../../engine/server/scriptRun.js";
import { makeReport } from "./serverReport.js";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), "server-runs-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

function request(change: Partial<RunRequest> = {}): RunRequest {
  return {
    runFile: path.join(folder, "story.parity.json"),
    text: undefined,
    storage: path.join(folder, "storage"),
    env: {},
    onProgress: () => undefined,
    onOutput: () => undefined,
    ...change,
  };
}

function run(
  runParity: RunParity,
  change: Partial<RunRequest> = {},
  signal = new AbortController().signal,
): Promise<RunResult> {
  return createRuns(partsOf(runParity)).run(request(change), signal);
}

function partsOf(runParity: RunParity): RunsParts {
  const runScript: RunScript = () => Promise.reject(new Error("no script is run here"));
  return { runParity, runScript, runnerEntry: "runner.mjs", agentFolder: "capture" };
}

/** Waits for its abort, as a run in the middle of an evaluation does. */
const endless: RunParity = ({ signal }) =>
  new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason as Error);
    signal.addEventListener("abort", () =>
      reject(new RunnerFailure("runner-crashed", "killed", "")),
    );
  });

describe("a run", () => {
  it("writes its report whole, under the run file's name, and leaves nothing else", async () => {
    const result = await run(async () => makeReport(folder));
    if (result.outcome !== "report") throw new Error(result.outcome);
    expect(path.basename(result.reportFile)).toBe("story.parity-report.json");
    expect(JSON.parse(await readFile(result.reportFile, "utf8"))).toEqual(result.report);
    expect(await readdir(path.dirname(result.reportFile))).toEqual(["story.parity-report.json"]);
  });

  it("keeps the reports of equal names in different folders apart", async () => {
    const files = await Promise.all(
      ["a", "b"].map(async (name) => {
        const result = await run(async () => makeReport(folder), {
          runFile: path.join(folder, name, "story.parity.json"),
        });
        return result.outcome === "report" && result.reportFile;
      }),
    );
    expect(files[0]).not.toBe(files[1]);
  });

  it("passes text, provider and time limit on", async () => {
    let seen: Parameters<RunParity>[0] | undefined;
    await run(
      async (options) => {
        seen = options;
        return makeReport(folder);
      },
      { text: "{}", provider: "cuda", timeoutSeconds: 3 },
    );
    expect(seen).toMatchObject({ text: "{}", provider: "cuda", timeoutMs: 3000 });
    expect(seen?.command).toEqual([
      "hstu-parity",
      "run",
      "--provider",
      "cuda",
      path.join(folder, "story.parity.json"),
    ]);
  });

  it("is cancelled by its signal, whatever the killed runner then says", async () => {
    const cancel = new AbortController();
    const running = run(endless, {}, cancel.signal);
    cancel.abort();
    expect(await running).toEqual({ outcome: "cancelled" });
  });

  it("is cancelled by a newer run of the same file, and only of the same", async () => {
    let calls = 0;
    const runs = createRuns(
      partsOf((options) => (++calls < 3 ? endless(options) : Promise.resolve(makeReport(folder)))),
    );
    const never = new AbortController();
    const first = runs.run(request(), never.signal);
    const other = runs.run(
      request({ runFile: path.join(folder, "other.parity.json") }),
      never.signal,
    );
    expect((await runs.run(request(), never.signal)).outcome).toBe("report");
    expect((await first).outcome).toBe("cancelled");
    runs.cancelAll();
    expect((await other).outcome).toBe("cancelled");
  });

  const failures: { name: string; error: unknown; expected: Partial<RunResult> }[] = [
    {
      name: "a mistake of the user's",
      error: userError("run-file-unknown-field", "there is no field x", "Remove it."),
      expected: {
        outcome: "invalid",
        problems: [
          {
            severity: "error",
            code: "run-file-unknown-field",
            message: "there is no field x",
            nextStep: "Remove it.",
          },
        ],
      },
    },
    {
      name: "a runner that died",
      error: new RunnerFailure("runner-crashed", "the runner died", "Run again.", "last words"),
      expected: {
        outcome: "failed",
        message: "the runner died",
        nextStep: "Run again.",
        details: "last words",
      },
    },
    {
      name: "a mistake of ours",
      error: new TypeError("x is undefined"),
      expected: {
        outcome: "failed",
        message: "the engine failed on story.parity.json: x is undefined",
      },
    },
  ];
  it.each(failures)("reports $name", async ({ error, expected }) => {
    expect(await run(() => Promise.reject(error as Error))).toMatchObject(expected);
  });

  it("says so when the report cannot be written", async () => {
    const file = path.join(folder, "not-a-folder");
    await writeFile(file, "");
    const result = await run(async () => makeReport(folder), { storage: file });
    expect(result).toMatchObject({
      outcome: "invalid",
      problems: [{ code: "report-unwritable" }],
    });
  });
});
