import { execFile, spawn } from "node:child_process";
import {
  chmod,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  realpath,
  rm,
  symlink,
  writeFile,
} from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { Readable } from "node:stream";
import { promisify } from "node:util";
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished, vi } from "vitest";
import { runCommandLine } from "../../engine/cli/commandLine.js";
import type { Report } from "../../engine/protocol/report.js";
import { bundleCli } from "../support/bundleCli.js";
import { root } from "../support/bundleRunner.js";
import { eventually } from "./runner/runnerHarness.js";

/** What users' scripts get up to. scripts.test.ts has the plain cases. */

const python = path.join(root, ".venv/bin/python");
const formerTemp = process.env["TMPDIR"];
let folder: string;
/** Scripts lie in it and start in it. */
let workspace: string;
/** The temporary folder of the command line and of all that it starts; each test fails that leaves something there. */
let temp: string;
let cli: string;

beforeAll(async () => {
  folder = await realpath(await mkdtemp(path.join(os.tmpdir(), "hstu-parity-trouble-")));
  workspace = path.join(folder, "work");
  temp = path.join(folder, "temp");
  await mkdir(workspace);
  await mkdir(temp);
  cli = await bundleCli(path.join(folder, "bundle"));
  await symlink(path.join(root, "engine/capture"), path.join(folder, "bundle/capture"));
  process.env["TMPDIR"] = temp;
});
afterEach(async () => {
  await eventually(async () => (await leftOver()).length === 0).catch(() => {});
  expect(await leftOver()).toEqual([]);
});
afterAll(async () => {
  if (formerTemp === undefined) delete process.env["TMPDIR"];
  else process.env["TMPDIR"] = formerTemp;
  await rm(folder, { recursive: true, force: true });
});

describe("a script that cannot begin", () => {
  it("is missing: no Python is started for it", async () => {
    const ended = await run(["gone.py"], { python: path.join(folder, "no/python") });
    expect(ended).toEqual({
      code: 2,
      stdout: "",
      stderr: "hstu-parity: there is no script gone.py\n  Check the path.\n",
    });
  });

  it("has a syntax error: Python's own words, and the line as a link", async () => {
    await script("wrong.py", "import json\ndef f(:\n    pass\n");
    const ended = await run(["wrong.py"]);
    expect(ended.code).toBe(2);
    expect(ended.stderr).toMatch(/^ {2}File ".*wrong\.py", line 2\n[^]*^SyntaxError: /m);
    expect(ended.stderr).toMatch(/^wrong\.py:2:1: wrong\.py raised SyntaxError: .*\n {2}Mend/m);
    expect(ended.stdout).toBe("");
  });

  it("imports torch where there is none: the command that installs it, at the import's line", async () => {
    const bare = path.join(folder, "bare environment");
    await promisify(execFile)(python, ["-m", "venv", "--without-pip", bare]);
    await script("needs.py", "import sys\n\nimport torch\n");
    const ended = await run(["needs.py"], { python: bare });
    expect(ended.code).toBe(2);
    expect(ended.stderr).toMatch(/^needs\.py:3:1: torch is not installed in .*bare environment/m);
    expect(ended.stderr).toMatch(/^ {2}Install it: ".*bare environment\/bin\/python" -m .*torch/m);
  });

  it("is given a Python that is too old: nothing of it runs", async () => {
    const old = path.join(folder, "old-python");
    const answer = { version: "3.8.19", executable: old, prefix: folder, searchPath: [] };
    const said = JSON.stringify({ ...answer, packages: {}, installer: "pip" });
    await writeFile(
      old,
      `#!/bin/sh\necho "$*" >> '${old}.starts'\nprintf '%s' 'hstu-parity-interpreter:${said}'\n`,
    );
    await chmod(old, 0o755);
    await script("never.py", "print('never')\n");
    const ended = await run(["never.py"], { python: old });
    expect(ended.code).toBe(2);
    expect(ended.stdout).toBe("");
    expect(ended.stderr).toMatch(/old-python \(given on the command line\) is Python 3\.8\.19/);
    expect(ended.stderr).toMatch(/^ {2}Choose an interpreter with Python 3\.9 to 3\.13/m);
    expect(await readFile(`${old}.starts`, "utf8")).not.toContain("hstu_capture");
  });
});

describe("a script that ends otherwise than by its last line", { timeout: 60_000 }, () => {
  it("raises in a model: its traceback, the line, and what it had called is compared", async () => {
    await script(
      "raises.py",
      models(`
        class Broken(Model):
            def forward(self, x):
                return self.linear(x) @ torch.zeros(3, 3)

        model(x)
        port(x)
        Broken()(torch.ones(4, 8))
      `),
    );
    const ended = await run(["raises.py"]);
    const { pairs, verdict, problems, run: itself } = reportOf(ended);
    expect(ended.stderr).toMatch(/^Traceback [^]*@ torch\.zeros\(3, 3\)[^]*^RuntimeError: mat1/m);
    expect(pairs.map((pair) => [pair.candidate, pair.verdict])).toEqual([["Port", "pass"]]);
    expect([ended.code, verdict]).toEqual([0, "warn"]);
    expect(itself.script?.exitCode).toBe(1);
    const raised = problems.find(({ code }) => code === "script-raised");
    expect(raised?.message).toMatch(/^the script raised RuntimeError: mat1 and mat2 shapes/);
    expect(raised?.site).toMatchObject({ file: "raises.py", function: "forward" });
  });

  it("leaves by sys.exit(3) after its comparison: judged all the same, its code is in the report", async () => {
    await script("exits.py", models("model(x)\nport(x)\nraise SystemExit(3)\n"));
    const ended = await run(["exits.py"]);
    const { verdict, run: itself } = reportOf(ended);
    expect([ended.code, verdict, itself.script?.exitCode]).toEqual([0, "pass", 3]);
    expect(ended.stderr).toBe("");
  });

  it("leaves by sys.exit(3) before it called anything: said, and not taken for a crash", async () => {
    await script("early.py", "import sys\nsys.exit(3)\n");
    const ended = await run(["early.py"]);
    const { verdict, problems, run: itself } = reportOf(ended);
    expect([ended.code, verdict, itself.script?.exitCode]).toEqual([3, "unknown", 3]);
    expect(problems.map(({ code }) => code)).toEqual(["nothing-captured"]);
  });

  it("runs out of memory: its traceback, and what it had called is compared", async () => {
    await script(
      "memory.py",
      models(`
        import resource
        model(x)
        port(x)
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), resource.RLIM_INFINITY))
        kept = []
        for _ in range(64):
            kept.append(bytearray(16 << 20))
      `),
    );
    const ended = await run(["memory.py"]);
    const { pairs, verdict, problems } = reportOf(ended);
    expect(ended.stderr).toMatch(/^Traceback [^]*^MemoryError/m);
    expect(pairs.map((pair) => pair.verdict)).toEqual(["pass"]);
    expect([ended.code, verdict]).toEqual([0, "warn"]);
    const raised = problems.find(({ code }) => code === "script-raised");
    expect(raised?.message).toContain("MemoryError");
    expect(raised?.site?.line).toBe(await lineOf("memory.py", "16 << 20"));
  });

  it("is killed, as by a system that runs out of memory: what it had called is compared", async () => {
    await script("killed.py", models("import os\nmodel(x)\nport(x)\nos.kill(os.getpid(), 9)\n"));
    const ended = await run(["killed.py"]);
    const { pairs, verdict, problems } = reportOf(ended);
    expect(pairs.map((pair) => pair.verdict)).toEqual(["pass"]);
    expect([ended.code, verdict]).toEqual([0, "warn"]);
    expect(problems.map(({ message }) => message).join()).toContain("was ended by SIGKILL");
  });

  it("waits for ever after its calls: they are compared, and nobody of its group is left", async () => {
    await script(
      "waits.py",
      models(`
        import signal, subprocess, time
        model(x)
        port(x)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        subprocess.Popen(["sleep", "600"])
        print("waiting", flush=True)
        time.sleep(600)
      `),
    );
    const ended = await run(["--timeout", "10", "waits.py"]);
    const { pairs, verdict, problems } = reportOf(ended);
    expect(ended.stderr).toBe("waiting\n");
    expect(pairs.map((pair) => pair.verdict)).toEqual(["pass"]);
    expect([ended.code, verdict]).toEqual([0, "warn"]);
    const timeout = problems.find(({ code }) => code === "script-timeout");
    expect(timeout?.message).toMatch(/^the script ran out of time; what it had called until then/);
    expect(timeout?.nextStep).toContain("--timeout");
  });

  it("is cancelled: 130, and nobody of its group is left, whatever signals they ignore", async () => {
    await script(
      "stubborn.py",
      `
import os, signal, subprocess, sys, time
for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(name, signal.SIG_IGN)
subprocess.Popen(["sleep", "600"])
if os.fork() == 0:
    time.sleep(600)
print("waiting", flush=True)
time.sleep(600)
`,
    );
    const child = spawn(
      process.execPath,
      [cli, "run", "--no-cache", "--python", python, "stubborn.py"],
      { cwd: workspace },
    );
    let stdout = "";
    let stderr = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
    const closed = new Promise<number | null>((resolve) => child.once("close", resolve));
    onTestFinished(() => void child.kill("SIGKILL"));
    await vi.waitFor(() => expect(stderr).toContain("waiting"), 30_000);
    expect((await leftOver()).filter((what) => what.includes("sleep 600"))).toHaveLength(1);
    child.kill("SIGINT");
    expect(await closed).toBe(130);
    expect(stdout).toBe("");
    expect(stderr).toBe("waiting\ncancelled\n");
  });
});

describe("a script that does not sit still", { timeout: 60_000 }, () => {
  it("forks and starts processes: what its own process called is compared, the others are counted", async () => {
    await script(
      "forks.py",
      models(`
        import multiprocessing, os, subprocess, sys
        child = os.fork()
        if child == 0:
            model(x * 2)
            os._exit(0)
        os.waitpid(child, 0)
        with multiprocessing.get_context("fork").Pool(1) as pool:
            pool.map(abs, range(4))
        subprocess.run([sys.executable, "-c", "print('from a process')"], check=True)
        model(x)
        port(x)
      `),
    );
    const ended = await run(["forks.py"]);
    const { pairs, verdict, problems } = reportOf(ended);
    expect([ended.code, verdict]).toEqual([0, "pass"]);
    expect(pairs.map(({ reference, candidate }) => [reference, candidate])).toEqual([
      ["Model", "Port"],
    ]);
    const said = problems.find(({ code }) => code === "child-processes");
    expect(said?.message).toMatch(/started 3 processes; what they computed was not seen/);
    expect(ended.stderr).toBe("from a process\n");
  });

  it("calls its models in threads, one of which never ends", async () => {
    await script(
      "threads.py",
      models(
        `
        import threading, time
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
        threads = [threading.Thread(target=module, args=(x,)) for module in (model, port)]
        for thread in threads:
            thread.start()
            thread.join()
      `,
        "x * 0.25",
      ),
    );
    const ended = await run(["threads.py"]);
    const { pairs } = reportOf(ended);
    expect(ended.code).toBe(1);
    expect(pairs.map(({ reference, candidate }) => [reference, candidate])).toEqual([
      ["Model", "Port"],
    ]);
    expect(pairs[0]?.origins.map(({ site }) => site.line)).toEqual([
      await lineOf("threads.py", "x * 0.25"),
    ]);
  });

  it("changes into a folder that is gone in the end, and hides the file it came from", async () => {
    await script(
      "moves.py",
      models(
        `
        import os, sys, tempfile
        with tempfile.TemporaryDirectory() as elsewhere:
            os.chdir(elsewhere)
            sys.argv[:] = ["nothing"]
            __file__ = "nothing"
            model(x)
        port(x)
      `,
        "x * 0.25",
      ),
    );
    const ended = await run(["moves.py"]);
    const [pair] = reportOf(ended).pairs;
    expect(ended.code).toBe(1);
    expect(pair?.origins.map(({ site }) => `${site.file}:${site.line}`)).toEqual([
      `moves.py:${await lineOf("moves.py", "x * 0.25")}`,
    ]);
  });

  it("leaves a process behind that holds its output open: the run ends", async () => {
    await script(
      "leaves.py",
      "import subprocess\nprint(subprocess.Popen(['sleep', '600']).pid, flush=True)\n",
    );
    const ended = await run(["leaves.py"]);
    // It is the script's own business, as it is without us.
    process.kill(Number(ended.stderr), "SIGKILL");
    expect(ended.code).toBe(3);
    expect(reportOf(ended).problems.map(({ code }) => code)).toContain("child-processes");
  });
});

describe("a script's streams", () => {
  it("carry megabytes at once, and stdout stays the report's", async () => {
    await script(
      "prints.py",
      `
import sys
line = "0123456789abcde\\n"
for _ in range(4):
    sys.stdout.write(line * 65536)
    sys.stderr.write(line * 65536)
    sys.stdout.flush()
`,
    );
    const ended = await run(["prints.py"]);
    expect(ended.code).toBe(3);
    expect(ended.stderr.length).toBe(2 * 4 * 2 ** 20);
    expect(reportOf(ended).problems.map(({ code }) => code)).toEqual(["nothing-captured"]);
  });

  it("give it what is typed, and an end where nothing is", async () => {
    await script(
      "reads.py",
      "import sys\nprint(input())\nprint(len(sys.stdin.read()))\nprint(input())\n",
    );
    const typed = Readable.from([Buffer.from("first\n"), Buffer.from("é".repeat(300_000))]);
    const ended = await run(["reads.py"], { stdin: typed });
    expect(ended.code).toBe(2);
    expect(ended.stderr).toMatch(/^first\n300000\nTraceback /);
    expect(ended.stderr).toMatch(/^reads\.py:4:1: reads\.py raised EOFError: EOF when reading/m);
    const without = await run(["reads.py"]);
    expect(without.stderr).toMatch(/^reads\.py:2:1: reads\.py raised EOFError/m);
  });

  it("are not read by a script that does not: what is typed does not hold the run up", async () => {
    await script("deaf.py", "print('done')\n");
    const endless = new Readable({ read() {} });
    endless.push("typed\n");
    expect((await run(["deaf.py"], { stdin: endless })).code).toBe(3);
    expect(endless.destroyed).toBe(true);
  });
});

describe("a script's place", { timeout: 60_000 }, () => {
  it("may have spaces and Unicode in it, as may its arguments and its modules' names", async () => {
    const at = "mein Ordner/日本 'q'/порт.py";
    await script("mein Ordner/日本 'q'/größe.py", "FAKTOR = 0.25\n");
    await script(
      at,
      models(
        "import sys\nprint(sys.argv[1:])\nmodel(x)\nport(x)\n",
        "x * größe.FAKTOR",
        "import größe\n",
      ),
    );
    const ended = await run([at, "ä ö", "", "--name=日 本"], { format: "text" });
    expect(ended.code).toBe(1);
    expect(ended.stderr).toBe("['ä ö', '', '--name=日 本']\n");
    const line = await lineOf(at, "x * größe.FAKTOR");
    expect(ended.stdout).toContain(`1. ${at}:${line}`);
    expect(ended.stdout).toContain("scaled = x * größe.FAKTOR");
  });

  it("may be outside the workspace, where it starts all the same", async () => {
    const elsewhere = path.join(folder, "else where");
    await mkdir(elsewhere);
    await writeFile(path.join(elsewhere, "beside.py"), "def stop(x):\n    raise ValueError(x)\n");
    await writeFile(
      path.join(elsewhere, "outside.py"),
      models("import os, beside\nprint(os.getcwd())\nmodel(x)\nport(x)\nbeside.stop('far')\n"),
    );
    const ended = await run([path.join(elsewhere, "outside.py")]);
    const { pairs, problems, run: itself } = reportOf(ended);
    expect(ended.stderr.split("\n")[0]).toBe(workspace);
    expect(pairs.map((pair) => pair.verdict)).toEqual(["pass"]);
    expect(itself).toMatchObject({ base: elsewhere, script: { file: "outside.py" } });
    const raised = problems.find(({ code }) => code === "script-raised");
    expect(raised?.site).toMatchObject({ file: "beside.py", line: 2, function: "stop" });
  });
});

describe("a script that seeds nothing", { timeout: 60_000 }, () => {
  it("is not cached, and that is said; how far its calls differ is measured", async () => {
    await script(
      "unseeded.py",
      models(`
        import numpy

        class Noisy(Model):
            def forward(self, x):
                return super().forward(x) * float(numpy.random.uniform(1, 1.5))

        noisy = Noisy()
        for _ in range(3):
            noisy(x * 2)
        model(x)
        port(x)
      `),
    );
    const first = reportOf(await run(["unseeded.py"], { useCache: true }));
    const { message = "" } = first.problems.find(({ code }) => code === "results-differ") ?? {};
    expect(message).toMatch(/^Noisy gave different results for equal inputs in 3 calls: relL2 up/);
    const measured = Number(message.split(" ").at(-1));
    expect(measured).toBeGreaterThan(0);
    expect(measured).toBeLessThan(0.5);
    const kept = first.problems.find(({ code }) => code === "run-not-cached");
    expect(kept?.message).toMatch(/draws random numbers without a seed \(numpy\)/);
    expect(first.run.cache).toBe("miss");
    expect(reportOf(await run(["unseeded.py"], { useCache: true })).run.cache).toBe("miss");
  });
});

interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

interface RunWith {
  readonly python?: string;
  readonly stdin?: Readable;
  readonly format?: "json" | "text";
  readonly useCache?: boolean;
}

async function run(args: readonly string[], options: RunWith = {}): Promise<Ended> {
  let stdout = "";
  let stderr = "";
  const own = ["--format", options.format ?? "json", "--python", options.python ?? python];
  if (options.useCache !== true) own.push("--no-cache");
  const code = await runCommandLine(["run", ...own, ...args], {
    cwd: workspace,
    env: { ...process.env, HSTU_PARITY_CACHE: path.join(folder, "cache") },
    stdout: { write: (text) => (stdout += text), columns: 120 },
    stderr: { write: (text) => (stderr += text) },
    ...(options.stdin && { stdin: options.stdin }),
    runnerEntry: path.join(folder, "bundle/runner.mjs"),
    agentFolder: path.join(root, "engine/capture"),
  });
  return { code, stdout, stderr };
}

function reportOf({ stdout, stderr }: Ended): Report {
  expect(stdout, stderr).toMatch(/^\{/);
  return JSON.parse(stdout) as Report;
}

async function script(name: string, text: string): Promise<void> {
  const file = path.join(workspace, name);
  await mkdir(path.dirname(file), { recursive: true });
  await writeFile(file, text);
}

async function lineOf(name: string, text: string): Promise<number> {
  const lines = (await readFile(path.join(workspace, name), "utf8")).split("\n");
  return lines.findIndex((line) => line.includes(text)) + 1;
}

/** A script with a model, a port with the same parameters whose scale is as given, an input x, and more lines. */
function models(more: string, scale = "x * 0.5", before = ""): string {
  const [, indent = ""] = /^\n?( *)/.exec(more) ?? [];
  return `${before}import torch

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(8, 8)

    def forward(self, x):
        hidden = torch.relu(self.linear(x))
        x = torch.tanh(hidden)
        scaled = x * 0.5
        return scaled + hidden

class Port(Model):
    def forward(self, x):
        hidden = torch.relu(self.linear(x))
        x = torch.tanh(hidden)
        scaled = ${scale}
        return scaled + hidden

torch.manual_seed(0)
torch.set_grad_enabled(False)
model, port = Model(), Port()
port.load_state_dict(model.state_dict())
x = torch.randn(4, 8)
${more.replaceAll(`\n${indent}`, "\n").trim()}
`;
}

/** Files in the temporary folder, and processes that were started with it: what the command line ran, and theirs. */
async function leftOver(): Promise<string[]> {
  const files = await readdir(temp);
  // Only Linux shows the environment of a process; elsewhere the files must do.
  const ids = (await readdir("/proc").catch(() => [])).filter((name) => /^\d+$/.test(name));
  const processes = await Promise.all(
    ids.map(async (id) => {
      const environment = await readFile(`/proc/${id}/environ`, "utf8").catch(() => "");
      if (Number(id) === process.pid || !environment.includes(`TMPDIR=${temp}\0`)) return [];
      const command = await readFile(`/proc/${id}/cmdline`, "utf8").catch(() => "");
      // One that has ended and that nobody has asked for yet has no command any more.
      return command === "" ? [] : [command.replaceAll("\0", " ").trim()];
    }),
  );
  return [...files, ...processes.flat()];
}
