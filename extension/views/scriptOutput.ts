import * as vscode from "vscode";
import type { InterpreterFacts } from "../../engine/protocol/scriptRequests.js";
import { joinArguments } from "../scriptArguments.js";

/** What the script of the last run printed, as it printed it. */
export class ScriptOutput implements vscode.Disposable {
  private readonly channel = vscode.window.createOutputChannel("HSTU Parity: Script");
  private script: string | undefined;
  private lineOpen = false;

  /** A new run: what the former one printed goes. */
  begin(script: vscode.Uri): void {
    this.script = script.toString();
    this.lineOpen = false;
    this.channel.clear();
  }

  started(
    script: string,
    { path, version, found }: InterpreterFacts,
    args: readonly string[],
  ): void {
    if (script !== this.script) return;
    const command = joinArguments([path, vscode.Uri.parse(script).fsPath, ...args]);
    this.add(`$ ${command}\n# Python ${version}, ${found}\n`);
  }

  print(script: string, text: string): void {
    if (script === this.script) this.add(text);
  }

  end(words: string): void {
    this.add(`${this.lineOpen ? "\n" : ""}# ${words}\n`);
  }

  show(): void {
    this.channel.show(true);
  }

  dispose(): void {
    this.channel.dispose();
  }

  private add(text: string): void {
    this.lineOpen = !text.endsWith("\n");
    this.channel.append(text);
  }
}
