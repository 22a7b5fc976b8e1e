import type { Verdict } from "../protocol/report.js";

/** What the process tells the shell; scripts rely on them. */
export const exitCodes = {
  success: 0,
  divergence: 1,
  wrongRequest: 2,
  unknown: 3,
  engineFailure: 4,
  cancelled: 130,
} as const;

export const exitCodeOfVerdict: Readonly<Record<Verdict, number>> = {
  pass: exitCodes.success,
  warn: exitCodes.success,
  fail: exitCodes.divergence,
  unknown: exitCodes.unknown,
};
