import type { Report } from "../../engine/protocol/report.js";
import type { PanelAddress } from "../../engine/protocol/requests.js";

/**
 * The two interfaces between the layer diff panel and its host, one per direction. A hidden panel loses messages, so
 * every host message is a snapshot: after `ready` the host sends `showState` and, when it has one, `showReport`.
 */
export type HostMessage =
  ShowReportMessage | ShowStateMessage | SelectMessage | StaleMessage | ThemeMessage;

/** Replaces the report. Without `address` the panel keeps its selection where that row still exists. */
export interface ShowReportMessage {
  type: "showReport";
  report: Report;
  address?: PanelAddress;
  /** Files that changed since the run, named as in the report's sites. */
  stale?: string[];
}

export type PanelStateName = "empty" | "running" | "stopped" | "ready";

/** What goes on beside the report: a run under way dims the last report and shows its progress. */
export interface ShowStateMessage {
  type: "showState";
  state: PanelStateName;
  progress?: PanelProgress;
  /** Why the engine or the last run stopped, one sentence. */
  message?: string;
  /** What to do about it, one sentence. */
  nextStep?: string;
}

export interface PanelProgress {
  /** The step under way, for example "evaluating layers.1". */
  text: string;
  /** 0 … 100; absent when it is not known. */
  percent?: number;
}

/** Selects a row or an origin without taking the focus. */
export interface SelectMessage {
  type: "select";
  address: PanelAddress;
}

/** Files that changed since the run, after edits. Replaces the former list. */
export interface StaleMessage {
  type: "stale";
  files: string[];
}

/** The colour theme changed; the panel reads its colours again. */
export interface ThemeMessage {
  type: "theme";
}

export type PanelMessage =
  | { type: "ready" }
  | OpenSiteMessage
  | { type: "runAgain" }
  | { type: "runParity" }
  | { type: "cancel" }
  | { type: "showLog" }
  | { type: "copy"; text: string }
  | { type: "selectionChanged"; address: PanelAddress };

/** `file` as in the report: relative to `run.base`, or absolute for a file outside it. 1-based line and column. */
export interface OpenSiteMessage {
  type: "openSite";
  file: string;
  line: number;
  column?: number;
  /** In an editor beside the panel; otherwise where VS Code likes. */
  beside: boolean;
}

export type Decoded<T> = { message: T } | { error: string };

/** Decodes what the host sent. The report is checked as deep as the panel needs to draw without failing. */
export function decodeHostMessage(value: unknown): Decoded<HostMessage> {
  if (!isRecord(value)) return { error: "a host message is not an object" };
  switch (value["type"]) {
    case "showReport":
      return decodeShowReport(value);
    case "showState":
      return decodeShowState(value);
    case "select": {
      const address = decodeAddress(value["address"]);
      return address ? { message: { type: "select", address } } : bad("select.address");
    }
    case "stale":
      return isTexts(value["files"])
        ? { message: { type: "stale", files: value["files"] } }
        : bad("stale.files");
    case "theme":
      return { message: { type: "theme" } };
    default:
      return {
        error: `the panel knows no host message "${String(value["type"])}"`,
      };
  }
}

/** Decodes what the panel sent. A webview's content is not trusted more than any other input. */
export function decodePanelMessage(value: unknown): Decoded<PanelMessage> {
  if (!isRecord(value)) return { error: "a panel message is not an object" };
  switch (value["type"]) {
    case "ready":
    case "runAgain":
    case "runParity":
    case "cancel":
    case "showLog":
      return { message: { type: value["type"] } };
    case "copy":
      return typeof value["text"] === "string"
        ? { message: { type: "copy", text: value["text"] } }
        : bad("copy.text");
    case "openSite":
      return decodeOpenSite(value);
    case "selectionChanged": {
      const address = decodeAddress(value["address"]);
      return address
        ? { message: { type: "selectionChanged", address } }
        : bad("selectionChanged.address");
    }
    default:
      return {
        error: `the host knows no panel message "${String(value["type"])}"`,
      };
  }
}

function decodeShowReport(value: Record<string, unknown>): Decoded<HostMessage> {
  const fault = reportFault(value["report"]);
  if (fault) return { error: `this is not a report: ${fault}` };
  const address = value["address"] === undefined ? undefined : decodeAddress(value["address"]);
  if (value["address"] !== undefined && !address) return bad("showReport.address");
  if (value["stale"] !== undefined && !isTexts(value["stale"])) return bad("showReport.stale");
  return {
    message: {
      type: "showReport",
      report: value["report"] as Report,
      ...(address && { address }),
      ...(isTexts(value["stale"]) && { stale: value["stale"] }),
    },
  };
}

function decodeShowState(value: Record<string, unknown>): Decoded<HostMessage> {
  const { state, progress, message, nextStep } = value;
  if (!isStateName(state)) return bad("showState.state");
  if (message !== undefined && typeof message !== "string") return bad("showState.message");
  if (nextStep !== undefined && typeof nextStep !== "string") return bad("showState.nextStep");
  const decoded = progress === undefined ? undefined : decodeProgress(progress);
  if (progress !== undefined && !decoded) return bad("showState.progress");
  return {
    message: {
      type: "showState",
      state,
      ...(decoded && { progress: decoded }),
      ...(message !== undefined && { message }),
      ...(nextStep !== undefined && { nextStep }),
    },
  };
}

function decodeOpenSite(value: Record<string, unknown>): Decoded<PanelMessage> {
  const { file, line, column, beside } = value;
  if (typeof file !== "string" || file === "") return bad("openSite.file");
  if (!isPosition(line)) return bad("openSite.line");
  if (column !== undefined && !isPosition(column)) return bad("openSite.column");
  if (typeof beside !== "boolean") return bad("openSite.beside");
  return {
    message: {
      type: "openSite",
      file,
      line,
      beside,
      ...(column !== undefined && { column }),
    },
  };
}

/** Decodes an address; undefined when it is none. Also used on the state that the panel kept over a reload. */
export function decodeAddress(value: unknown): PanelAddress | undefined {
  if (!isRecord(value)) return undefined;
  const address: PanelAddress = {};
  for (const key of ["candidate", "row", "origin"] as const) {
    const part = value[key];
    if (part === undefined) continue;
    if (typeof part !== "string") return undefined;
    address[key] = part;
  }
  return address;
}

function decodeProgress(value: unknown): PanelProgress | undefined {
  if (!isRecord(value) || typeof value["text"] !== "string") return undefined;
  const percent = value["percent"];
  if (percent === undefined) return { text: value["text"] };
  if (typeof percent !== "number" || !Number.isFinite(percent)) return undefined;
  return { text: value["text"], percent: Math.min(100, Math.max(0, percent)) };
}

/** What is wrong with a value that should be a report of this or a newer schema; undefined when it can be drawn. */
function reportFault(value: unknown): string | undefined {
  if (!isRecord(value)) return "it is not an object";
  if (typeof value["schemaVersion"] !== "number") return "schemaVersion is not a number";
  if (value["schemaVersion"] < 1) return `schemaVersion ${value["schemaVersion"]} does not exist`;
  for (const key of ["verdict", "summary", "reference"]) {
    if (typeof value[key] !== "string") return `${key} is not a text`;
  }
  for (const key of ["implementations", "sources", "pairs", "problems"]) {
    if (!isRecords(value[key])) return `${key} is not a list of objects`;
  }
  if (!isRecord(value["run"])) return "run is not an object";
  return (
    firstFault(value["pairs"] as Record<string, unknown>[], "pairs", pairFault) ??
    firstFault(
      value["implementations"] as Record<string, unknown>[],
      "implementations",
      implementationFault,
    )
  );
}

function pairFault(pair: Record<string, unknown>): string | undefined {
  for (const key of ["rows", "origins", "declared"]) {
    if (!isRecords(pair[key])) return `${key} is not a list of objects`;
  }
  for (const key of ["coverage", "output"]) {
    if (!isRecord(pair[key])) return `${key} is not an object`;
  }
  return firstFault(pair["rows"] as Record<string, unknown>[], "rows", rowFault);
}

function rowFault(row: Record<string, unknown>): string | undefined {
  for (const key of ["id", "key", "name", "stage", "verdict"]) {
    if (typeof row[key] !== "string") return `${key} is not a text`;
  }
  for (const key of ["inputs", "outputs"]) {
    if (!isTexts(row[key])) return `${key} is not a list of row ids`;
  }
  return undefined;
}

function implementationFault(implementation: Record<string, unknown>): string | undefined {
  const parameters = implementation["parameters"];
  if (!isRecord(parameters)) return "parameters is not an object";
  for (const key of ["same", "transposed", "different", "notFromReference", "missing"]) {
    if (!isRecords(parameters[key])) return `parameters.${key} is not a list of objects`;
  }
  return undefined;
}

function firstFault(
  items: readonly Record<string, unknown>[],
  path: string,
  faultOf: (item: Record<string, unknown>) => string | undefined,
): string | undefined {
  for (const [index, item] of items.entries()) {
    const fault = faultOf(item);
    if (fault) return `${path}[${index}].${fault}`;
  }
  return undefined;
}

function bad(field: string): { error: string } {
  return { error: `${field} has another form than the panel's protocol says` };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isRecords(value: unknown): value is Record<string, unknown>[] {
  return Array.isArray(value) && value.every(isRecord);
}

function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === "string");
}

function isPosition(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 1;
}

function isStateName(value: unknown): value is PanelStateName {
  return value === "empty" || value === "running" || value === "stopped" || value === "ready";
}
