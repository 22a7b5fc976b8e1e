import path from "node:path";
import * as vscode from "vscode";

/** What a run is about. */
export type RunTarget =
  | { readonly kind: "runFile"; readonly uri: vscode.Uri }
  | { readonly kind: "script"; readonly uri: vscode.Uri; readonly args: readonly string[] };

export function nameOf({ uri }: RunTarget): string {
  return path.posix.basename(uri.path);
}

const lastKey = "hstuParity.lastRun";
const argumentsKey = "hstuParity.scriptArguments";

/** What was run last, and the arguments that each script of this workspace was last given. */
export class RunMemory {
  constructor(private readonly memory: vscode.Memento) {}

  get last(): RunTarget | undefined {
    const stored = this.memory.get<{ kind?: unknown; uri?: unknown }>(lastKey);
    if (typeof stored?.uri !== "string") return undefined;
    const uri = vscode.Uri.parse(stored.uri);
    if (stored.kind === "script") return { kind: "script", uri, args: this.argumentsOf(uri) };
    return { kind: "runFile", uri };
  }

  argumentsOf(script: vscode.Uri): readonly string[] {
    const args: unknown = this.allArguments()[script.toString()];
    return Array.isArray(args) ? args.map(String) : [];
  }

  async keep(target: RunTarget): Promise<void> {
    const uri = target.uri.toString();
    await this.memory.update(lastKey, { kind: target.kind, uri });
    if (target.kind === "script") {
      await this.memory.update(argumentsKey, { ...this.allArguments(), [uri]: target.args });
    }
  }

  private allArguments(): Readonly<Record<string, unknown>> {
    return this.memory.get<Record<string, unknown>>(argumentsKey) ?? {};
  }
}
