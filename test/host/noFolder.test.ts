import assert from "node:assert/strict";
import { rm } from "node:fs/promises";
import * as vscode from "vscode";
import {
  configure,
  fullPython,
  makeFolder,
  problemOf,
  ran,
  runScript,
  scriptOutput,
  writeScript,
} from "./scripts.js";

suite("a window without a folder", () => {
  let elsewhere: string;
  suiteSetup(async () => {
    assert.equal(vscode.workspace.workspaceFolders, undefined);
    elsewhere = await makeFolder();
  });
  suiteTeardown(async () => {
    await configure({ python: undefined });
    await rm(elsewhere, { recursive: true, force: true });
  });

  test("says what to open where nothing is open", async () => {
    const { message, nextStep } = problemOf(await ran("hstuParity.runScript"));
    assert.equal(message, "no Python script is open");
    assert.match(nextStep, /Open the Python script/);
  });

  test("Select Python writes the user's settings, and a script starts in its own folder", async () => {
    await vscode.commands.executeCommand("hstuParity.selectPython", fullPython);
    const set = vscode.workspace.getConfiguration("hstuParity").inspect<string>("python");
    assert.equal(set?.globalValue, fullPython);
    const script = await writeScript(elsewhere, "alone.py", [
      "import os",
      "print('in', os.getcwd())",
    ]);
    await vscode.window.showTextDocument(script);
    const result = await runScript(undefined);
    assert.ok(result.outcome === "report", JSON.stringify(result).slice(0, 500));
    assert.equal(result.report.run.base, elsewhere);
    assert.ok((await scriptOutput("in ")).includes(`in ${elsewhere}\n`));
  });
});
