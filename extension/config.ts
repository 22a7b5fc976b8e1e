import { homedir } from "node:os";
import path from "node:path";
import * as vscode from "vscode";
import type { Problem } from "../engine/protocol/report.js";
import type { Provider } from "../engine/protocol/runFile.js";

export interface RunSettings {
  /** Absent: what the run file says; for a script, the CPU. */
  readonly provider?: Provider;
  /** Absent: the engine's own limits. */
  readonly timeoutSeconds?: number;
  /** The Python that runs scripts. Absent: not chosen. */
  readonly python?: string;
  /** MiB. */
  readonly byteBudget: number;
  readonly useCache: boolean;
}

/** Settings, or what is wrong with them. */
export type Checked<T> = { readonly settings: T } | { readonly problems: Problem[] };

/** The settings for one run file or script: a folder of a workspace may have its own. */
export function runSettings(scope: vscode.Uri): Checked<RunSettings> {
  const read = reader(scope);
  const provider = read.value("provider", `one of ${providers.join(", ")}`, isProvider, "run file");
  const timeout = read.value("timeout", timeoutForm, isTimeout, null);
  const python = read.value("python", "the path of a Python, or its name on the PATH", isText, "");
  return read.checked({
    ...(provider !== "run file" && { provider: provider as Provider }),
    ...(timeout !== null && { timeoutSeconds: timeout }),
    ...(python.trim() !== "" && { python: expanded(python.trim(), scope) }),
    byteBudget: read.value("byteBudget", "a number of MiB above 0", isAmount, 4096),
    useCache: read.value("cache", "true or false", (value) => typeof value === "boolean", true),
  });
}

/** Where a value that the user chose in this window is written: the workspace, or without one the user's settings. */
export function settingsTarget(): vscode.ConfigurationTarget {
  return vscode.workspace.workspaceFolders || vscode.workspace.workspaceFile
    ? vscode.ConfigurationTarget.Workspace
    : vscode.ConfigurationTarget.Global;
}

/** The name of the setting that a problem is about; undefined when it is about something else. */
export function settingOf({ code, message }: Problem): string | undefined {
  return code === "setting-invalid" ? /hstuParity\.\w+/.exec(message)?.[0] : undefined;
}

/** VS Code marks values of another form in the settings and gives them to the extension all the same. */
function reader(scope: vscode.Uri) {
  const settings = vscode.workspace.getConfiguration("hstuParity", scope);
  const problems: Problem[] = [];
  return {
    value: <T>(
      name: string,
      form: string,
      isOne: (value: unknown) => value is T,
      otherwise: T,
    ): T => {
      const value = settings.get<unknown>(name) ?? otherwise;
      if (isOne(value) || value === otherwise) return value as T;
      problems.push({
        severity: "error",
        code: "setting-invalid",
        message: `the setting hstuParity.${name} is ${JSON.stringify(value)}, and must be ${form}`,
        nextStep: "Correct it or reset it in the settings.",
      });
      return otherwise;
    },
    checked: <T>(read: T): Checked<T> => (problems.length > 0 ? { problems } : { settings: read }),
  };
}

const providers = ["run file", "auto", "tensorrt", "cuda", "webgpu", "cpu"] as const;

function isProvider(value: unknown): value is (typeof providers)[number] {
  return providers.some((one) => one === value);
}

// Timers count milliseconds in 31 bits: about 24 days.
const timeoutForm = "a number of seconds above 0, at most 2000000";

function isTimeout(value: unknown): value is number | null {
  return isAmount(value) && value <= 2_000_000;
}

function isAmount(value: unknown): value is number {
  return typeof value === "number" && value > 0 && Number.isFinite(value);
}

function isText(value: unknown): value is string {
  return typeof value === "string";
}

/** Settings that are shared name places relative to the folder. A name without a slash is looked up on the PATH. */
function expanded(given: string, scope: vscode.Uri): string {
  const folder = (
    vscode.workspace.getWorkspaceFolder(scope) ?? vscode.workspace.workspaceFolders?.[0]
  )?.uri.fsPath;
  const named = given
    .replaceAll("${workspaceFolder}", folder ?? "${workspaceFolder}")
    .replaceAll("${userHome}", homedir())
    .replace(/^~(?=$|[/\\])/, homedir());
  if (path.isAbsolute(named) || folder === undefined || !/[/\\]/.test(named)) return named;
  return path.join(folder, named);
}
