import { homedir } from "node:os";
import * as vscode from "vscode";
import {
  CloseAction,
  ErrorAction,
  LanguageClient,
  State,
  TransportKind,
  WorkDoneProgress,
  type LanguageClientOptions,
  type ServerOptions,
} from "vscode-languageclient/node";
import {
  goToSiteCommand,
  openPanelCommand,
  reportChanged,
  runRequest,
  staleChanged,
  type EngineOptions,
  type ReportChangedParams,
  type RunParams,
  type RunResult,
  type StaleChangedParams,
} from "../engine/protocol/requests.js";
import {
  interpreterFound,
  interpretersRequest,
  runScriptRequest,
  saveRunFileRequest,
  scriptPrinted,
  type InterpreterFoundParams,
  type InterpretersParams,
  type InterpretersResult,
  type RunScriptParams,
  type SaveRunFileParams,
  type SaveRunFileResult,
  type ScriptPrintedParams,
} from "../engine/protocol/scriptRequests.js";
import { tellEngineGone, tellEngineRestarted } from "./notify.js";
import type { ParityStore } from "./parityState.js";

type OnProgress = (text: string, percent?: number) => void;

const lastReportKey = "hstuParity.lastReport";

/** Restarts within this time count together; more than `maxRestarts` of them and the engine stays down. */
const restartWindowMs = 3 * 60_000;
const maxRestarts = 4;

/** Owns the engine's process: starts it when it is first needed, and again when it dies. */
export class EngineClient implements vscode.Disposable {
  private client: LanguageClient | undefined;
  private starting: Promise<LanguageClient> | undefined;
  private restarts: number[] = [];
  private toldRestart = false;
  private tokens = 0;
  private readonly printed = new vscode.EventEmitter<ScriptPrintedParams>();
  private readonly found = new vscode.EventEmitter<InterpreterFoundParams>();

  /** What the script under way prints. */
  readonly onDidPrint = this.printed.event;
  /** The interpreter that the script under way is run with. */
  readonly onDidFindInterpreter = this.found.event;

  constructor(
    private readonly context: vscode.ExtensionContext,
    private readonly log: vscode.LogOutputChannel,
    private readonly store: ParityStore,
  ) {}

  /** Starts the engine unless it runs. Rejects when it cannot be started. */
  async start(): Promise<LanguageClient> {
    if (this.client?.state === State.Running) return this.client;
    this.starting ??= this.launch().finally(() => (this.starting = undefined));
    return this.starting;
  }

  /** Whether a report was shown last in this workspace, which the engine shows again when it starts. */
  get hasLastReport(): boolean {
    return this.context.workspaceState.get<string>(lastReportKey) !== undefined;
  }

  /** Runs a run file. A dead engine is a failed run, never an exception. */
  run(
    params: Omit<RunParams, "workDoneToken">,
    token: vscode.CancellationToken,
    onProgress: OnProgress,
  ): Promise<RunResult> {
    return this.request(runRequest, params, token, onProgress);
  }

  /** Runs a Python script, in the same way. */
  runScript(
    params: Omit<RunScriptParams, "workDoneToken">,
    token: vscode.CancellationToken,
    onProgress: OnProgress,
  ): Promise<RunResult> {
    return this.request(runScriptRequest, params, token, onProgress);
  }

  /** The interpreters that can be chosen. Rejects when the engine does not run. */
  async interpreters(
    params: InterpretersParams,
    token = new vscode.CancellationTokenSource().token,
  ): Promise<InterpretersResult> {
    const client = await this.start();
    return client.sendRequest<InterpretersResult>(interpretersRequest, params, token);
  }

  /** Writes down what the last run of a script compared. Resolves to what is wrong. */
  async saveRunFile(params: SaveRunFileParams): Promise<SaveRunFileResult> {
    const client = await this.start();
    return client.sendRequest<SaveRunFileResult>(saveRunFileRequest, params);
  }

  private async request(
    method: string,
    params: object,
    token: vscode.CancellationToken,
    onProgress: OnProgress,
  ): Promise<RunResult> {
    let client: LanguageClient;
    try {
      client = await this.start();
    } catch (error) {
      return engineFailure(error);
    }
    const workDoneToken = `hstuParity-${++this.tokens}`;
    const progress = client.onProgress(WorkDoneProgress.type, workDoneToken, (value) => {
      if (value.kind === "report") onProgress(value.message ?? "", value.percentage);
    });
    try {
      return await client.sendRequest<RunResult>(method, { ...params, workDoneToken }, token);
    } catch (error) {
      return token.isCancellationRequested ? { outcome: "cancelled" } : engineFailure(error);
    } finally {
      progress.dispose();
    }
  }

  dispose(): void {
    void this.client?.dispose().catch(() => undefined);
    this.client = undefined;
    this.printed.dispose();
    this.found.dispose();
  }

  private async launch(): Promise<LanguageClient> {
    if (this.client?.needsStart() === false) {
      // A restart after a crash is under way: `start` waits for that one.
      await this.client.start();
      return this.client;
    }
    await this.client?.dispose().catch(() => undefined);
    const client = new LanguageClient(
      "hstuParity",
      "HSTU Parity",
      this.serverOptions(),
      this.clientOptions(),
    );
    client.onNotification(reportChanged, (params: ReportChangedParams) => this.onReport(params));
    client.onNotification(scriptPrinted, (params: ScriptPrintedParams) =>
      this.printed.fire(params),
    );
    client.onNotification(interpreterFound, (params: InterpreterFoundParams) =>
      this.found.fire(params),
    );
    client.onNotification(staleChanged, ({ files }: StaleChangedParams) =>
      this.store.update({ staleFiles: files }),
    );
    this.client = client;
    await client.start();
    return client;
  }

  private onReport({ report, reportFile }: ReportChangedParams): void {
    this.store.update({
      report,
      reportFile,
      staleFiles: [],
      stopped: undefined,
    });
    void this.context.workspaceState.update(lastReportKey, reportFile);
  }

  private serverOptions(): ServerOptions {
    const module = this.context.asAbsolutePath("dist/server.mjs");
    // The variable is set here as well as in the engine, so that it holds before any module is loaded.
    const options = { env: { ...process.env, ORT_DISABLE_TELEMETRY: "1" } };
    return {
      run: { module, transport: TransportKind.ipc, options },
      debug: {
        module,
        transport: TransportKind.ipc,
        options: { ...options, execArgv: ["--nolazy", "--enable-source-maps"] },
      },
    };
  }

  private clientOptions(): LanguageClientOptions {
    const storage = this.context.storageUri ?? this.context.globalStorageUri;
    const engineOptions = (): EngineOptions => {
      const lastReport = this.context.workspaceState.get<string>(lastReportKey);
      return {
        storage: storage.fsPath,
        ...(lastReport !== undefined && { lastReport }),
      };
    };
    return {
      documentSelector: [
        { scheme: "file", language: "python" },
        { scheme: "file", pattern: "**/*.parity.json" },
      ],
      outputChannel: this.log,
      initializationOptions: engineOptions,
      markdown: {
        isTrusted: { enabledCommands: [goToSiteCommand, openPanelCommand] },
      },
      errorHandler: {
        error: (_error, _message, count) => ({
          action: (count ?? 0) <= 3 ? ErrorAction.Continue : ErrorAction.Shutdown,
          handled: true,
        }),
        closed: () => this.onClosed(),
      },
      initializationFailedHandler: (error) => {
        this.log.error(String(error));
        return false;
      },
      connectionOptions: {},
      workspaceFolder: vscode.workspace.workspaceFolders?.[0] ?? {
        uri: vscode.Uri.file(homedir()),
        name: "",
        index: 0,
      },
    };
  }

  private onClosed(): {
    action: CloseAction;
    handled: boolean;
    message: string;
  } {
    const now = Date.now();
    this.restarts = [...this.restarts.filter((time) => now - time < restartWindowMs), now];
    if (this.restarts.length > maxRestarts) {
      tellEngineGone(
        vscode.l10n.t("it stopped {0} times within three minutes", this.restarts.length),
      );
      return {
        action: CloseAction.DoNotRestart,
        handled: true,
        message: "the engine stays down",
      };
    }
    if (!this.toldRestart) {
      this.toldRestart = true;
      tellEngineRestarted();
    }
    return {
      action: CloseAction.Restart,
      handled: true,
      message: "the engine stopped and is started again",
    };
  }
}

function engineFailure(error: unknown): RunResult {
  const reason = error instanceof Error ? error.message : String(error);
  return {
    outcome: "failed",
    message: vscode.l10n.t("the engine stopped during the run"),
    nextStep: vscode.l10n.t("Run again; if it stops again, the log has its last words."),
    details: reason,
  };
}
