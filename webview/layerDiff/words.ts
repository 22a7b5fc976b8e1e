import type { PairedBy, RowVerdict, Verdict } from "../../engine/protocol/report.js";

/** How a row's verdict is drawn and said. Shapes differ as well as colours, so that none is told by colour alone. */
export interface VerdictWords {
  glyph: string;
  label: string;
  meaning: string;
}

const rowVerdictWords: Record<RowVerdict, VerdictWords> = {
  match: {
    glyph: "✓",
    label: "match",
    meaning: "The total difference is within the gate.",
  },
  origin: {
    glyph: "◆",
    label: "origin",
    meaning:
      "This line makes the difference: with the reference's inputs it is still over the gate.",
  },
  carrier: {
    glyph: "→",
    label: "carrier",
    meaning: "The difference comes in with the inputs; the line itself is innocent.",
  },
  amplifier: {
    glyph: "▲",
    label: "amplifier",
    meaning: "Innocent, but it enlarges the difference of its inputs more than ten times.",
  },
  masking: {
    glyph: "▽",
    label: "masking",
    meaning:
      "Less than a tenth of the inputs' difference is left: a clamp, a mask or saturation hides it.",
  },
  expected: {
    glyph: "≈",
    label: "expected",
    meaning: "The run file declares this difference.",
  },
  paddingOnly: {
    glyph: "▒",
    label: "padding only",
    meaning: "The valid elements match; only the padding differs.",
  },
  unknown: {
    glyph: "?",
    label: "unknown",
    meaning: "Not paired, or the candidate's op could not be evaluated on the reference's values.",
  },
};

/** Worst first, what is not known last: a group shows the first that occurs among its rows. */
export const rowVerdictsWorstFirst: readonly RowVerdict[] = [
  "origin",
  "amplifier",
  "carrier",
  "masking",
  "paddingOnly",
  "expected",
  "match",
  "unknown",
];

/** A verdict of a newer schema that this version does not know is drawn as unknown, under its own name. */
export function wordsOfRowVerdict(verdict: string): VerdictWords {
  return isRowVerdict(verdict)
    ? rowVerdictWords[verdict]
    : { ...rowVerdictWords.unknown, label: verdict };
}

export function isRowVerdict(verdict: string): verdict is RowVerdict {
  return Object.hasOwn(rowVerdictWords, verdict);
}

const reportVerdictWords: Record<Verdict, VerdictWords> = {
  pass: {
    glyph: "✓",
    label: "Pass",
    meaning: "Every compared op is within its gate.",
  },
  warn: {
    glyph: "!",
    label: "Warning",
    meaning: "The values match; something else differs.",
  },
  unknown: {
    glyph: "?",
    label: "Unknown",
    meaning: "Too little could be compared to decide.",
  },
  fail: {
    glyph: "✗",
    label: "Fail",
    meaning: "A line makes a difference, or the output is off.",
  },
};

export function wordsOfVerdict(verdict: string): VerdictWords {
  return Object.hasOwn(reportVerdictWords, verdict)
    ? reportVerdictWords[verdict as Verdict]
    : { ...reportVerdictWords.unknown, label: verdict };
}

const pairedByWords: Record<PairedBy, string> = {
  shape: "the ones of this shape that were left over on both sides",
  name: "both sources use this name",
  normalisedName: "the names agree after normalising",
  content: "the values agree",
  declared: "declared in the run file",
  signature: "the values have one signature",
  lockstep: "found by the walk along both graphs",
  use: "the ops that read it: with this value they make what the reference makes",
  output: "both are the model's output",
};

export function wordsOfPairing(pairedBy: string): string {
  return Object.hasOwn(pairedByWords, pairedBy) ? pairedByWords[pairedBy as PairedBy] : pairedBy;
}

const gateWords = {
  noise: "measured from what honest rounding makes here",
  floor: "the floor for this type",
  user: "yours, from the run file",
} as const;

export function wordsOfGate(from: string): string {
  return Object.hasOwn(gateWords, from) ? gateWords[from as keyof typeof gateWords] : from;
}
