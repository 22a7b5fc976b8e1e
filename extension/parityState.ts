import * as vscode from "vscode";
import type { Report } from "../engine/protocol/report.js";
import type { InterpreterFacts } from "../engine/protocol/scriptRequests.js";
import type { RunTarget } from "./runTarget.js";

/** Everything that the extension shows: status bar and panel are views of this one value. */
export interface ParityState {
  /** The run under way. */
  readonly running?: RunUnderWay | undefined;
  /** The report that diagnostics and hovers come from. */
  readonly report?: Report | undefined;
  readonly reportFile?: string | undefined;
  /** Files of the report that changed since the run, named as in it. */
  readonly staleFiles: readonly string[];
  /** The Python that the last script was run with, or that was chosen since. */
  readonly interpreter?: InterpreterFacts | undefined;
  /** Why the last run, or the engine, gave no report. */
  readonly stopped?: { readonly message: string; readonly nextStep: string } | undefined;
}

export interface RunUnderWay {
  readonly target: RunTarget;
  readonly text: string;
  /** 0 … 100. */
  readonly percent?: number;
}

export class ParityStore implements vscode.Disposable {
  private readonly changed = new vscode.EventEmitter<ParityState>();
  private state: ParityState = { staleFiles: [] };

  readonly onDidChange = this.changed.event;

  get value(): ParityState {
    return this.state;
  }

  update(change: Partial<ParityState>): void {
    this.state = { ...this.state, ...change };
    this.changed.fire(this.state);
  }

  dispose(): void {
    this.changed.dispose();
  }
}
