import assert from "node:assert/strict";
import { readFile, rm } from "node:fs/promises";
import path from "node:path";
import * as vscode from "vscode";
import type { Report } from "../../engine/protocol/report.js";
import type { RunFile } from "../../engine/protocol/runFile.js";
import {
  barePython,
  configure,
  fullPython,
  isAlive,
  makeFolder,
  problemOf,
  pythonExtension,
  ran,
  runScript,
  scriptOutput,
  writeScript,
} from "./scripts.js";
import { eventually, fileIn, folder, hoverTexts, ownDiagnostics, placeOf } from "./workbench.js";

const example = "tripy_hstu_example.py";

suite("Run This Script", () => {
  let elsewhere: string;

  suiteSetup(async () => {
    elsewhere = await makeFolder();
  });
  setup(() => configure({ python: fullPython }));
  teardown(async () => {
    (await pythonExtension()).choose(undefined);
    await configure({
      python: undefined,
      timeout: undefined,
      byteBudget: undefined,
      cache: undefined,
    });
    await vscode.commands.executeCommand("workbench.action.closeAllEditors");
  });
  suiteTeardown(() => rm(elsewhere, { recursive: true, force: true }));

  suite("on the sample", () => {
    let report: Report;

    test("the right port passes, and nothing had to be configured but the Python", async () => {
      const right = reportIn(await runScript(fileIn(example)));
      assert.equal(right.verdict, "pass", right.summary);
      assert.deepEqual(right.run.script, { file: example, args: [], exitCode: 0 });
      assert.equal(right.run.base, folder());
      const printed = await scriptOutput("exit code 0");
      assert.match(printed, /PASSED/);
      assert.ok(printed.includes(`${fullPython} ${fileIn(example).fsPath}`), printed);
      assert.match(printed, /# Python 3\.\d+\.\d+, from the settings/);
    });

    test("the silent bug is an error on the line that declares the parameter", async () => {
      await vscode.window.showTextDocument(fileIn(example));
      report = reportIn(await runScript(undefined, ["--port", "silent_bug"]));
      assert.equal(report.verdict, "fail", report.summary);
      const uri = fileIn("tripy_hstu_dense.py");
      const diagnostic = await eventually("the error on line 76", () =>
        ownDiagnostics(uri).find((item) => item.range.start.line === 75),
      );
      assert.equal(diagnostic.severity, vscode.DiagnosticSeverity.Error);
      assert.equal(diagnostic.code, "parameter");
      assert.match(diagnostic.message, /never came from the reference/);
      assert.match(diagnostic.message, /2 instances/);
      const related = (diagnostic.relatedInformation ?? []).map(
        ({ location }) => `${location.uri.fsPath}:${location.range.start.line + 1}`,
      );
      assert.ok(related.includes(`${fileIn("hstu.py").fsPath}:65`), related.join());
    });

    test("what was compared is saved as a run file, which compares the same again", async () => {
      const target = vscode.Uri.file(path.join(elsewhere, "saved.parity.json"));
      const saved = await vscode.commands.executeCommand("hstuParity.saveRunFile", target);
      assert.ok(saved, "nothing was saved");
      assert.equal(vscode.window.activeTextEditor?.document.uri.fsPath, target.fsPath);
      const text = JSON.parse(await readFile(target.fsPath, "utf8")) as RunFile;
      assert.deepEqual(Object.keys(text.implementations), ["Hstu", "TripyHstuDense"]);
      const again = reportIn(await ran("hstuParity.run", target));
      assert.equal(again.verdict, "fail", again.summary);
      assert.deepEqual(
        again.pairs.flatMap(({ origins }) => origins.map(({ site }) => site.line)),
        report.pairs.flatMap(({ origins }) => origins.map(({ site }) => site.line)),
      );
      const over = await vscode.commands.executeCommand("hstuParity.saveRunFile", target);
      assert.equal(over, undefined, "the file was written over");
      await rm(target.fsPath);
      // What follows looks at the script's own report.
      report = reportIn(await runScript(fileIn(example), ["--port", "silent_bug"]));
    });

    test("the hover of that line tells the difference and leads into the layer diff", async () => {
      const uri = fileIn("tripy_hstu_dense.py");
      await vscode.workspace.openTextDocument(uri);
      const text = await eventually("the hover", async () =>
        (await hoverTexts(uri, 76)).find((value) => value.includes("introduced")),
      );
      assert.match(text, /This declaration makes the difference/);
      assert.match(text, /command:hstuParity\.openPanelAt\?/);
      const [origin] = report.pairs.flatMap((pair) => pair.origins);
      assert.ok(origin?.referenceSite);
      assert.equal(placeOf(report, origin.referenceSite).fsPath, fileIn("hstu.py").fsPath);
    });

    test("run again runs the same script with the same arguments, from the cache", async () => {
      const again = reportIn(await ran("hstuParity.runAgain"));
      assert.deepEqual(again.run.script, report.run.script);
      assert.deepEqual(again.run.script?.args, ["--port", "silent_bug"]);
      assert.equal(again.run.cache, "hit");
      assert.equal(again.summary, report.summary);
      assert.match(await scriptOutput("Nothing has changed"), /\$ /);
    });

    test("run again asks for what it was given last, which the input box shows", async () => {
      const asking = ran("hstuParity.runScriptWithArguments", fileIn(example));
      await accept(asking);
      assert.deepEqual(reportIn(await asking).run.script?.args, ["--port", "silent_bug"]);
    });

    test("without the cache it runs, by command and by setting", async () => {
      const args = { args: ["--port", "silent_bug"] };
      const once = reportIn(await ran("hstuParity.runScriptWithoutCache", fileIn(example), args));
      assert.equal(once.run.cache, "off");
      await configure({ cache: false });
      const set = reportIn(await ran("hstuParity.runAgain"));
      assert.equal(set.run.cache, "off");
      assert.equal(set.verdict, "fail");
    });
  });

  suite("and the interpreter", () => {
    test("the one of the Python extension is taken for the script's own folder", async () => {
      await configure({ python: undefined });
      const python = await pythonExtension();
      python.choose(fullPython);
      const script = await writeScript(folder(), "which_python.py", ["print('here I am')"]);
      reportIn(await runScript(script));
      assert.match(await scriptOutput("here I am"), /chosen in the Python extension/);
      assert.deepEqual([...new Set(python.resources)], [script.toString()]);
    });

    test("the setting wins over the Python extension", async () => {
      (await pythonExtension()).choose(path.join(elsewhere, "no-such-python"));
      const script = await writeScript(folder(), "which_python.py", ["print('setting')"]);
      reportIn(await runScript(script));
      assert.match(await scriptOutput("setting\n"), /from the settings/);
    });

    test("one of the Python extension that is gone is said, with a way out", async () => {
      await configure({ python: undefined });
      const gone = path.join(elsewhere, "no-such-python");
      (await pythonExtension()).choose(gone);
      const problem = problemOf(await runScript(fileIn(example)));
      assert.equal(problem.code, "python-not-found");
      assert.ok(
        problem.message.includes(`${gone} (chosen in the Python extension)`),
        problem.message,
      );
      assert.match(problem.nextStep, /HSTU Parity: Select Python/);
    });

    test("without either, the .venv of the project is found; a package that it lacks is named with its install command", async () => {
      await configure({ python: undefined });
      const project = await makeFolder();
      const python = await barePython(project);
      const script = await writeScript(project, "port.py", ["import os", "import torch"]);
      const problem = problemOf(await runScript(script));
      assert.equal(problem.code, "package-missing-torch");
      assert.match(problem.nextStep, /-m pip install torch/);
      assert.ok(problem.nextStep.includes(python), problem.nextStep);
      const diagnostic = await eventually(
        "the problem on the import",
        () => ownDiagnostics(script)[0],
      );
      assert.equal(diagnostic.range.start.line, 1);
      assert.match(diagnostic.message, /pip install torch/);
      assert.match(await scriptOutput("ModuleNotFoundError"), /found in the project/);
      await rm(project, { recursive: true });
    });

    test("Select Python lists what there is and writes the one that is accepted into the workspace's settings", async () => {
      await configure({ python: undefined });
      (await pythonExtension()).choose(fullPython);
      const choosing = vscode.commands.executeCommand<
        { path: string; packages: object[] } | undefined
      >("hstuParity.selectPython");
      await accept(choosing);
      const chosen = await choosing;
      assert.equal(chosen?.path, fullPython);
      assert.deepEqual(
        chosen.packages.map((item) => Object.keys(item).sort().join()),
        ["name,version", "name,version", "name,version"],
      );
      const set = vscode.workspace.getConfiguration("hstuParity").inspect<string>("python");
      assert.equal(set?.workspaceValue, fullPython);
      assert.equal(set?.globalValue, undefined);
    });

    test("Select Python names a Python of the folder relative to it, and says what it lacks", async () => {
      const python = await barePython(folder(), ".venv-bare");
      const chosen = await vscode.commands.executeCommand<{
        path: string;
        packages: { name: string; install?: string }[];
      }>("hstuParity.selectPython", path.dirname(path.dirname(python)));
      assert.equal(chosen.path, python);
      assert.deepEqual(
        chosen.packages.map(({ name }) => name),
        ["torch", "fbgemm_gpu", "nvtripy"],
      );
      for (const { install } of chosen.packages) assert.match(install ?? "", /pip install/);
      const set = vscode.workspace.getConfiguration("hstuParity").get<string>("python");
      assert.equal(set, "${workspaceFolder}/.venv-bare/bin/python");
      const script = await writeScript(folder(), "which_python.py", ["print('bare')"]);
      reportIn(await runScript(script));
      assert.ok((await scriptOutput("bare\n")).includes(python));
    });

    test("Select Python does not take a path that is no Python", async () => {
      const choosing = vscode.commands.executeCommand(
        "hstuParity.selectPython",
        path.join(elsewhere, "nothing-here"),
      );
      // It asks again, with what is wrong; giving up changes nothing.
      const settled = Promise.resolve(choosing).then(() => true);
      assert.equal(await Promise.race([settled, pause(2000).then(() => "asks")]), "asks");
      await eventually("the input box to go", async () => {
        await vscode.commands.executeCommand("workbench.action.closeQuickOpen");
        return Promise.race([settled, pause(100).then(() => undefined)]);
      });
      assert.equal(await choosing, undefined);
      assert.equal(vscode.workspace.getConfiguration("hstuParity").get("python"), fullPython);
    });
  });

  suite("and trouble", () => {
    test("cancel while the script runs ends it and what it started", async () => {
      const pids = path.join(elsewhere, "pids");
      const script = await writeScript(elsewhere, "endless.py", [
        "import os, subprocess, sys, time",
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])",
        `open(${JSON.stringify(pids)}, 'w').write(f'{os.getpid()} {child.pid}\\n')`,
        "print('waiting', flush=True)",
        "time.sleep(600)",
      ]);
      const running = runScript(script);
      const [own, child] = await eventually("the script to wait", async () => {
        const text = await readFile(pids, "utf8").catch(() => "");
        return text.endsWith("\n") ? text.trim().split(" ").map(Number) : undefined;
      });
      assert.ok(own && child && isAlive(own) && isAlive(child));
      await scriptOutput("waiting");
      const started = performance.now();
      await vscode.commands.executeCommand("hstuParity.cancelRun");
      assert.equal((await running).outcome, "cancelled");
      assert.ok(performance.now() - started < 5000, "a cancel takes effect at once");
      await eventually(
        "both processes to end",
        () => (!isAlive(own) && !isAlive(child)) || undefined,
      );
      assert.match(await scriptOutput("# cancelled"), /waiting/);
    });

    test("a script that raises shows its own traceback and the line", async () => {
      const script = await writeScript(elsewhere, "raises.py", [
        "def load():",
        "    raise ValueError('no such weights')",
        "",
        "print('before')",
        "load()",
      ]);
      const problem = problemOf(await runScript(script));
      assert.equal(problem.code, "script-raised");
      assert.match(problem.message, /raises\.py raised ValueError: no such weights/);
      const printed = await scriptOutput("no such weights");
      assert.match(printed, /before\nTraceback \(most recent call last\):/);
      const diagnostic = await eventually(
        "the problem on its line",
        () => ownDiagnostics(script)[0],
      );
      assert.equal(diagnostic.range.start.line, 1);

      const document = await vscode.workspace.openTextDocument(script);
      const editor = await vscode.window.showTextDocument(document);
      await pause(300);
      assert.equal(ownDiagnostics(script).length, 1, "opening the file is no edit");
      await editor.edit((edit) => edit.insert(new vscode.Position(0, 0), "# mended\n"));
      await eventually("the problem to go with the edit", () =>
        ownDiagnostics(script).length === 0 ? true : undefined,
      );
      await vscode.commands.executeCommand("workbench.action.files.revert");
    });

    test("a script that takes too long is stopped, and the setting is named", async () => {
      await configure({ timeout: 1.5 });
      const script = await writeScript(elsewhere, "slow.py", ["import time", "time.sleep(600)"]);
      const problem = problemOf(await runScript(script));
      assert.equal(problem.code, "script-timeout");
      assert.match(problem.nextStep, /hstuParity\.timeout/);
    });

    test("a script outside of the workspace, in a folder with spaces and Unicode, starts in its own folder", async () => {
      const place = await makeFolder("größe mit leer 模型 ");
      const script = await writeScript(place, "hello wörld.py", [
        "import os, sys",
        "print('in', os.getcwd())",
        "print('with', sys.argv[1:])",
      ]);
      const report = reportIn(await runScript(script, ["a b", "ü", ""]));
      assert.equal(report.run.base, place);
      assert.equal(report.run.script?.file, "hello wörld.py");
      const printed = await scriptOutput("with [");
      assert.ok(printed.includes(`in ${place}\n`), printed);
      assert.ok(printed.includes("with ['a b', 'ü', '']"), printed);
      assert.equal(report.verdict, "unknown");
      assert.equal(report.problems[0]?.code, "nothing-captured");
      await rm(place, { recursive: true });
    });

    test("unsaved changes are saved before the run", async () => {
      const script = await writeScript(folder(), "unsaved.py", ["print('as it was')"]);
      const document = await vscode.workspace.openTextDocument(script);
      const editor = await vscode.window.showTextDocument(document);
      await editor.edit((edit) => edit.insert(new vscode.Position(0, 0), "print('as it is')\n"));
      reportIn(await runScript(undefined));
      assert.equal(document.isDirty, false);
      assert.match(await scriptOutput("as it was"), /as it is/);
    });

    test("with the focus in the panel, the script beside it is meant", async () => {
      const script = await writeScript(folder(), "beside.py", ["print('beside the panel')"]);
      await vscode.window.showTextDocument(script);
      await vscode.commands.executeCommand("hstuParity.showLayerDiff");
      await eventually("the panel to have the focus", () =>
        vscode.window.activeTextEditor === undefined ? true : undefined,
      );
      assert.equal(reportIn(await runScript(undefined)).run.script?.file, "beside.py");
    });

    const wrongSettings: [string, unknown, RegExp][] = [
      [
        "timeout",
        -3,
        /the setting hstuParity\.timeout is -3, and must be a number of seconds above 0/,
      ],
      [
        "byteBudget",
        "much",
        /hstuParity\.byteBudget is "much", and must be a number of MiB above 0/,
      ],
      ["cache", "yes", /hstuParity\.cache is "yes", and must be true or false/],
      ["python", 3, /hstuParity\.python is 3, and must be the path of a Python/],
    ];
    for (const [name, value, words] of wrongSettings) {
      test(`a wrong value of hstuParity.${name} is said, and nothing is run`, async () => {
        await configure({ [name]: value });
        const problem = problemOf(await runScript(fileIn(example)));
        assert.equal(problem.code, "setting-invalid");
        assert.match(problem.message, words);
      });
    }

    test("what is no Python script is refused with what to do", async () => {
      await vscode.commands.executeCommand("workbench.action.closeAllEditors");
      assert.equal(problemOf(await runScript(undefined)).code, "script-not-open");
      assert.equal(problemOf(await runScript(fileIn("README.md"))).code, "script-not-python");
      assert.equal(problemOf(await runScript(fileIn("no_such.py"))).code, "script-missing");
      const untitled = await vscode.workspace.openTextDocument({
        language: "python",
        content: "1",
      });
      assert.equal(problemOf(await runScript(untitled.uri)).code, "script-not-on-disk");
      const virtual = vscode.Uri.parse("vscode-vfs://github/someone/port/main.py");
      const problem = problemOf(await runScript(virtual));
      assert.equal(problem.code, "script-not-on-disk");
      assert.match(problem.nextStep, /Remote-SSH/);
    });

    test("a newer run of the same script replaces the older one", async () => {
      const script = await writeScript(elsewhere, "twice.py", ["import time", "time.sleep(2)"]);
      const first = runScript(script);
      await pause(500);
      const second = runScript(script);
      const outcomes = (await Promise.all([first, second])).map(({ outcome }) => outcome);
      assert.deepEqual(outcomes, ["cancelled", "report"]);
    });
  });
});

function reportIn(result: Awaited<ReturnType<typeof runScript>>): Report {
  if (result.outcome !== "report") throw new Error(JSON.stringify(result).slice(0, 1000));
  return result.report;
}

/** Presses Enter until the command that shows a quick pick or an input box has got its answer. */
async function accept(asking: Thenable<unknown>): Promise<void> {
  let answered = false;
  void Promise.resolve(asking).finally(() => (answered = true));
  await eventually("the command's answer", async () => {
    await vscode.commands.executeCommand("workbench.action.acceptSelectedQuickOpenItem");
    await pause(200);
    return answered || undefined;
  });
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
