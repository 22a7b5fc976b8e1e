import type { Problem, Site } from "./report.js";

/** A mistake of the user's that the engine understands: shown without a stack trace, with the next step. Exit code 2. */
export class UserError extends Error {
  readonly problems: Problem[];
  constructor(problems: Problem | Problem[]) {
    const all = Array.isArray(problems) ? problems : [problems];
    super(all.map((p) => p.message).join("\n"));
    this.name = "UserError";
    this.problems = all;
  }
}

export function userError(code: string, message: string, nextStep: string, site?: Site): UserError {
  return new UserError({ severity: "error", code, message, nextStep, ...(site && { site }) });
}
