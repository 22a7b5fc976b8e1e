import path from "node:path";
import * as vscode from "vscode";
import type { RunResult } from "../engine/protocol/requests.js";
import { runSettings } from "./config.js";
import type { EngineClient } from "./engineClient.js";
import { tellNothingToRun, tellOutcome, tellUntrusted } from "./notify.js";
import type { ParityStore } from "./parityState.js";

const lastRunFileKey = "hstuParity.lastRunFile";

/** Owns the run under way: its progress, its cancel button, what it ended with. */
export class RunService implements vscode.Disposable {
  private current: vscode.CancellationTokenSource | undefined;

  constructor(
    private readonly engine: EngineClient,
    private readonly store: ParityStore,
    private readonly memory: vscode.Memento,
    private readonly log: vscode.LogOutputChannel,
  ) {}

  /** Runs the given run file, or the one that the user picks. Undefined when nothing was run. */
  async run(given?: vscode.Uri): Promise<RunResult | undefined> {
    if (!isTrusted()) return undefined;
    const runFile = given ?? (await this.pick());
    return runFile && this.execute(runFile);
  }

  /** Runs what was run last; asks when nothing was. */
  async runAgain(): Promise<RunResult | undefined> {
    if (!isTrusted()) return undefined;
    return this.run(await this.lastRunFile());
  }

  cancel(): void {
    this.current?.cancel();
  }

  dispose(): void {
    this.cancel();
    this.current?.dispose();
  }

  private async execute(runFile: vscode.Uri): Promise<RunResult> {
    // A newer run replaces the one under way.
    this.current?.cancel();
    const own = new vscode.CancellationTokenSource();
    this.current = own;
    await this.memory.update(lastRunFileKey, runFile.toString());
    const name = path.posix.basename(runFile.path);
    this.show({ runFile, text: vscode.l10n.t("Starting") });
    const result = await vscode.window.withProgress(
      {
        location: vscode.ProgressLocation.Notification,
        title: vscode.l10n.t("HSTU Parity: {0}", name),
        cancellable: true,
      },
      (progress, token) => {
        token.onCancellationRequested(() => own.cancel());
        let shown = 0;
        return this.engine.run(
          { runFile: runFile.toString(), ...runSettings(runFile) },
          own.token,
          (text, percent) => {
            const increment = percent === undefined ? 0 : Math.max(0, percent - shown);
            shown += increment;
            progress.report({ message: text, increment });
            if (this.current === own) {
              this.show({
                runFile,
                text,
                ...(percent !== undefined && { percent }),
              });
            }
          },
        );
      },
    );
    if (this.current === own) {
      this.current = undefined;
      this.show(undefined, result);
      tellOutcome(result, runFile);
    }
    this.logOutcome(name, result);
    own.dispose();
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
    const last = this.memory.get<string>(lastRunFileKey);
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

  private async lastRunFile(): Promise<vscode.Uri | undefined> {
    const last = this.memory.get<string>(lastRunFileKey);
    if (last === undefined) return undefined;
    const file = vscode.Uri.parse(last);
    const exists = await vscode.workspace.fs.stat(file).then(
      () => true,
      () => false,
    );
    return exists ? file : undefined;
  }
}

function isTrusted(): boolean {
  if (vscode.workspace.isTrusted) return true;
  tellUntrusted();
  return false;
}

function reasonToStop(result: RunResult): { message: string; nextStep: string } | undefined {
  if (result.outcome === "failed") return { message: result.message, nextStep: result.nextStep };
  const first = result.outcome === "invalid" ? result.problems[0] : undefined;
  return first && { message: first.message, nextStep: first.nextStep };
}
