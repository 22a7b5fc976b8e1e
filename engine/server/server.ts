import path from "node:path";
import {
  MarkupKind,
  TextDocuments,
  TextDocumentSyncKind,
  WorkDoneProgress,
  type CancellationToken,
  type Connection,
  type Diagnostic,
  type WorkDoneProgressBegin,
  type WorkDoneProgressEnd,
  type WorkDoneProgressReport,
} from "vscode-languageserver/node";
import { TextDocument } from "vscode-languageserver-textdocument";
import { URI } from "vscode-uri";
import type { Problem } from "../protocol/report.js";
import {
  reportChanged,
  runRequest,
  staleChanged,
  type EngineOptions,
  type ReportChangedParams,
  type RunParams,
  type RunResult,
  type StaleChangedParams,
} from "../protocol/requests.js";
import type { RunFile } from "../protocol/runFile.js";
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
} from "../protocol/scriptRequests.js";
import { UserError } from "../protocol/userError.js";
import { problemDiagnostic } from "./diagnostics.js";
import { inEditorWords } from "./editorWords.js";
import { listInterpreters } from "./interpreters.js";
import { linesOf } from "./lineTracker.js";
import { notOnDisk, notRunnable } from "./notOnDisk.js";
import { readReport } from "./reportFile.js";
import { createRuns, type RunsParts } from "./runs.js";
import { forwardOutput } from "./scriptOutput.js";
import { showReport, type ShownReport } from "./shownReport.js";
import { fileKey } from "./siteIndex.js";

export interface ServerParts extends RunsParts {
  readonly parseRunFile: (text: string, file: string) => { runFile?: RunFile; problems: Problem[] };
  readonly env: NodeJS.ProcessEnv;
}

export interface Server {
  /** Ends all runs and the processes that they started, before it returns. */
  stop(): void;
}

/**
 * The engine as a language server: runs run files and scripts, and shows the last report as diagnostics and hovers.
 */
export function startServer(connection: Connection, parts: ServerParts): Server {
  const documents = new TextDocuments(TextDocument);
  const runs = createRuns(parts);
  let options: EngineOptions | undefined;
  let shown: ShownReport | undefined;
  let stale = "";
  /** By file: what the run file itself says, and what the last run said about a run file or a script. */
  const written = new Map<string, readonly Problem[]>();
  const met = new Map<string, readonly Problem[]>();
  /** Versions of the open documents when they were opened: that event counts as a change of their content too. */
  const opened = new Map<string, number>();

  const publish = (file: string): void => {
    const uri = uriOf(file);
    const own = [...(written.get(file) ?? []), ...(met.get(file) ?? [])];
    const text = own.length > 0 ? documents.get(uri)?.getText() : undefined;
    const lines = text === undefined ? [] : linesOf(text);
    const diagnostics: Diagnostic[] = [
      ...withoutDoubles(own).map((problem) => problemDiagnostic(problem, lines)),
      ...(shown?.diagnostics(file) ?? []),
    ];
    void connection.sendDiagnostics({ uri, diagnostics });
  };
  const uriOf = (file: string): string =>
    documents.all().find((document) => fileOf(document.uri) === file)?.uri ??
    URI.file(file).toString();

  const tellStale = (): void => {
    const files = shown?.staleFiles() ?? [];
    const key = files.join("\n");
    if (key === stale) return;
    stale = key;
    void connection.sendNotification(staleChanged, {
      files,
    } satisfies StaleChangedParams);
  };

  const show = (next: ShownReport | undefined): void => {
    const files = new Set([...(shown?.files ?? []), ...(next?.files ?? [])]);
    shown = next;
    stale = "";
    for (const document of documents.all()) {
      const file = fileOf(document.uri);
      if (file !== undefined) shown?.setText(file, document.getText());
    }
    void connection.sendNotification(reportChanged, {
      ...(next && { report: next.report, reportFile: next.reportFile }),
    } satisfies ReportChangedParams);
    for (const file of files) publish(file);
    tellStale();
  };

  const parseOpenRunFile = (document: TextDocument): void => {
    const file = fileOf(document.uri);
    if (file === undefined || !isRunFile(file)) return;
    written.set(file, parts.parseRunFile(document.getText(), file).problems);
    met.delete(file);
    publish(file);
  };

  connection.onInitialize((params) => {
    options = decodeOptions(params.initializationOptions);
    return {
      capabilities: {
        textDocumentSync: {
          openClose: true,
          change: TextDocumentSyncKind.Incremental,
        },
        hoverProvider: true,
      },
      serverInfo: { name: "HSTU Parity" },
    };
  });

  connection.onInitialized(() => {
    const last = options?.lastReport;
    if (last === undefined) return;
    void readReport(last).then(async (report) => {
      if (report && !shown) show(await showReport(report, last));
    });
  });

  connection.onRequest(
    runRequest,
    async (params: RunParams, token: CancellationToken): Promise<RunResult> => {
      const file = fileOf(params.runFile);
      if (file === undefined || !options) {
        return notRunnable(params.runFile);
      }
      const { storage } = options;
      return withProgress(file, params.workDoneToken, token, async (progress, signal) => {
        const { runFile: uri, workDoneToken: _token, ...wishes } = params;
        const output = forwardOutput((text) => {
          const printed: ScriptPrintedParams = { script: uri, text };
          void connection.sendNotification(scriptPrinted, printed);
        });
        try {
          return await runs.run(
            {
              ...wishes,
              runFile: file,
              text: documents.get(uriOf(file))?.getText(),
              storage,
              env: parts.env,
              onProgress: progress.report,
              onOutput: output.add,
            },
            signal,
          );
        } finally {
          output.end();
        }
      });
    },
  );

  connection.onRequest(
    runScriptRequest,
    async (params: RunScriptParams, token: CancellationToken): Promise<RunResult> => {
      const { script: uri, workDoneToken, ...wishes } = params;
      const file = fileOf(uri);
      if (file === undefined || !options) return notRunnable(uri);
      const { storage } = options;
      return withProgress(file, workDoneToken, token, async (progress, signal) => {
        const output = forwardOutput((text) => {
          const printed: ScriptPrintedParams = { script: uri, text };
          void connection.sendNotification(scriptPrinted, printed);
        });
        try {
          return await runs.runScript(
            {
              ...wishes,
              script: file,
              storage,
              env: parts.env,
              onProgress: progress.report,
              onInterpreter: (interpreter) => {
                const found: InterpreterFoundParams = { script: uri, interpreter };
                void connection.sendNotification(interpreterFound, found);
              },
              onOutput: output.add,
            },
            signal,
          );
        } finally {
          output.end();
        }
      });
    },
  );

  connection.onRequest(
    saveRunFileRequest,
    async ({ file }: SaveRunFileParams): Promise<SaveRunFileResult> => {
      const absolute = fileOf(file);
      if (absolute === undefined) return { problems: [notOnDisk(file)] };
      try {
        await runs.saveRunFile(absolute);
        return { problems: [] };
      } catch (error) {
        if (error instanceof UserError) return { problems: [...error.problems].map(inEditorWords) };
        throw error;
      }
    },
  );

  connection.onRequest(
    interpretersRequest,
    (params: InterpretersParams, token: CancellationToken): Promise<InterpretersResult> =>
      listInterpreters(params, parts.env, signalOf(token)),
  );

  const withProgress = async (
    file: string,
    workDoneToken: string | number | undefined,
    token: CancellationToken,
    run: (progress: Progress, signal: AbortSignal) => Promise<RunResult>,
  ): Promise<RunResult> => {
    const progress = progressOf(connection, workDoneToken);
    progress.begin(path.basename(file));
    try {
      const result = await run(progress, signalOf(token));
      await showOutcome(file, result);
      return result;
    } finally {
      progress.end();
    }
  };

  const showOutcome = async (file: string, result: RunResult): Promise<void> => {
    if (result.outcome === "cancelled") return;
    for (const other of [...met.keys()]) {
      met.delete(other);
      publish(other);
    }
    if (result.outcome === "failed") {
      connection.console.error(`${result.message}\n${result.details}`);
    } else if (result.outcome === "invalid") {
      for (const problem of result.problems) {
        const at = problem.site?.file
          ? fileKey(path.resolve(path.dirname(file), problem.site.file))
          : file;
        // A problem of another file (a model, a trace) is shown on the run file, which the user can mend; a script's
        // modules can be mended themselves.
        const place = isRunFile(at) || !isRunFile(file) ? at : file;
        const here = place === at ? problem : withoutSite(problem);
        met.set(place, [...(met.get(place) ?? []), here]);
      }
      for (const place of met.keys()) publish(place);
    } else {
      show(await showReport(result.report, result.reportFile));
    }
  };

  connection.onHover(({ textDocument, position }) => {
    const file = fileOf(textDocument.uri);
    const value = file === undefined ? undefined : shown?.hover(file, position.line + 1);
    if (value === undefined) return null;
    return { contents: { kind: MarkupKind.Markdown, value } };
  });

  documents.onDidOpen(({ document }) => opened.set(document.uri, document.version));

  documents.onDidChangeContent(({ document }) => {
    parseOpenRunFile(document);
    const file = fileOf(document.uri);
    if (file === undefined) return;
    // What the last run said about a script's line is no longer about this text.
    if (opened.get(document.uri) !== document.version && met.delete(file)) publish(file);
    if (!shown?.files.includes(file)) return;
    shown.setText(file, document.getText());
    publish(file);
    tellStale();
  });

  documents.onDidClose(({ document }) => {
    opened.delete(document.uri);
    const file = fileOf(document.uri);
    if (file === undefined) return;
    if (written.delete(file)) publish(file);
    // What was not saved is gone: the lines are what they are on disk.
    void shown?.reread(file).then(() => {
      publish(file);
      tellStale();
    });
  });

  connection.onShutdown(() => runs.cancelAll());
  connection.onExit(() => runs.cancelAll());

  documents.listen(connection);
  connection.listen();
  return { stop: () => runs.cancelAll() };
}

interface Progress {
  readonly begin: (title: string) => void;
  readonly report: (stage: string, fraction?: number) => void;
  readonly end: () => void;
}

function progressOf(connection: Connection, token: string | number | undefined): Progress {
  if (token === undefined) {
    return {
      begin: () => undefined,
      report: () => undefined,
      end: () => undefined,
    };
  }
  const send = (value: Parameters<typeof connection.sendProgress<WorkDoneValue>>[2]): void =>
    void connection.sendProgress<WorkDoneValue>(WorkDoneProgress.type, token, value);
  return {
    begin: (title) => send({ kind: "begin", title, cancellable: true, percentage: 0 }),
    report: (message, fraction) =>
      send({
        kind: "report",
        message,
        ...(fraction !== undefined && {
          percentage: Math.round(100 * fraction),
        }),
      }),
    end: () => send({ kind: "end" }),
  };
}

type WorkDoneValue = WorkDoneProgressBegin | WorkDoneProgressReport | WorkDoneProgressEnd;

function signalOf(token: CancellationToken): AbortSignal {
  const cancel = new AbortController();
  if (token.isCancellationRequested) cancel.abort();
  token.onCancellationRequested(() => cancel.abort());
  return cancel.signal;
}

function withoutSite({ site, message, ...problem }: Problem): Problem {
  return {
    ...problem,
    message:
      site && !message.includes(path.basename(site.file)) ? `${site.file}: ${message}` : message,
  };
}

function withoutDoubles(problems: readonly Problem[]): Problem[] {
  const seen = new Set<string>();
  return problems.filter(({ code, message, site }) => {
    const key = `${code}\n${site?.line ?? 1}\n${message}`;
    return !seen.has(key) && seen.add(key);
  });
}

function isRunFile(file: string): boolean {
  return file.endsWith(".parity.json");
}

function fileOf(uri: string): string | undefined {
  const parsed = URI.parse(uri);
  return parsed.scheme === "file" ? parsed.fsPath : undefined;
}

function decodeOptions(value: unknown): EngineOptions {
  const { storage, lastReport } = (value ?? {}) as Record<string, unknown>;
  if (typeof storage !== "string" || !path.isAbsolute(storage)) {
    throw new Error("initializationOptions.storage is not an absolute folder");
  }
  return { storage, ...(typeof lastReport === "string" && { lastReport }) };
}
