import { execFile } from "node:child_process";
import { chmod, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { Readable } from "node:stream";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it, vi } from "vitest";
import { models, python, reportOf, scriptHarness } from "./scriptHarness.js";

/** What users' scripts get up to. scripts.test.ts has the plain cases. */

const the = scriptHarness();

/** It and what it starts ignore all that can be ignored. */
const stubborn = `
import os, signal, subprocess, time
for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(name, signal.SIG_IGN)
subprocess.Popen(["sleep", "600"])
if os.fork() == 0:
    time.sleep(600)
print("waiting", flush=True)
time.sleep(600)
`;

describe("a script that cannot begin", () => {
  it("is missing: no Python is started for it", async () => {
    const ended = await the.run(["gone.py"], { python: path.join(the.folder, "no/python") });
    expect(ended).toEqual({
      code: 2,
      stdout: "",
      stderr: "hstu-parity: there is no script gone.py\n  Check the path.\n",
    });
  });

  it("is a folder without anything to run", async () => {
    await the.script("folder.py/notes.txt", "");
    const ended = await the.run(["folder.py"]);
    expect(ended.code).toBe(2);
    expect(ended.stderr).toMatch(
      /^hstu-parity: the folder .*folder\.py has no __main__\.py to run$/m,
    );
    expect(ended.stderr).toMatch(/^ {2}Name a Python script, or -m and a module\.$/m);
  });

  it("has a syntax error: Python's own words, and the line as a link", async () => {
    await the.script("wrong.py", "import json\ndef f(:\n    pass\n");
    const ended = await the.run(["wrong.py"]);
    expect(ended.code).toBe(2);
    expect(ended.stderr).toMatch(/^ {2}File ".*wrong\.py", line 2\n[^]*^SyntaxError: /m);
    expect(ended.stderr).toMatch(/^wrong\.py:2:1: wrong\.py raised SyntaxError: .*\n {2}Mend/m);
    expect(ended.stdout).toBe("");
  });

  it("imports torch where there is none: the command that installs it, at the import's line", async () => {
    const bare = path.join(the.folder, "bare environment");
    await promisify(execFile)(python, ["-m", "venv", "--without-pip", bare]);
    await the.script("needs.py", "import sys\n\nimport torch\n");
    const ended = await the.run(["needs.py"], { python: bare });
    expect(ended.code).toBe(2);
    expect(ended.stderr).toMatch(/^needs\.py:3:1: torch is not installed in .*bare environment/m);
    expect(ended.stderr).toMatch(/^ {2}Install it: ".*bare environment\/bin\/python" -m .*torch/m);
  });

  it("has a torch that cannot be watched: it runs as always, and what was not seen is said", async () => {
    await the.script("old/torch/__init__.py", "__version__ = '1.4.0'\n");
    await the.script("old/uses.py", "import torch\nprint(torch.__version__)\n");
    const ended = await the.run(["old/uses.py"]);
    expect([ended.code, ended.stderr]).toEqual([3, "1.4.0\n"]);
    const { verdict, problems } = reportOf(ended);
    expect(verdict).toBe("unknown");
    const said = problems.find(({ code }) => code === "capture-incomplete");
    expect(said?.message).toMatch(/^torch 1\.4\.0 could not be observed: /);
  });

  it("is given a Python that is too old: nothing of it runs", async () => {
    const old = path.join(the.folder, "old-python");
    const answer = { version: "3.8.19", executable: old, prefix: the.folder, searchPath: [] };
    const said = JSON.stringify({ ...answer, packages: {}, installer: "pip" });
    await writeFile(
      old,
      `#!/bin/sh\necho "$*" >> '${old}.starts'\nprintf '%s' 'hstu-parity-interpreter:${said}'\n`,
    );
    await chmod(old, 0o755);
    await the.script("never.py", "print('never')\n");
    const ended = await the.run(["never.py"], { python: old });
    expect(ended.code).toBe(2);
    expect(ended.stdout).toBe("");
    expect(ended.stderr).toMatch(/old-python \(given on the command line\) is Python 3\.8\.19/);
    expect(ended.stderr).toMatch(/^ {2}Choose an interpreter with Python 3\.9 to 3\.13/m);
    expect(await readFile(`${old}.starts`, "utf8")).not.toContain("hstu_capture");
  });
});

describe("a script that ends otherwise than by its last line", { timeout: 60_000 }, () => {
  it("raises in a model: its traceback, the line, and what it had called is compared", async () => {
    await the.script(
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
    const ended = await the.run(["raises.py"]);
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
    await the.script("exits.py", models("model(x)\nport(x)\nraise SystemExit(3)\n"));
    const ended = await the.run(["exits.py"]);
    const { verdict, problems, run: itself } = reportOf(ended);
    expect([ended.code, verdict, itself.script?.exitCode]).toEqual([0, "pass", 3]);
    expect(ended.stderr).toBe("");
    const said = problems.find(({ code }) => code === "script-exit-code");
    expect(said?.message).toBe("the script ended with exit code 3");
  });

  it("leaves by sys.exit(3) before it called anything: said, and not taken for a crash", async () => {
    await the.script("early.py", "import sys\nsys.exit(3)\n");
    const ended = await the.run(["early.py"]);
    const { verdict, problems, run: itself } = reportOf(ended);
    expect([ended.code, verdict, itself.script?.exitCode]).toEqual([3, "unknown", 3]);
    expect(problems.map(({ code }) => code)).toEqual(["script-exit-code", "nothing-captured"]);
  });

  it("runs out of memory: its traceback, and what it had called is compared", async () => {
    await the.script(
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
    const ended = await the.run(["memory.py"]);
    const { pairs, verdict, problems } = reportOf(ended);
    expect(ended.stderr).toMatch(/^Traceback [^]*^MemoryError/m);
    expect(pairs.map((pair) => pair.verdict)).toEqual(["pass"]);
    expect([ended.code, verdict]).toEqual([0, "warn"]);
    const raised = problems.find(({ code }) => code === "script-raised");
    expect(raised?.message).toContain("MemoryError");
    expect(raised?.site?.line).toBe(await the.lineOf("memory.py", "16 << 20"));
  });

  it("is killed, as by a system that runs out of memory: what it had called is compared", async () => {
    await the.script(
      "killed.py",
      models("import os\nmodel(x)\nport(x)\nos.kill(os.getpid(), 9)\n"),
    );
    const ended = await the.run(["killed.py"]);
    const { pairs, verdict, problems } = reportOf(ended);
    expect(pairs.map((pair) => pair.verdict)).toEqual(["pass"]);
    expect([ended.code, verdict]).toEqual([0, "warn"]);
    expect(problems.map(({ message }) => message).join()).toContain("was ended by SIGKILL");
  });

  it("is killed before it called anything: nothing was compared, and that is said", async () => {
    await the.script("aborts.py", "import os\nos.abort()\n");
    const ended = await the.run(["aborts.py"]);
    expect([ended.code, ended.stdout]).toEqual([2, ""]);
    expect(ended.stderr).toMatch(/^hstu-parity: aborts\.py was ended by SIGABRT, and no model/m);
  });

  it("waits for ever after its calls: they are compared, and nobody of its group is left", async () => {
    await the.script(
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
    const ended = await the.run(["--timeout", "10", "waits.py"]);
    const { pairs, verdict, problems } = reportOf(ended);
    expect(ended.stderr).toBe("waiting\n");
    expect(pairs.map((pair) => pair.verdict)).toEqual(["pass"]);
    expect([ended.code, verdict]).toEqual([0, "warn"]);
    const timeout = problems.find(({ code }) => code === "script-timeout");
    expect(timeout?.message).toMatch(/^the script ran out of time; what it had called until then/);
    expect(timeout?.nextStep).toContain("--timeout");
  });

  it("is cancelled: 130, and nobody of its group is left, whatever signals they ignore", async () => {
    await the.script("stubborn.py", stubborn);
    const running = the.start(["stubborn.py"]);
    await running.says("waiting\n");
    expect((await the.leftOver()).filter((what) => what.includes("sleep 600"))).toHaveLength(1);
    running.child.kill("SIGINT");
    expect(await running.code).toBe(130);
    expect(running.stdout()).toBe("");
    expect(running.stderr()).toBe("waiting\ncancelled\n");
  });

  it("is cancelled when its terminal is closed", async () => {
    await the.script("stubborn.py", stubborn);
    const terminal = [python, "-c", "import pty, sys; pty.spawn(sys.argv[1:])"];
    const running = the.start(["stubborn.py"], terminal);
    await running.says("waiting");
    running.child.kill("SIGKILL");
    await running.code;
    await vi.waitFor(async () => expect(await the.leftOver()).toEqual([]), 10_000);
  });

  it("is ended with a command line that is killed, although it cannot say so", async () => {
    await the.script("stubborn.py", stubborn.replace(/^subprocess.*\nif .*\n.*\n/m, ""));
    const running = the.start(["stubborn.py"]);
    await running.says("waiting\n");
    running.child.kill("SIGKILL");
    await running.code;
    // Its folders are left: nobody was there to remove them.
    const temp = path.join(the.folder, "temp");
    await vi.waitFor(async () => expect(await the.leftOver()).toEqual(await readdir(temp)), 10_000);
    for (const name of await readdir(temp)) await rm(path.join(temp, name), { recursive: true });
  });

  it("is ended when the command line itself fails", async () => {
    await the.script("stubborn.py", stubborn);
    const failing = path.join(the.folder, "failing.mjs");
    await writeFile(failing, `setTimeout(() => { throw new Error("a fault"); }, 2000);\n`);
    const running = the.start(["stubborn.py"], [], ["--import", pathToFileURL(failing).href]);
    await running.says("waiting\n");
    expect(await running.code).toBe(1);
    expect(running.stderr()).toContain("a fault");
    // The folder of the capture is left: nobody was there to remove it.
    const temp = path.join(the.folder, "temp");
    for (const name of await readdir(temp)) await rm(path.join(temp, name), { recursive: true });
    await vi.waitFor(async () => expect(await the.leftOver()).toEqual([]), 10_000);
  });
});

describe("a script that does not sit still", { timeout: 60_000 }, () => {
  it("forks and starts processes: what its own process called is compared, the others are counted", async () => {
    await the.script(
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
    const ended = await the.run(["forks.py"]);
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
    await the.script(
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
    const ended = await the.run(["threads.py"]);
    const { pairs } = reportOf(ended);
    expect(ended.code).toBe(1);
    expect(pairs.map(({ reference, candidate }) => [reference, candidate])).toEqual([
      ["Model", "Port"],
    ]);
    expect(pairs[0]?.origins.map(({ site }) => site.line)).toEqual([
      await the.lineOf("threads.py", "x * 0.25"),
    ]);
  });

  it("changes into a folder that is gone in the end, and hides the file it came from", async () => {
    await the.script(
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
    const ended = await the.run(["moves.py"]);
    const [pair] = reportOf(ended).pairs;
    expect(ended.code).toBe(1);
    expect(pair?.origins.map(({ site }) => `${site.file}:${site.line}`)).toEqual([
      `moves.py:${await the.lineOf("moves.py", "x * 0.25")}`,
    ]);
  });

  it("leaves a process behind that holds its output open: the run ends", async () => {
    await the.script(
      "leaves.py",
      "import subprocess\nprint(subprocess.Popen(['sleep', '600']).pid, flush=True)\n",
    );
    const ended = await the.run(["leaves.py"]);
    // It is the script's own business, as it is without us.
    process.kill(Number(ended.stderr), "SIGKILL");
    expect(ended.code).toBe(3);
    expect(reportOf(ended).problems.map(({ code }) => code)).toContain("child-processes");
  });
});

describe("a script's streams", () => {
  it("carry megabytes at once, and stdout stays the report's", async () => {
    await the.script(
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
    const ended = await the.run(["prints.py"]);
    expect(ended.code).toBe(3);
    expect(ended.stderr.length).toBe(2 * 4 * 2 ** 20);
    expect(reportOf(ended).problems.map(({ code }) => code)).toEqual(["nothing-captured"]);
  });

  it("give it what is typed, and an end where nothing is", async () => {
    await the.script(
      "reads.py",
      "import sys\nprint(input())\nprint(len(sys.stdin.read()))\nprint(input())\n",
    );
    const typed = Readable.from([Buffer.from("first\n"), Buffer.from("é".repeat(300_000))]);
    const ended = await the.run(["reads.py"], { stdin: typed });
    expect(ended.code).toBe(2);
    expect(ended.stderr).toMatch(/^first\n300000\nTraceback /);
    expect(ended.stderr).toMatch(/^reads\.py:4:1: reads\.py raised EOFError: EOF when reading/m);
    const without = await the.run(["reads.py"]);
    expect(without.stderr).toMatch(/^reads\.py:2:1: reads\.py raised EOFError/m);
  });

  it("end for it where what is typed cannot be read on", async () => {
    await the.script("hears.py", "import sys\nprint(len(sys.stdin.read()))\n");
    let isFirst = true;
    const broken = new Readable({
      read() {
        if (isFirst) this.push("typed");
        else this.destroy(new Error("the terminal is gone"));
        isFirst = false;
      },
    });
    const ended = await the.run(["hears.py"], { stdin: broken });
    expect([ended.code, ended.stderr]).toEqual([3, "5\n"]);
  });

  it("do not carry what the agent says; what the script writes into its pipe is passed over", async () => {
    await the.script(
      "meddles.py",
      models(`
        import os
        for text in (b"no request\\n", b"null\\n", b"{}\\n", b"[1]\\n", b"half a line"):
            os.write(4, text)
        model(x)
        port(x)
      `),
    );
    const ended = await the.run(["meddles.py"]);
    expect(reportOf(ended).pairs.map(({ verdict }) => verdict)).toEqual(["pass"]);
    expect(ended.code).toBe(0);
  });

  it("are not read by a script that does not: what is typed does not hold the run up", async () => {
    await the.script("deaf.py", "print('done')\n");
    const endless = new Readable({ read() {} });
    endless.push("typed\n");
    expect((await the.run(["deaf.py"], { stdin: endless })).code).toBe(3);
    expect(endless.destroyed).toBe(true);
  });
});

describe("a script's place", { timeout: 60_000 }, () => {
  it("may have spaces and Unicode in it, as may its arguments and its modules' names", async () => {
    const at = "mein Ordner/日本 'q'/порт.py";
    await the.script("mein Ordner/日本 'q'/größe.py", "FAKTOR = 0.25\n");
    await the.script(
      at,
      models(
        "import sys\nprint(sys.argv[1:])\nmodel(x)\nport(x)\n",
        "x * größe.FAKTOR",
        "import größe\n",
      ),
    );
    const ended = await the.run([at, "ä ö", "", "--name=日 本"], { format: "text" });
    expect(ended.code).toBe(1);
    expect(ended.stderr).toBe("['ä ö', '', '--name=日 本']\n");
    const line = await the.lineOf(at, "x * größe.FAKTOR");
    expect(ended.stdout).toContain(`1. ${at}:${line}`);
    expect(ended.stdout).toContain("scaled = x * größe.FAKTOR");
  });

  it("may be outside the workspace, where it starts all the same", async () => {
    const elsewhere = path.join(the.folder, "else where");
    await mkdir(elsewhere);
    await writeFile(path.join(elsewhere, "beside.py"), "def stop(x):\n    raise ValueError(x)\n");
    await writeFile(
      path.join(elsewhere, "outside.py"),
      models("import os, beside\nprint(os.getcwd())\nmodel(x)\nport(x)\nbeside.stop('far')\n"),
    );
    const ended = await the.run([path.join(elsewhere, "outside.py")]);
    const { pairs, problems, run: itself } = reportOf(ended);
    expect(ended.stderr.split("\n")[0]).toBe(the.workspace);
    expect(pairs.map((pair) => pair.verdict)).toEqual(["pass"]);
    expect(itself).toMatchObject({ base: elsewhere, script: { file: "outside.py" } });
    const raised = problems.find(({ code }) => code === "script-raised");
    expect(raised?.site).toMatchObject({ file: "beside.py", line: 2, function: "stop" });
  });
});

describe("a script that seeds nothing", { timeout: 60_000 }, () => {
  it("is not cached, and that is said", async () => {
    await the.script("dice.py", "import random\nprint(random.random())\n");
    const printed = new Set<string>();
    for (const _ of ["first", "second"]) {
      const ended = await the.run(["dice.py"], { useCache: true });
      const { problems, run: itself } = reportOf(ended);
      expect(itself.cache).toBe("miss");
      const kept = problems.find(({ code }) => code === "run-not-cached");
      expect(kept?.message).toMatch(/draws random numbers without a seed \(random\)/);
      printed.add(ended.stderr);
    }
    expect(printed.size).toBe(2);
  });

  it("differs from itself by what was measured, and nobody is blamed for that", async () => {
    await the.script(
      "unseeded.py",
      models(`
        import numpy

        class Noisy(Model):
            def forward(self, x):
                return super().forward(x) * float(numpy.random.uniform(1, 1.5))

        noisy = Noisy()
        for _ in range(3):
            noisy(x * 2)
        copy = Noisy()
        copy.load_state_dict(noisy.state_dict())
        copy(x * 2)
      `),
    );
    const ended = await the.run(["unseeded.py"]);
    const { pairs, verdict, problems } = reportOf(ended);
    expect([ended.code, verdict]).toEqual([3, "unknown"]);
    expect(pairs.map(({ origins }) => origins)).toEqual([[]]);
    const { message = "" } = problems.find(({ code }) => code === "results-differ") ?? {};
    expect(message).toMatch(/^Noisy gave different results for equal inputs in 3 calls: relL2 up/);
    const measured = Number(message.split(" ").at(-1));
    expect(measured).toBeGreaterThan(0);
    expect(measured).toBeLessThan(0.5);
  });
});
