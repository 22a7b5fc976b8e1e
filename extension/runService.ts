import path from "node:path";
import * as vscode from "vscode";
import type { Problem } from "../engine/protocol/report.js";
import type { RunResult } from "../engine/protocol/requests.js";
import type { InterpreterWish } from "../engine/protocol/scriptRequests.js";
import { runSettings } from "./config.js";
import type { EngineClient } from "./engineClient.js";
import { isTrusted, tellNothingToRun, tellOutcome, whyEmpty } from "./notify.js";
import type { ParityStore } from "./parityState.js";
import { activePython } from "./pythonExtension.js";
import { nameOf, type RunMemory, type RunTarget } from "./runTarget.js";
import { joinArguments, splitArguments } from "./scriptArguments.js";
import { chooseScript, startFolder } from "./scriptChoice.js";
import type { ScriptOutput } from "./views/scriptOutput.js";

export interface ScriptWishes {
  /** Default: those that it was last given. */
  readonly args?: readonly string[];
  readonly noCache?: boolean;
}

/** Owns the run under way: its progress, its cancel button, what it ended with. */
export class RunService implements vscode.Disposable {
  private current: vscode.CancellationTokenSource | undefined;
  private readonly listening: vscode.Disposable;

  constructor(
    private readonly engine: EngineClient,
    private readonly store: ParityStore,
    private readonly memory: RunMemory,
    private readonly output: ScriptOutput,
    private readonly log: vscode.LogOutputChannel,
  ) {
    this.listening = vscode.Disposable.from(
      engine.onDidPrint(({ script, text }) => output.print(script, text)),
      engine.onDidFindInterpreter(({ script, interpreter }) => {
        const { path, version, found, packages } = interpreter;
        const installed = packages.map((item) => `${item.name} ${item.version ?? "not installed"}`);
        log.info(`Python ${version}, ${found}: ${path}; ${installed.join(", ")}`);
        output.started(script, interpreter, memory.argumentsOf(vscode.Uri.parse(script)));
        store.update({ interpreter });
      }),
    );
  }

  /** Runs the given run file, or the one that the user picks. Undefined when nothing was run. */
  async run(given?: vscode.Uri): Promise<RunResult | undefined> {
    if (!isTrusted()) return undefined;
    const uri = given ?? (await this.pick());
    return uri && this.execute({ kind: "runFile", uri });
  }

  /** Runs the given Python script, or the one in the active editor, and asks nothing. */
  async runScript(
    given: vscode.Uri | undefined,
    { args, noCache }: ScriptWishes = {},
  ): Promise<RunResult | undefined> {
    if (!isTrusted()) return undefined;
    const uri = await chooseScript(given);
    if ("problem" in uri) return this.refuse(uri.problem);
    const target = { kind: "script", uri, args: args ?? this.memory.argumentsOf(uri) } as const;
    return this.execute(target, noCache);
  }

  /** Asks for the script's arguments first, those of the last time being there. */
  async runScriptWithArguments(given?: vscode.Uri): Promise<RunResult | undefined> {
    if (!isTrusted()) return undefined;
    const uri = await chooseScript(given);
    if ("problem" in uri) return this.refuse(uri.problem);
    const line = await vscode.window.showInputBox({
      title: vscode.l10n.t("Arguments of {0}", path.posix.basename(uri.path)),
      prompt: vscode.l10n.t("Blanks separate, quotes keep together. Kept for the next run."),
      value: joinArguments(this.memory.argumentsOf(uri)),
      validateInput: (text) => {
        const args = splitArguments(text);
        return "wrong" in args ? args.wrong : undefined;
      },
    });
    const args = line === undefined ? undefined : splitArguments(line);
    return args && !("wrong" in args) ? this.runScript(uri, { args }) : undefined;
  }

  /** Writes down what the last run of a script compared, where the user says. Undefined when nothing was saved. */
  async saveRunFile(given?: vscode.Uri): Promise<vscode.Uri | undefined> {
    const script = this.memory.last?.kind === "script" ? this.memory.last.uri : undefined;
    const suggested = script?.with({ path: script.path.replace(/\.pyw?$/, ".parity.json") });
    const file =
      given ??
      (await vscode.window.showSaveDialog({
        title: vscode.l10n.t("Save as Run File"),
        filters: { [vscode.l10n.t("Run file")]: ["parity.json"] },
        ...(suggested && { defaultUri: suggested }),
      }));
    if (!file) return undefined;
    const { problems } = await this.engine.saveRunFile({ file: file.toString() });
    const [problem] = problems;
    if (problem) {
      this.refuse(problem);
      return undefined;
    }
    await vscode.window.showTextDocument(file);
    return file;
  }

  /** Runs what was run last; asks when nothing was. */
  async runAgain(): Promise<RunResult | undefined> {
    if (!isTrusted()) return undefined;
    const { last } = this.memory;
    if (!last || !(await exists(last.uri))) return this.run();
    return last.kind === "script" ? this.runScript(last.uri) : this.run(last.uri);
  }

  cancel(): void {
    this.current?.cancel();
  }

  dispose(): void {
    this.cancel();
    this.current?.dispose();
    this.listening.dispose();
  }

  private async execute(target: RunTarget, noCache = false): Promise<RunResult> {
    // A newer run replaces the one under way.
    this.current?.cancel();
    const own = new vscode.CancellationTokenSource();
    this.current = own;
    await this.memory.keep(target);
    this.show({ target, text: vscode.l10n.t("Starting") });
    if (target.kind === "script") this.output.begin(target.uri);
    const result = await vscode.window.withProgress(
      {
        location: vscode.ProgressLocation.Notification,
        title: vscode.l10n.t("HSTU Parity: {0}", titleOf(target)),
        cancellable: true,
      },
      (progress, token) => {
        token.onCancellationRequested(() => own.cancel());
        let shown = 0;
        return this.request(target, noCache, own.token, (text, percent) => {
          const increment = percent === undefined ? 0 : Math.max(0, percent - shown);
          shown += increment;
          progress.report({ message: text, increment });
          if (this.current === own) {
            this.show({ target, text, ...(percent !== undefined && { percent }) });
          }
        });
      },
    );
    if (this.current === own) {
      this.current = undefined;
      this.show(undefined, result);
      if (target.kind === "script") this.output.end(endOf(result));
      tellOutcome(result, target);
    }
    this.logOutcome(nameOf(target), result);
    own.dispose();
    return result;
  }

  private async request(
    target: RunTarget,
    noCache: boolean,
    token: vscode.CancellationToken,
    onProgress: (text: string, percent?: number) => void,
  ): Promise<RunResult> {
    const { uri } = target;
    const checked = runSettings(uri);
    if ("problems" in checked) return { outcome: "invalid", problems: checked.problems };
    const { python, useCache, ...settings } = checked.settings;
    const active = python === undefined ? await activePython(uri, this.log) : undefined;
    if (token.isCancellationRequested) return { outcome: "cancelled" };
    const cwd = startFolder(uri);
    const wish: InterpreterWish = {
      given: [
        ...(python === undefined ? [] : [{ path: python, source: "setting" as const }]),
        ...(active === undefined ? [] : [{ path: active, source: "python extension" as const }]),
      ],
      folders: [path.dirname(uri.fsPath), cwd],
    };
    if (target.kind === "runFile") {
      return this.engine.run(
        { ...settings, runFile: uri.toString(), python: wish },
        token,
        onProgress,
      );
    }
    return this.engine.runScript(
      {
        ...settings,
        ...wish,
        script: uri.toString(),
        args: [...target.args],
        cwd,
        noCache: noCache || !useCache,
      },
      token,
      onProgress,
    );
  }

  private refuse(problem: Problem): RunResult {
    const result: RunResult = { outcome: "invalid", problems: [problem] };
    tellOutcome(result, undefined);
    this.log.warn(`${problem.code}: ${problem.message}. ${problem.nextStep}`);
    return result;
  }

  private show(running: Parameters<ParityStore["update"]>[0]["running"], result?: RunResult): void {
    void vscode.commands.executeCommand("setContext", "hstuParity.running", running !== undefined);
    this.store.update({
      running,
      ...(result && { stopped: reasonToStop(result) }),
    });
  }

  private logOutcome(name: string, result: RunResult): void {
    switch (result.outcome) {
      case "report":
        return this.log.info(`${name}: ${result.report.verdict}: ${result.report.summary}`);
      case "invalid":
        for (const problem of result.problems) {
          this.log.warn(`${name}: ${problem.code}: ${problem.message}. ${problem.nextStep}`);
        }
        return;
      case "failed":
        return this.log.error(`${name}: ${result.message}\n${result.details}`);
      case "cancelled":
        return this.log.info(`${name}: cancelled`);
    }
  }

  private async pick(): Promise<vscode.Uri | undefined> {
    const files = await vscode.workspace.findFiles("**/*.parity.json", "**/node_modules/**");
    if (files.length === 0) {
      tellNothingToRun();
      return undefined;
    }
    const last = this.memory.last?.uri.toString();
    const items = files
      .map((file) => ({
        label: path.posix.basename(file.path).replace(/\.parity\.json$/, ""),
        description: vscode.workspace.asRelativePath(file),
        detail: file.toString() === last ? vscode.l10n.t("run last") : "",
        file,
        isLast: file.toString() === last,
      }))
      .sort((a, b) => Number(b.isLast) - Number(a.isLast) || a.label.localeCompare(b.label));
    const chosen = await vscode.window.showQuickPick(items, {
      title: vscode.l10n.t("Run Parity"),
      placeHolder: vscode.l10n.t("Which run file?"),
      matchOnDescription: true,
    });
    return chosen?.file;
  }
}

function titleOf(target: RunTarget): string {
  const args = target.kind === "script" ? target.args : [];
  return [nameOf(target), ...(args.length > 0 ? [joinArguments(args)] : [])].join(" ");
}

/** The last line of the script's output. */
function endOf(result: RunResult): string {
  switch (result.outcome) {
    case "report": {
      const { run } = result.report;
      if (run.cache === "hit")
        return "Nothing has changed since an earlier run: its report is shown.";
      return `exit code ${run.script?.exitCode ?? 0}, ${(run.durationMs / 1000).toFixed(1)} s in all`;
    }
    case "invalid":
      return result.problems.map((item) => `${item.message}. ${item.nextStep}`).join("\n# ");
    case "failed":
      return result.message;
    case "cancelled":
      return "cancelled";
  }
}

function exists(uri: vscode.Uri): Promise<boolean> {
  return Promise.resolve(vscode.workspace.fs.stat(uri)).then(
    () => true,
    () => false,
  );
}

function reasonToStop(result: RunResult): { message: string; nextStep: string } | undefined {
  if (result.outcome === "failed") return { message: result.message, nextStep: result.nextStep };
  const first =
    result.outcome === "invalid"
      ? result.problems[0]
      : result.outcome === "report"
        ? whyEmpty(result.report)
        : undefined;
  return first && { message: first.message, nextStep: first.nextStep };
}
