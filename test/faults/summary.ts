import type { Result } from "./score.js";

/** One line for one case. */
export function resultLine(result: Result): string {
  const { honest, verdict, noEffect, rank, extra, relL2, proves, minimal } = result;
  const rankText = honest
    ? result.noticed
      ? "honest"
      : "ACCUSED"
    : noEffect
      ? "no effect"
      : result.asksForLine
        ? `rank ${rank ?? "–"}`
        : result.noticed
          ? "asked"
          : "missed";
  return [
    result.id.padEnd(44),
    result.category.padEnd(19),
    verdict.padEnd(8),
    rankText.padEnd(10),
    `extra ${extra}`,
    `relL2 ${relL2 === undefined ? "–" : relL2.toExponential(1)}`.padEnd(14),
    `proof ${proves === undefined ? "–" : proves ? (minimal ? "minimal" : "yes") : "no"}`.padEnd(
      14,
    ),
    `allclose ${sees(result.allclose)}`.padEnd(18),
    `polygraphy ${sees(result.polygraphy)}`.padEnd(20),
    `${result.seconds.toFixed(1)} s`,
  ].join(" ");
}

function sees(passes: boolean | undefined): string {
  return passes === undefined ? "–" : passes ? "passes" : "fails";
}

/** The tables, and what was missed. */
export function summarise(results: readonly Result[]): string {
  const parts: string[] = [];
  for (const [title, part] of [
    ["tuned", results.filter((result) => !result.heldOut)],
    ["held out", results.filter((result) => result.heldOut)],
  ] as const) {
    if (part.length === 0) continue;
    const faults = part.filter((result) => !result.honest && !result.noEffect);
    const honest = part.filter((result) => result.honest);
    if (faults.length > 0) parts.push(faultTable(`Faults, ${title}`, faults));
    if (honest.length > 0) parts.push(honestTable(`Honest variants, ${title}`, honest));
    parts.push(...missed(title, part));
  }
  return parts.join("\n\n");
}

function faultTable(title: string, faults: readonly Result[]): string {
  const head = [
    "",
    "n",
    "noticed",
    "first",
    "in three",
    "extra",
    "proof",
    "allclose",
    "polygraphy",
  ];
  const row = (name: string, some: readonly Result[]): string[] => {
    const located = some.filter((result) => result.asksForLine);
    const singles = located.filter((result) => result.faults === 1);
    const extra = singles.reduce((sum, result) => sum + result.extra, 0);
    return [
      name,
      String(some.length),
      share(some, (r) => r.noticed),
      share(located, (r) => r.rank === 1),
      share(located, (r) => (r.rank ?? 9) <= 3),
      singles.length === 0 ? "–" : (extra / singles.length).toFixed(3),
      share(located, (r) => r.proves === true),
      share(some, (r) => r.allclose === false),
      share(some, (r) => r.polygraphy === false),
    ];
  };
  return table(title, head, [
    ...by(faults, (r) => r.category).map(([name, some]) => row(name, some)),
    ...by(faults, (r) => r.port).map(([name, some]) => row(`port ${name}`, some)),
    row("all", faults),
  ]);
}

function honestTable(title: string, honest: readonly Result[]): string {
  const row = (name: string, some: readonly Result[]): string[] => [
    name,
    String(some.length),
    share(some, (r) => r.verdict === "pass"),
    share(some, (r) => r.verdict === "warn"),
    share(some, isAccused),
    share(some, (r) => r.polygraphy === false),
  ];
  return table(
    title,
    ["", "n", "PASS", "WARN", "accused", "polygraphy"],
    [
      ...by(honest, (r) => r.port).map(([name, some]) => row(`port ${name}`, some)),
      row("all", honest),
    ],
  );
}

/** A verdict that says that something is wrong, or a line that is called the cause. */
export function isAccused({ honest, noticed, verdict, got }: Result): boolean {
  return honest && (got.length > 0 || (!noticed && verdict === "fail"));
}

function missed(title: string, part: readonly Result[]): string[] {
  const isMissed = (r: Result): boolean =>
    !r.noEffect &&
    (r.honest
      ? isAccused(r) || !r.noticed
      : !r.noticed || (r.asksForLine && (r.rank !== 1 || (r.faults === 1 && r.extra > 0))));
  const lines = part
    .filter(isMissed)
    .flatMap((r) => [
      `${r.id} (${r.category}) ${r.verdict}${r.honest ? "" : `, rank ${r.rank ?? "–"}, extra ${r.extra}`}`,
      ...(r.honest ? [] : r.wanted.map((lines) => `    wanted ${lines.join(" | ")}`)),
      ...(r.got.length === 0 ? [`    got    ${r.summary || "nothing"}`] : []),
      ...r.got.map((line) => `    got    ${line}`),
    ]);
  const dead = part.filter((r) => r.noEffect).map((r) => `${r.id} (${r.category}) ${r.verdict}`);
  return [
    ...(lines.length > 0 ? [[`Not as wanted, ${title}`, ...lines].join("\n")] : []),
    ...(dead.length > 0 ? [[`Without effect, ${title}`, ...dead].join("\n")] : []),
  ];
}

function share(results: readonly Result[], holds: (result: Result) => boolean): string {
  if (results.length === 0) return "–";
  const count = results.filter(holds).length;
  return `${count} (${((100 * count) / results.length).toFixed(0)} %)`;
}

function by(
  results: readonly Result[],
  keyOf: (result: Result) => string,
): [string, readonly Result[]][] {
  const keys = [...new Set(results.map(keyOf))].sort();
  return keys.map((key) => [key, results.filter((result) => keyOf(result) === key)]);
}

function table(title: string, head: readonly string[], rows: readonly string[][]): string {
  const widths = head.map((cell, i) =>
    Math.max(cell.length, ...rows.map((row) => (row[i] ?? "").length)),
  );
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)))
      .join("  ");
  return [title, line(head), ...rows.map(line)].join("\n");
}
