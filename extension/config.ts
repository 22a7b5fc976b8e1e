import * as vscode from "vscode";
import type { Provider } from "../engine/protocol/runFile.js";

export interface RunSettings {
  /** Absent: what the run file says. */
  readonly provider?: Provider;
  readonly timeoutSeconds: number;
}

const providers: readonly string[] = ["auto", "tensorrt", "cuda", "webgpu", "cpu"];

/** The settings for one run file: a folder of a workspace may have its own. */
export function runSettings(scope: vscode.Uri): RunSettings {
  const settings = vscode.workspace.getConfiguration("hstuParity", scope);
  const provider = settings.get<unknown>("provider");
  const timeout = settings.get<unknown>("timeoutSeconds");
  return {
    timeoutSeconds: typeof timeout === "number" && timeout > 0 ? timeout : 120,
    ...(isProvider(provider) && { provider }),
  };
}

function isProvider(value: unknown): value is Provider {
  return typeof value === "string" && providers.includes(value);
}
