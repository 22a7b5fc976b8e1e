/** One statement of a source file as far as the search for lines needs it; of a compound one, its head. */
export interface Statement {
  /** 1-based, inclusive. */
  readonly line: number;
  readonly endLine: number;
  readonly kind: "assignment" | "return" | "condition" | "loop" | "parameter" | "other";
  /** The function that it stands in, and the line of its `def`; "<module>" and 0 outside any. */
  readonly function: string;
  readonly functionLine: number;
  /** The line of the innermost `if` around it, 0 without one. */
  readonly condition: number;
  /** The line of the innermost loop around it, 0 without one. */
  readonly loop: number;
  /** The innermost class around it, "" outside any. */
  readonly class: string;
  /** Variables and attributes, as "x" and "self.x". */
  readonly reads: readonly string[];
  readonly writes: readonly string[];
}

/** The statements of a file, in order; none where it cannot be read or is in no language that is known. */
export type StatementsOf = (file: string) => readonly Statement[];
