import type { OtherTools } from "./bench.js";
import type { Fault } from "./faults.js";
import type { Score } from "./score.js";

/** One line for each fault as it is done. */
export function printList(scores: readonly Score[]): void {
  for (const { fault, verdict, rank, extra, relL2, proves, wanted, got, ms } of scores) {
    const answer = isFaulty(fault)
      ? `rank ${rank ?? "-"}, extra ${extra}, proof ${proves === undefined ? "-" : proves ? "yes" : "no"}`
      : "";
    const cells = [
      fault.id.padEnd(18),
      fault.category.padEnd(16),
      verdict.padEnd(8),
      answer.padEnd(28),
      `output ${relL2.toExponential(1)}`,
      `${(ms / 1000).toFixed(1)} s`,
    ];
    console.log(cells.join(" "));
    if (isMissed({ fault, rank, extra, verdict } as Score)) {
      console.log(
        `    wanted ${wanted.join(" and ")}\n    got    ${got.join("\n           ") || "nothing"}`,
      );
    }
  }
}

function isFaulty({ honest, question }: Fault): boolean {
  return !honest && !question;
}

function isMissed({ fault, rank, extra, verdict }: Score): boolean {
  if (fault.honest) return isAccused({ fault, verdict } as Score) || verdict === "unknown";
  if (fault.question) return verdict === "pass" || verdict === "warn";
  return fault.effect !== false && (rank !== 1 || extra > 0);
}

function isAccused({ verdict }: Score): boolean {
  return verdict === "fail" || verdict === "error";
}

export interface TableOptions {
  readonly others: ReadonlyMap<string, OtherTools>;
  readonly withoutEffect: ReadonlySet<string>;
  readonly isHeldOut: (fault: Fault) => boolean;
}

/** The figures. Returns whether an honest variant was accused or a fault passed. */
export function printTables(
  scores: readonly Score[],
  { others, withoutEffect, isHeldOut }: TableOptions,
): boolean {
  const faults = scores.filter(
    ({ fault }) => isFaulty(fault) && fault.effect !== false && !withoutEffect.has(fault.id),
  );
  const honest = scores.filter(({ fault }) => fault.honest);
  const questions = scores.filter(({ fault }) => fault.question);
  const idle = scores.filter(
    ({ fault }) => isFaulty(fault) && (fault.effect === false || withoutEffect.has(fault.id)),
  );
  const groups: [string, Score[]][] = [
    ...by(faults, ({ fault }) => `port ${fault.port}`),
    ...by(faults, ({ fault }) => fault.category),
    ...by(faults, ({ fault }) => (isHeldOut(fault) ? "HELD OUT" : "TUNED ON")),
    ["ALL", faults],
  ];
  const head = [
    "",
    "faults",
    "noticed",
    "first",
    "in 3",
    "extra",
    "proof",
    "allclose",
    "Polygraphy",
  ];
  console.log(`\n${row(head)}`);
  for (const [name, list] of groups) {
    if (list.length === 0) continue;
    const share = (test: (score: Score) => boolean): string =>
      `${list.filter(test).length} (${Math.floor((100 * list.filter(test).length) / list.length)} %)`;
    const seenBy = (tool: keyof OtherTools): string =>
      share(({ fault }) => others.get(fault.id)?.[tool] === false);
    const singles = list.filter(({ fault }) => fault.edits.length === 1);
    const extra = singles.reduce((sum, score) => sum + score.extra, 0);
    const cells = [
      name,
      String(list.length),
      share(({ verdict }) => verdict === "fail"),
      share(({ rank }) => rank === 1),
      share(({ rank }) => rank !== undefined && rank <= 3),
      singles.length === 0 ? "-" : (extra / singles.length).toFixed(2),
      share(({ proves }) => proves === true),
      seenBy("allclose"),
      seenBy("polygraphy"),
    ];
    console.log(row(cells));
  }
  const count = (list: readonly Score[], verdicts: readonly string[]): number =>
    list.filter(({ verdict }) => verdicts.includes(verdict)).length;
  console.log(
    `\nhonest variants: ${honest.length}, PASS ${count(honest, ["pass"])}, WARN ${count(honest, ["warn"])}, UNKNOWN ${count(honest, ["unknown"])}, accused ${count(honest, ["fail", "error"])}`,
  );
  console.log(
    `without effect: ${idle.map(({ fault, verdict }) => `${fault.id} (${verdict})`).join(", ") || "none"}`,
  );
  console.log(
    `other inputs: ${questions.map(({ fault, verdict }) => `${fault.id} (${verdict})`).join(", ") || "none"}`,
  );
  const missed = scores.filter((score) => isMissed(score) && !withoutEffect.has(score.fault.id));
  console.log(`\nmissed, or more than the line: ${missed.length}`);
  printList(missed);
  return (
    honest.some(isAccused) ||
    [...faults, ...questions].some(({ verdict }) => verdict === "pass" || verdict === "warn")
  );
}

function by(scores: readonly Score[], key: (score: Score) => string): [string, Score[]][] {
  const groups = new Map<string, Score[]>();
  for (const score of scores) {
    const group = groups.get(key(score));
    if (group) group.push(score);
    else groups.set(key(score), [score]);
  }
  return [...groups].sort(([a], [b]) => a.localeCompare(b));
}

function row(cells: readonly string[]): string {
  return cells.map((cell, at) => (at === 0 ? cell.padEnd(20) : cell.padStart(11))).join(" ");
}
