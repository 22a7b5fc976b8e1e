import { chmod, mkdir, mkdtemp, realpath, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { RunResult } from "../../engine/protocol/requests.js";
import type { InterpreterFacts } from "../../engine/protocol/scriptRequests.js";
import { userError } from "../../engine/protocol/userError.js";
import { listInterpreters } from "../../engine/server/interpreters.js";
import { createRuns } from "../../engine/server/runs.js";
import { forwardOutput } from "../../engine/server/scriptOutput.js";
import type { RunScript, ScriptRunRequest } from "../../engine/server/scriptRun.js";
import { makeReport } from "./serverReport.js";

let folder: string;
beforeEach(async () => {
  folder = await realpath(await mkdtemp(path.join(os.tmpdir(), "server scripts ")));
});
afterEach(async () => {
  vi.useRealTimers();
  await rm(folder, { recursive: true, force: true });
});

/** A shell script that answers as an interpreter does. */
async function fakePython(name: string, packages: Record<string, string> = {}): Promise<string> {
  const file = path.join(folder, name);
  const prefix = path.dirname(path.dirname(file));
  const answer = { version: "3.11.7", executable: file, prefix, searchPath: [], installer: "pip" };
  const text = JSON.stringify({ ...answer, packages });
  await mkdir(path.dirname(file), { recursive: true });
  await writeFile(file, `#!/bin/sh\nprintf '%s' 'hstu-parity-interpreter:${text}'\n`);
  await chmod(file, 0o755);
  return file;
}

/** No Python of this machine can be found. */
function env(): NodeJS.ProcessEnv {
  return { PATH: path.join(folder, "bin"), HOME: folder };
}

async function run(
  runScript: RunScript,
  change: Partial<ScriptRunRequest> = {},
  cancelled = new AbortController().signal,
): Promise<RunResult> {
  const python = await fakePython("chosen/bin/python");
  const request: ScriptRunRequest = {
    script: path.join(folder, "project", "port.py"),
    args: [],
    cwd: path.join(folder, "project"),
    given: [{ path: python, source: "setting" }],
    folders: [folder],
    storage: path.join(folder, "storage"),
    env: env(),
    onProgress: () => undefined,
    onInterpreter: () => undefined,
    onOutput: () => undefined,
    ...change,
  };
  const runParity = () => Promise.reject(new Error("no run file is run here"));
  const parts = { runParity, runScript, runnerEntry: "runner.mjs", agentFolder: "capture" };
  return createRuns(parts).runScript(request, cancelled);
}

describe("a run of a script", () => {
  it("passes on what it was asked for, and tells the interpreter", async () => {
    let seen: Parameters<RunScript> | undefined;
    let told: InterpreterFacts | undefined;
    let printed = "";
    const result = await run(
      async (...given) => {
        seen = given;
        given[0].onOutput?.("stderr", "hello");
        return makeReport(folder);
      },
      {
        args: ["--config", "tiny"],
        provider: "cuda",
        timeoutSeconds: 3,
        byteBudget: 1.5,
        noCache: true,
        onInterpreter: (interpreter) => (told = interpreter),
        onOutput: (text) => (printed += text),
      },
    );
    const python = path.join(folder, "chosen/bin/python");
    expect(seen?.[0]).toMatchObject({
      target: { script: path.join(folder, "project", "port.py") },
      args: ["--config", "tiny"],
      cwd: path.join(folder, "project"),
      base: path.join(folder, "project"),
      provider: "cuda",
      timeoutMs: 3000,
      byteBudget: 1572864,
      interpreter: { path: python, source: "setting" },
      runnerEntry: "runner.mjs",
      agentFolder: "capture",
    });
    expect(seen?.[1]).toEqual({ env: env(), useCache: false });
    const options = ["--provider", "cuda", "--timeout", "3", "--byte-budget", "1.5", "--no-cache"];
    expect(seen?.[0].command).toEqual([
      ...["hstu-parity", "run", "--python", python, ...options],
      ...[path.join(folder, "project", "port.py"), "--config", "tiny"],
    ]);
    expect(told).toMatchObject({ path: python, version: "3.11.7", found: "from the settings" });
    expect(printed).toBe("hello");
    if (result.outcome !== "report") throw new Error(result.outcome);
    expect(path.basename(result.reportFile)).toBe("port.parity-report.json");
  });

  it("leaves out what nobody asked for, and uses the cache", async () => {
    let seen: Parameters<RunScript> | undefined;
    await run(async (...given) => {
      seen = given;
      return makeReport(folder);
    });
    for (const key of ["provider", "timeoutMs", "byteBudget"])
      expect(seen?.[0]).not.toHaveProperty(key);
    expect(seen?.[1].useCache).toBe(true);
  });

  it("names files relative to the script's folder where it lies outside of the folder it starts in", async () => {
    let base = "";
    await run(
      async (options) => {
        base = options.base;
        return makeReport(folder);
      },
      { script: path.join(folder, "elsewhere", "port.py") },
    );
    expect(base).toBe(path.join(folder, "elsewhere"));
  });

  it("is cancelled by its signal, before it begins and while it runs, whatever the killed script says", async () => {
    const endless: RunScript = ({ signal }) =>
      new Promise((_, reject) => {
        signal.addEventListener("abort", () => reject(new Error("killed")));
      });
    const cancel = new AbortController();
    const running = run(endless, {}, cancel.signal);
    setTimeout(() => cancel.abort(), 50);
    expect(await running).toEqual({ outcome: "cancelled" });
    let ran = false;
    const never: RunScript = async () => {
      ran = true;
      return makeReport(folder);
    };
    expect(await run(never, {}, AbortSignal.abort())).toEqual({ outcome: "cancelled" });
    expect(ran).toBe(false);
  });

  it("says next steps in the editor's words, of problems that stop it and of those in its report", async () => {
    const stopped = await run(() =>
      Promise.reject(userError("script-timeout", "too slow", "Allow more time with --timeout.")),
    );
    expect(stopped).toMatchObject({
      outcome: "invalid",
      problems: [{ message: "too slow", nextStep: expect.stringContaining("hstuParity.timeout") }],
    });
    const reported = await run(async () => ({
      ...makeReport(folder),
      problems: [
        {
          severity: "information",
          code: "implementations-chosen",
          message: "a was compared with b",
          nextStep: "Choose otherwise with --reference ID",
        },
        { severity: "warning", code: "other", message: "x", nextStep: "Do y." },
      ],
    }));
    if (reported.outcome !== "report") throw new Error(reported.outcome);
    expect(reported.report.problems.map(({ nextStep }) => nextStep)).toEqual([
      "Choose otherwise in a run file.",
      "Do y.",
    ]);
  });

  it("offers another Python where the chosen one does not do", async () => {
    const given = [{ path: path.join(folder, "gone"), source: "python extension" as const }];
    expect(await run(async () => makeReport(folder), { given })).toMatchObject({
      outcome: "invalid",
      problems: [
        {
          code: "python-not-found",
          message: expect.stringContaining("chosen in the Python extension"),
          nextStep: expect.stringContaining("HSTU Parity: Select Python"),
        },
      ],
    });
  });
});

describe("the interpreters that can be chosen", () => {
  const { signal } = new AbortController();

  it("come in the order in which they would be taken, each environment once, with what they lack", async () => {
    const setting = await fakePython("env/bin/python", { torch: "2.13.0", nvtripy: "0.1.7" });
    const venv = await fakePython("project/.venv/bin/python", { torch: "2.12.0" });
    const onPath = await fakePython("bin/python3");
    const { interpreters, problems } = await listInterpreters(
      {
        given: [
          { path: setting, source: "setting" },
          { path: venv, source: "python extension" },
        ],
        folders: [path.join(folder, "project")],
      },
      env(),
      signal,
    );
    expect(problems).toEqual([]);
    expect(interpreters.map(({ path: file, found }) => [file, found])).toEqual([
      [setting, "from the settings"],
      [venv, "chosen in the Python extension"],
      [onPath, "found on the PATH"],
    ]);
    expect(interpreters[0]?.packages).toEqual([
      { name: "torch", version: "2.13.0" },
      { name: "fbgemm_gpu", install: `"${setting}" -m pip install fbgemm_gpu-cpu` },
      { name: "nvtripy", version: "0.1.7" },
    ]);
  });

  it("say what is wrong with a chosen one, and leave out a broken one that was merely found", async () => {
    await mkdir(path.join(folder, "bin"));
    await writeFile(path.join(folder, "bin/python3"), "#!/bin/sh\nexit 3\n");
    await chmod(path.join(folder, "bin/python3"), 0o755);
    const gone = path.join(folder, "gone");
    const { interpreters, problems } = await listInterpreters(
      { given: [{ path: gone, source: "setting" }], folders: [folder] },
      env(),
      signal,
    );
    expect(interpreters).toEqual([]);
    expect(problems.map(({ code }) => code)).toEqual(["python-not-found"]);
  });
});

describe("a script's output", () => {
  it("goes on in few messages, and ends with what is left", () => {
    vi.useFakeTimers();
    const sent: string[] = [];
    const output = forwardOutput((text) => sent.push(text));
    for (const line of ["a\n", "b\n", "c\n"]) output.add(line);
    expect(sent).toEqual([]);
    vi.advanceTimersByTime(200);
    expect(sent).toEqual(["a\nb\nc\n"]);
    output.add("d");
    output.end();
    expect(sent).toEqual(["a\nb\nc\n", "d"]);
    vi.advanceTimersByTime(1000);
    expect(sent).toHaveLength(2);
  });

  it("of megabytes is shown as its beginning and its end", () => {
    const sent: string[] = [];
    const output = forwardOutput((text) => sent.push(text));
    for (let i = 0; i < 40_000; i++) output.add(`line ${i} ${"x".repeat(40)}\n`);
    output.add("Traceback: the end");
    output.end();
    const text = sent.join("");
    expect(text.length).toBeLessThan(600_000);
    expect(text.startsWith("line 0 x")).toBe(true);
    expect(text.endsWith("Traceback: the end")).toBe(true);
    const [, left] = /\n\[(\d+) characters of output are not shown\]\n/.exec(text) ?? [];
    const all = text.length - `\n[${left} characters of output are not shown]\n`.length;
    expect(all + Number(left)).toBe(
      Array.from({ length: 40_000 }, (_, i) => `line ${i} `.length + 41).reduce((a, b) => a + b) +
        18,
    );
  });
});
