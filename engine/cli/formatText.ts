import path from "node:path";
import pc from "picocolors";
import { differenceText, plural } from "./figures.js";
import type {
  Implementation,
  Origin,
  Pair,
  Parameter,
  Problem,
  Report,
  Site,
  Verdict,
} from "../protocol/report.js";
import { fromWire } from "../protocol/wire.js";
import { groupNames } from "./groupNames.js";
import { stageTable } from "./stageTable.js";
import { fields, shortened, wrapped, type Colours, type Field } from "./textLayout.js";

export interface FormatOptions {
  /** Characters a line. Default: 80. */
  readonly width?: number;
  readonly colour: boolean;
  /** Files are shown relative to it where they lie inside it. Default: as the report names them. */
  readonly cwd?: string;
  /** The table by stage at the end of each pair. Default: true. */
  readonly stages?: boolean;
}

/** The report for a reader at a terminal: what is wrong and where, how sure that is, then a table by stage. */
export function formatReport(report: Report, options: FormatOptions): string {
  const view: View = {
    report,
    width: options.width ?? 80,
    colours: pc.createColors(options.colour),
    ...(options.cwd !== undefined && { cwd: options.cwd }),
    stages: options.stages ?? true,
    lines: linesOf(report),
  };
  const blocks = report.pairs.flatMap((pair) => pairBlocks(pair, view));
  const warnings = report.problems.flatMap((problem) => problemLines(problem, view));
  const none = report.pairs.length === 0 ? [[report.summary]] : [];
  const all = [...none, ...blocks, warnings].filter((block) => block.length > 0);
  return `${all.map((block) => block.join("\n")).join("\n\n")}\n`;
}

interface View {
  readonly report: Report;
  readonly width: number;
  readonly colours: Colours;
  readonly cwd?: string;
  readonly stages: boolean;
  /** The text of a source line by "file:line". */
  readonly lines: ReadonlyMap<string, string>;
}

type Block = string[];

function pairBlocks(pair: Pair, view: View): Block[] {
  return [
    headline(pair, view),
    ...pair.origins.map((origin, index) => originLines(origin, index, pair, view)),
    ...parameterBlocks(pair, view),
    findingLines(pair, view),
    view.stages ? stageTable(pair.rows, view.width, view.colours) : [],
  ];
}

function headline(pair: Pair, { width, colours, report }: View): Block {
  const word = { pass: "PASS", warn: "WARN", unknown: "UNKNOWN", fail: "FAIL" }[pair.verdict];
  const [first = "", ...rest] = wrapped(
    `${word} · ${pair.candidate} against ${pair.reference}: ${outcome(pair, report)}`,
    width,
    "  ",
  );
  const paint = verdictColour(pair.verdict, colours);
  return [
    colours.bold(`${paint(word)}${first.slice(word.length)}`),
    ...rest.map((line) => colours.bold(line)),
  ];
}

function outcome(pair: Pair, report: Report): string {
  const relL2 = differenceText(pair.output.relL2);
  const covered = `${percent(pair.coverage.covered, pair.coverage.total)} of ${plural(pair.coverage.total, "operation")} covered`;
  if (pair.verdict === "unknown") return `cannot be judged, ${whyUnknown(pair, covered)}`;
  if (pair.verdict !== "fail") {
    return `the output matches (relL2 ${relL2}), ${covered}`;
  }
  if (pair.origins.length === 0) {
    return `the output differs (relL2 ${relL2}), and no line could be blamed`;
  }
  const never = implementation(pair, report)?.parameters.notFromReference.length ?? 0;
  const what = pair.origins.every(({ kind }) => kind === "parameter") && never > 0;
  return `${plural(pair.origins.length, "line")} to fix${
    what ? `, ${plural(never, "parameter")} never came from ${pair.reference}` : ""
  }`;
}

function whyUnknown({ coverage, output }: Pair, covered: string): string {
  if (coverage.covered < coverage.threshold * coverage.total || coverage.total === 0) {
    return `${covered}, ${Math.round(100 * coverage.threshold)} % needed`;
  }
  if (output.relL2 === undefined) return "its output could not be compared";
  return output.count === 0
    ? "what could be compared is empty"
    : "a difference is left that no line explains";
}

function originLines(origin: Origin, index: number, pair: Pair, view: View): Block {
  const { colours, width } = view;
  const isParameter = origin.kind === "parameter";
  const counter = `${index + 1}. `;
  const text = lineText(origin.site, view);
  const room = width - counter.length;
  const head = `${counter}${shortened(place(origin.site, view), room - kindWord(origin.kind).length - 2)}`;
  const names = groupNames(origin.parameters ?? []);
  const spread = origin.instances.map(({ introduced }) => fromWire(introduced));
  const list: Field[] = [
    ...(origin.usedAt ? [siteField("used at", origin.usedAt, view)] : []),
    ...(origin.referenceSite ? [siteField("should match", origin.referenceSite, view)] : []),
    ...(origin.referenceUsedAt ? [siteField("used there", origin.referenceUsedAt, view)] : []),
    ...(names.length > 0
      ? [{ label: origin.parameters?.length === 1 ? "parameter" : "parameters", texts: names }]
      : []),
    {
      label: "where",
      texts: [
        `${stagesOf(origin, pair)}${origin.instances.length > 1 ? `, ${plural(origin.instances.length, "instance")}: ${groupNames(origin.instances.map(instanceName)).join(", ")}` : ""}`,
      ],
    },
    {
      label: "introduced",
      texts: [
        `${spread.length > 1 ? `${differenceText(Math.max(...spread))} at most` : differenceText(origin.introduced)}, inherited ${differenceText(origin.inherited)} (relL2)`,
      ],
    },
    ...(origin.cause
      ? [
          {
            label: isParameter ? "because" : "cause",
            texts: [
              `${origin.cause.text}${origin.cause.confidence === "certain" ? "" : ` (${origin.cause.confidence})`}`,
            ],
          },
        ]
      : []),
    ...origin.alternatives.map(({ site, why }) => ({
      label: "or",
      texts: [`${place(site, view)}: ${why}`],
    })),
  ];
  return [
    `${colours.bold(colours.red(head))}  ${colours.dim(kindWord(origin.kind))}`,
    ...(text === undefined ? [] : [`     ${shortened(text, width - 5)}`]),
    ...fields(list, width, colours),
  ];
}

/** The stages of all instances, "layers.{0,1}.output". */
function stagesOf(origin: Origin, pair: Pair): string {
  const rows = new Set(origin.instances.map(({ row }) => row));
  const stages = pair.rows.filter(({ id }) => rows.has(id)).map(({ stage }) => stage);
  return groupNames([...new Set([origin.stage, ...stages])]).join(", ");
}

function instanceName({ instance, call }: Origin["instances"][number]): string {
  return `${instance === "" ? "the top module" : instance}${call === undefined ? "" : ` call ${call}`}`;
}

function kindWord(kind: Origin["kind"]): string {
  return {
    op: "operation",
    operand: "operand",
    missingStep: "a step is missing",
    extraStep: "a step too many",
    order: "order of steps",
    parameter: "declares a parameter",
    input: "input",
    output: "output",
    staleEngine: "stale engine",
  }[kind];
}

function siteField(label: string, site: Site, view: View): Field {
  const text = lineText(site, view);
  return { label, texts: [place(site, view)], ...(text !== undefined && { code: text }) };
}

function parameterBlocks(pair: Pair, view: View): Block[] {
  const parameters = implementation(pair, view.report)?.parameters;
  if (!parameters) return [];
  const { reference } = pair;
  const of = `of ${parameters.total}`;
  const sections: [string, readonly Parameter[]][] = [
    [`Parameters that never came from ${reference}`, parameters.notFromReference],
    [`Parameters whose values are not those of ${reference}`, parameters.different],
    [`Parameters of ${reference} that ${pair.candidate} does not have`, parameters.missing],
  ];
  return sections
    .filter(([, list]) => list.length > 0)
    .map(([title, list]) => [
      view.colours.bold(`${title} (${list.length}${list === parameters.missing ? "" : ` ${of}`})`),
      ...parameterLines(list, view),
    ]);
}

/** One line for each declaration: the names that it gives, grouped over the layers, and its place. */
function parameterLines(list: readonly Parameter[], view: View): string[] {
  const bySite = new Map<string, Parameter[]>();
  for (const parameter of list) {
    const key = parameter.site ? place(parameter.site, view) : "";
    bySite.set(key, [...(bySite.get(key) ?? []), parameter]);
  }
  const lines = [...bySite].flatMap(([at, group]) =>
    groupNames(group.map(({ name }) => name)).map((name) => ({ name, at })),
  );
  const longestPlace = Math.max(...lines.map(({ at }) => at.length));
  const room = Math.max(20, view.width - 4 - longestPlace);
  const column = Math.min(room, Math.max(...lines.map(({ name }) => name.length)));
  return lines.map(({ name, at }) =>
    `  ${shortened(name, column).padEnd(column)}  ${view.colours.dim(shortened(at, view.width - 4 - column))}`.trimEnd(),
  );
}

function findingLines(pair: Pair, view: View): Block {
  const { coverage, repair, ownCheck, output } = pair;
  const first = pair.origins.findIndex(({ id }) => id === pair.firstDivergence);
  const firstOrigin = pair.origins[first];
  const closeness = [
    `relL2 ${differenceText(output.relL2)}, ${gateText(pair)}`,
    ...(output.maxAbs !== undefined ? [`max |d| ${differenceText(output.maxAbs)}`] : []),
    ...(output.count !== undefined ? [`over ${plural(output.count, "element")}`] : []),
  ].join("; ");
  const list: Field[] = [
    ...(firstOrigin
      ? [
          {
            label: "diverges",
            texts: [`first at ${place(firstOrigin.site, view)}, in ${firstOrigin.stage}`],
          },
        ]
      : []),
    { label: "output", texts: [closeness] },
    ...(ownCheck ? [{ label: "own check", texts: [ownCheckText(ownCheck, pair.verdict)] }] : []),
    ...(repair ? [{ label: "proof", texts: [proofText(repair)] }] : []),
    {
      label: "coverage",
      texts: [
        `${coverage.covered} of ${plural(coverage.total, "operation")} (${percent(coverage.covered, coverage.total)}, ${Math.round(100 * coverage.threshold)} % needed), ${coverage.paired} by a result of their own`,
      ],
    },
    ...pair.declared.map(({ pattern, reason, rows }) => ({
      label: "expected",
      texts: [`${pattern}, ${plural(rows.length, "row")}: ${reason}`],
    })),
  ];
  return fields(list, view.width, view.colours, 0);
}

function gateText({ outputGate, noiseFloor }: Pair): string {
  if (!outputGate) return `honest rounding gives ${differenceText(noiseFloor)}`;
  const yours = outputGate.from === "user" ? "your" : "its";
  return `${yours} gate is ${differenceText(outputGate.value)}`;
}

function ownCheckText(check: NonNullable<Pair["ownCheck"]>, verdict: Verdict): string {
  const bound = `|d| ≤ ${numberText(check.atol)}${check.rtol === 0 ? "" : ` + ${numberText(check.rtol)}·|r|`}`;
  const passes = `the script's own check (${bound}) passes`;
  const share = fromWire(check.violations);
  const fails = `the script's own check (${bound}) fails, ${share > 0 ? `${differenceText(100 * share)} % of the elements violate it` : "by its shape or its NaNs"}`;
  if (verdict === "fail")
    return check.passes ? `${passes}: it does not notice` : `${fails}: it notices as well`;
  return check.passes ? `${passes} as well` : fails;
}

function proofText(repair: NonNullable<Pair["repair"]>): string {
  const after = differenceText(repair.outputRelL2After);
  const what = `with ${plural(repair.tensors, "tensor")} at ${plural(repair.sites, "line")} repaired`;
  if (!repair.proves) {
    const rest = repair.unexplained.length;
    return `none: ${what} the output still differs (relL2 ${after})${rest > 0 ? `, ${plural(rest, "row")} unexplained` : ""}`;
  }
  const matches = after === "exact" ? "is exact" : `matches to ${after}`;
  return `${what} the output ${matches}${repair.minimal ? "; leaving any out breaks it" : ""}`;
}

function problemLines({ severity, message, nextStep, site }: Problem, view: View): string[] {
  const at = site ? `${place(site, view)}: ` : "";
  const next = nextStep === "" ? "" : ` ${nextStep}`;
  const label = severity === "information" ? "note" : severity;
  return fields(
    [{ label, texts: [`${at}${message.replace(/\.$/, "")}.${next}`] }],
    view.width,
    view.colours,
    0,
  );
}

/** A tolerance as the user wrote it. */
function numberText(value: number): string {
  return String(value);
}

function percent(part: number, total: number): string {
  // Rounded down, so that 100 % means all.
  return total === 0 ? "none" : `${Math.floor((100 * part) / total)} %`;
}

function implementation(pair: Pair, report: Report): Implementation | undefined {
  return report.implementations.find(({ id }) => id === pair.candidate);
}

function place({ file, line }: Site, { report, cwd }: View): string {
  if (cwd === undefined) return `${file}:${line}`;
  const relative = path.relative(cwd, path.resolve(report.run.base, file));
  const outside = relative.startsWith("..") || path.isAbsolute(relative);
  return `${outside ? file : relative}:${line}`;
}

function lineText(site: Site, { lines }: View): string | undefined {
  const text = lines.get(`${site.file}:${site.line}`)?.trim();
  return text === "" ? undefined : text;
}

function linesOf({ sources }: Report): Map<string, string> {
  const lines = new Map<string, string>();
  for (const { file, snippets } of sources) {
    for (const { startLine, text } of snippets) {
      for (const [index, line] of text.split("\n").entries()) {
        lines.set(`${file}:${startLine + index}`, line);
      }
    }
  }
  return lines;
}

function verdictColour(verdict: Verdict, colours: Colours): (text: string) => string {
  return {
    pass: colours.green,
    warn: colours.yellow,
    unknown: colours.yellow,
    fail: colours.red,
  }[verdict];
}
