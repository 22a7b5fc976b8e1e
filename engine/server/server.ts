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
import { problemDiagnostic } from "./diagnostics.js";
import { linesOf } from "./lineTracker.js";
import { readReport } from "./reportFile.js";
import { createRuns, type RunParity } from "./runs.js";
import { showReport, type ShownReport } from "./shownReport.js";
import { fileKey } from "./siteIndex.js";

export interface ServerParts {
  readonly runParity: RunParity;
  readonly parseRunFile: (text: string, file: string) => { runFile?: RunFile; problems: Problem[] };
  /** The bundled runner child. */
  readonly runnerEntry: string;
}

/** The engine as a language server: runs run files, and shows the last report as diagnostics and hovers. */
export function startServer(connection: Connection, parts: ServerParts): void {
  const documents = new TextDocuments(TextDocument);
  const runs = createRuns(parts.runParity, parts.runnerEntry);
  let options: EngineOptions | undefined;
  let shown: ShownReport | undefined;
  let stale = "";
  /** By file: what the run file itself says, and what the last run said about it. */
  const written = new Map<string, readonly Problem[]>();
  const met = new Map<string, readonly Problem[]>();

  const publish = (file: string): void => {
    const uri = uriOf(file);
    const own = [...(written.get(file) ?? []), ...(met.get(file) ?? [])];
    const lines = own.length > 0 ? linesOf(documents.get(uri)?.getText() ?? "") : [];
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
      const cancel = new AbortController();
      if (token.isCancellationRequested) cancel.abort();
      const listening = token.onCancellationRequested(() => cancel.abort());
      const progress = progressOf(connection, params.workDoneToken);
      progress.begin(path.basename(file));
      try {
        const { provider, timeoutSeconds } = params;
        const result = await runs.run(
          {
            runFile: file,
            text: documents.get(uriOf(file))?.getText(),
            storage: options.storage,
            onProgress: (stage, fraction) => progress.report(stage, fraction),
            ...(provider && { provider }),
            ...(timeoutSeconds !== undefined && { timeoutSeconds }),
          },
          cancel.signal,
        );
        await showOutcome(file, result);
        return result;
      } finally {
        listening.dispose();
        progress.end();
      }
    },
  );

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
        // A problem of another file (a model, a trace) is shown on the run file, which the user can mend.
        const place = isRunFile(at) ? at : file;
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

  documents.onDidChangeContent(({ document }) => {
    parseOpenRunFile(document);
    const file = fileOf(document.uri);
    if (file === undefined || !shown?.files.includes(file)) return;
    shown.setText(file, document.getText());
    publish(file);
    tellStale();
  });

  documents.onDidClose(({ document }) => {
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
}

interface Progress {
  begin(title: string): void;
  report(stage: string, fraction?: number): void;
  end(): void;
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

function notRunnable(uri: string): RunResult {
  return {
    outcome: "invalid",
    problems: [
      {
        severity: "error",
        code: "run-file-not-on-disk",
        message: `${uri} is not a file on disk`,
        nextStep: "Save the run file first; its paths are relative to where it lies.",
      },
    ],
  };
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
