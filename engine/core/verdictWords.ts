import type { RowVerdict, Verdict } from "../protocol/report.js";

/** Glyph and word of a verdict; glyphs differ by shape, so that none is told by colour alone. */
export interface VerdictWord {
  readonly glyph: string;
  readonly word: string;
}

export const rowVerdictWords: Readonly<Record<RowVerdict, VerdictWord>> = {
  match: { glyph: "✓", word: "match" },
  origin: { glyph: "◆", word: "origin" },
  carrier: { glyph: "→", word: "carrier" },
  amplifier: { glyph: "▲", word: "amplifier" },
  masking: { glyph: "▽", word: "masking" },
  expected: { glyph: "≈", word: "expected" },
  paddingOnly: { glyph: "▒", word: "padding only" },
  unknown: { glyph: "?", word: "unknown" },
};

/** Worst first: a line shows the first that occurs among its rows. */
export const worstFirst: readonly RowVerdict[] = [
  "origin",
  "amplifier",
  "carrier",
  "masking",
  "unknown",
  "paddingOnly",
  "expected",
  "match",
];

export function worstOf(verdicts: readonly RowVerdict[]): RowVerdict {
  return worstFirst.find((verdict) => verdicts.includes(verdict)) ?? "unknown";
}

export const verdictWords: Readonly<Record<Verdict, VerdictWord>> = {
  pass: { glyph: "✓", word: "pass" },
  warn: { glyph: "!", word: "warning" },
  unknown: { glyph: "?", word: "unknown" },
  fail: { glyph: "✗", word: "fail" },
};
