import path from "node:path";
import * as vscode from "vscode";
import type { InterpreterFacts, InterpreterWish } from "../engine/protocol/scriptRequests.js";
import { runSettings, settingsTarget } from "./config.js";
import type { EngineClient } from "./engineClient.js";
import { isTrusted, tellPython, tellPythonNotChosen } from "./notify.js";
import type { ParityStore } from "./parityState.js";
import { activePython } from "./pythonExtension.js";
import { startFolder } from "./scriptChoice.js";

type Item = vscode.QuickPickItem &
  (
    | { readonly does: "enter" | "reset" | "nothing" | "wait" }
    | { readonly does: "take"; readonly interpreter: InterpreterFacts }
  );

/** Which Python runs scripts: a list of those that there are, and the setting that one of them is written to. */
export class PythonChoice {
  constructor(
    private readonly engine: EngineClient,
    private readonly store: ParityStore,
    private readonly log: vscode.LogOutputChannel,
  ) {}

  /** Takes the given path, or asks. Gives what scripts then run with; undefined when nothing was chosen. */
  async choose(given?: string): Promise<InterpreterFacts | undefined> {
    if (!isTrusted()) return undefined;
    try {
      const chosen = given === undefined ? await this.pick() : await this.entered(given);
      if (chosen === undefined) return undefined;
      if (chosen === "reset") return await this.reset();
      await write(this.settingFor(chosen));
      this.tell(chosen);
      return chosen;
    } catch (error) {
      this.log.error(String(error));
      tellPythonNotChosen(error instanceof Error ? error.message : String(error));
      return undefined;
    }
  }

  private async pick(): Promise<InterpreterFacts | "reset" | undefined> {
    const list = vscode.window.createQuickPick<Item>();
    list.title = vscode.l10n.t("The Python that runs scripts");
    list.matchOnDescription = true;
    list.matchOnDetail = true;
    list.busy = true;
    list.show();
    const looking = new vscode.CancellationTokenSource();
    const answer = new Promise<Item | undefined>((resolve) => {
      list.onDidAccept(() => {
        const [item] = list.selectedItems;
        if (item && item.does !== "wait") resolve(item);
      });
      list.onDidHide(() => resolve(undefined));
    });
    list.onDidTriggerItemButton(({ item }) => {
      if (item.does === "take") void vscode.env.clipboard.writeText(installs(item.interpreter));
    });
    try {
      const filled = this.fill(list, looking.token);
      const chosen = await Promise.race([answer, filled.then(() => answer)]);
      if (!chosen || chosen.does === "nothing" || chosen.does === "wait") return undefined;
      if (chosen.does === "take") return chosen.interpreter;
      return chosen.does === "reset" ? "reset" : await this.entered();
    } finally {
      looking.cancel();
      looking.dispose();
      list.dispose();
    }
  }

  private async fill(list: vscode.QuickPick<Item>, token: vscode.CancellationToken): Promise<void> {
    const own: Item[] = [
      { label: `$(edit) ${vscode.l10n.t("Enter path…")}`, alwaysShow: true, does: "enter" },
    ];
    if (isSet()) {
      own.push({
        label: `$(discard) ${vscode.l10n.t("Choose without the setting")}`,
        description: vscode.l10n.t("the Python extension's environment, .venv, then python3"),
        does: "reset",
      });
    }
    const looking = vscode.l10n.t("Looking for interpreters");
    list.items = [{ label: `$(loading~spin) ${looking}`, does: "wait" }, ...own];
    const { interpreters, problems } = await this.engine.interpreters(await this.wish(), token);
    list.items = [
      ...problems.map(({ message, nextStep }): Item => ({
        label: `$(warning) ${message}`,
        detail: nextStep,
        does: "nothing",
      })),
      ...interpreters.map(itemOf),
      { label: "", kind: vscode.QuickPickItemKind.Separator, does: "nothing" },
      ...own,
    ];
    list.busy = false;
    list.placeholder = vscode.l10n.t("The first one is taken now");
    const [first] = list.items.filter((item) => item.does === "take");
    if (first) list.activeItems = [first];
  }

  /** A path that the user types, or that a command was given: asked for until it works. */
  private async entered(given?: string): Promise<InterpreterFacts | undefined> {
    const first = vscode.l10n.t("A Python, the folder of an environment, or a name on the PATH");
    let value = given ?? (await askPath(first));
    while (value !== undefined && value.trim() !== "") {
      const { folders } = await this.wish();
      const { interpreters, problems } = await this.engine.interpreters({
        given: [{ path: value.trim(), source: "setting" }],
        folders,
      });
      const [wrong] = problems;
      if (!wrong) return interpreters[0];
      value = await askPath(wrong.message, value);
    }
    return undefined;
  }

  private async reset(): Promise<InterpreterFacts | undefined> {
    await write(undefined);
    const { interpreters } = await this.engine.interpreters(await this.wish());
    const [next] = interpreters;
    if (next) this.tell(next);
    return next;
  }

  private tell(interpreter: InterpreterFacts): void {
    const { path, version, found } = interpreter;
    this.log.info(`chosen: Python ${version}, ${found}: ${path}`);
    this.store.update({ interpreter });
    tellPython(interpreter);
  }

  /** What a script in the active editor would be run with, and where else to look. */
  private async wish(): Promise<InterpreterWish> {
    const scope = scopeOf();
    const checked = scope && runSettings(scope);
    const python = checked && "settings" in checked ? checked.settings.python : undefined;
    const active = await activePython(scope, this.log);
    return {
      given: [
        ...(python === undefined ? [] : [{ path: python, source: "setting" as const }]),
        ...(active === undefined ? [] : [{ path: active, source: "python extension" as const }]),
      ],
      folders: scope ? [...new Set([path.dirname(scope.fsPath), startFolder(scope)])] : [],
    };
  }

  /** One inside the only folder is named relative to it, so that the setting can be shared. */
  private settingFor({ path: file }: InterpreterFacts): string {
    const [folder, another] = vscode.workspace.workspaceFolders ?? [];
    if (!folder || another) return file;
    const relative = path.relative(folder.uri.fsPath, file);
    const below = !relative.startsWith("..") && !path.isAbsolute(relative);
    return below ? "${workspaceFolder}/" + relative.replaceAll(path.sep, "/") : file;
  }
}

function askPath(prompt: string, value = ""): Thenable<string | undefined> {
  return vscode.window.showInputBox({
    title: vscode.l10n.t("The Python that runs scripts"),
    prompt,
    value,
    ignoreFocusOut: true,
  });
}

function itemOf(interpreter: InterpreterFacts): Item {
  const { path: file, version, found } = interpreter;
  return {
    label: `Python ${version}`,
    description: `${vscode.workspace.asRelativePath(file)} · ${found}`,
    detail: contentOf(interpreter),
    does: "take",
    interpreter,
    ...(installs(interpreter) !== "" && {
      buttons: [
        {
          iconPath: new vscode.ThemeIcon("copy"),
          tooltip: vscode.l10n.t("Copy what installs the missing packages"),
        },
      ],
    }),
  };
}

/** "torch 2.13.0 · missing: fbgemm_gpu, nvtripy · COMMAND": the view cuts it off, the button copies all commands. */
function contentOf({ packages }: InterpreterFacts): string {
  const missing = packages.filter(({ version }) => version === undefined);
  return [
    ...packages.flatMap(({ name, version }) => (version === undefined ? [] : `${name} ${version}`)),
    ...(missing.length > 0
      ? [vscode.l10n.t("missing: {0}", missing.map(({ name }) => name).join(", "))]
      : []),
    ...missing.flatMap(({ install }) => install ?? []),
  ].join(" · ");
}

function installs({ packages }: InterpreterFacts): string {
  return packages.flatMap(({ install }) => install ?? []).join("\n");
}

function scopeOf(): vscode.Uri | undefined {
  const active = vscode.window.activeTextEditor?.document.uri;
  if (active?.scheme === "file") return active;
  const folder = vscode.workspace.workspaceFolders?.[0]?.uri;
  // Any file of the folder will do.
  return folder && vscode.Uri.joinPath(folder, "script.py");
}

function isSet(): boolean {
  return (vscode.workspace.getConfiguration("hstuParity").get<string>("python") ?? "") !== "";
}

async function write(value: string | undefined): Promise<void> {
  await vscode.workspace.getConfiguration("hstuParity").update("python", value, settingsTarget());
}
