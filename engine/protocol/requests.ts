import type { Report } from "./report.js";
import type { Provider } from "./runFile.js";
import type { InterpreterWish } from "./scriptRequests.js";

/** What travels between the extension and the engine besides LSP itself. One constant per message. */

/** Request: run a run file. Progress comes as LSP work-done progress; cancelled by LSP cancellation. */
export const runRequest = "hstuParity/run";
export interface RunParams {
  /** URI of the run file. */
  runFile: string;
  noCache?: boolean;
  /** Instead of the run file's. */
  provider?: Provider;
  /** Limit for one evaluation in the runner, and for a script as a whole. */
  timeoutSeconds?: number;
  /** How the Python is found that runs scripts which the run file names. */
  python?: InterpreterWish;
  /** MiB of tensors of a script after which floats are kept as statistics and samples. */
  byteBudget?: number;
  workDoneToken?: string | number;
}
export type RunResult =
  | { outcome: "report"; report: Report; reportFile: string }
  | { outcome: "invalid"; problems: Report["problems"] }
  | { outcome: "failed"; message: string; nextStep: string; details: string }
  | { outcome: "cancelled" };

/** What the extension tells the engine when it starts it (`initializationOptions`). */
export interface EngineOptions {
  /** Absolute folder for reports; the engine makes it. */
  storage: string;
  /** The report that was shown last, to be shown again. */
  lastReport?: string;
}

/** Notification, engine → extension: the report that hovers and diagnostics now come from. */
export const reportChanged = "hstuParity/reportChanged";
export interface ReportChangedParams {
  /** Absent when there is none. */
  report?: Report;
  reportFile?: string;
}

/** Notification, engine → extension: stale findings, by file URI, after edits. */
export const staleChanged = "hstuParity/staleChanged";
export interface StaleChangedParams {
  files: string[];
}

/** Command that hover links call to open the panel at an address. */
export const openPanelCommand = "hstuParity.openPanelAt";
export interface PanelAddress {
  candidate?: string;
  row?: string;
  origin?: string;
}

/** Command that hover links call to go to a source line. */
export const goToSiteCommand = "hstuParity.goToSite";
export interface GoToSiteArguments {
  file: string;
  line: number;
  column?: number;
}
