import type { Origin, Problem, Site } from "../protocol/report.js";
import { differenceText, plural } from "../core/figures.js";
import type { SiteIndex } from "./siteIndex.js";

/** One entry for the Problems view, still in the report's terms: 1-based lines, absolute file names. */
export interface Finding {
  readonly file: string;
  readonly site: Site;
  readonly severity: "error" | "warning" | "information";
  readonly message: string;
  readonly code: string;
  readonly related: readonly { file: string; site: Site; message: string }[];
}

/** What a report says to the lines of both sides: the line to fix and the line that it should match. */
export function findingsOf(index: SiteIndex): Finding[] {
  const findings = [
    ...index.report.pairs.flatMap((pair) =>
      pair.origins.flatMap((origin) => [
        ...guiltyLine(index, origin),
        ...otherLines(index, origin, pair.candidate),
      ]),
    ),
    ...index.report.problems.flatMap((problem) => problemFinding(index, problem)),
  ];
  return withoutDoubles(findings);
}

function guiltyLine(index: SiteIndex, origin: Origin): Finding[] {
  if (!isPlace(origin.site)) return [];
  const related = [
    relate(index, origin.usedAt, "the candidate uses it here"),
    relate(
      index,
      origin.referenceSite,
      origin.kind === "parameter"
        ? "the reference declares its counterpart here"
        : "the reference does it here",
    ),
    relate(index, origin.referenceUsedAt, "the reference uses the counterpart here"),
    ...origin.alternatives.map(({ site, why }) =>
      relate(index, site, `it may be this line: ${why}`),
    ),
  ].filter((item) => item !== undefined);
  return [
    {
      file: index.absolute(origin.site.file),
      site: origin.site,
      severity: "error",
      message: guiltyMessage(origin),
      code: origin.kind,
      related: withoutRepeatedLines(related, origin.site),
    },
  ];
}

/** "never came from the reference (8 instances): introduced 0.90, inherited exact" */
function guiltyMessage(origin: Origin): string {
  const what = origin.cause?.text ?? kindTexts[origin.kind];
  const { length } = origin.instances;
  const times = length > 1 ? ` (${plural(length, "instance")})` : "";
  const values = `introduced ${differenceText(origin.introduced)}, inherited ${differenceText(origin.inherited)}`;
  return `${withoutStop(what)}${times}: ${values}`;
}

const kindTexts: Readonly<Record<Origin["kind"], string>> = {
  op: "this operation differs from the reference's",
  operand: "an operand differs from the reference's",
  missingStep: "a step of the reference is missing here",
  extraStep: "the reference has no such step",
  order: "the order of steps differs from the reference's",
  parameter: "this parameter is not the reference's",
  input: "an input differs from the reference's",
  output: "the output differs from the reference's",
  staleEngine: "the engine was built from other sources",
};

/** Both sides' lines show: the reference's line points to the line to fix, and so does the line that uses a parameter. */
function otherLines(index: SiteIndex, origin: Origin, candidate: string): Finding[] {
  const guilty = isPlace(origin.site)
    ? [relate(index, origin.site, "the line to fix")].filter((item) => item !== undefined)
    : [];
  const times =
    origin.instances.length > 1 ? ` in ${plural(origin.instances.length, "instance")}` : "";
  const amount = `introduced ${differenceText(origin.introduced)}${times}`;
  const at = (site: Site | undefined, message: string): Finding[] =>
    site && isPlace(site) && !sameLine(site, origin.site)
      ? [
          {
            file: index.absolute(site.file),
            site,
            severity: "information",
            message,
            code: origin.kind,
            related: guilty,
          },
        ]
      : [];
  return [
    ...at(origin.referenceSite, `${candidate} differs from this line: ${amount}`),
    ...at(origin.referenceUsedAt, `${candidate} uses other values here: ${amount}`),
    ...at(origin.usedAt, `Uses a parameter that is not the reference's: ${amount}`),
  ];
}

function problemFinding(index: SiteIndex, problem: Problem): Finding[] {
  if (!problem.site || !isPlace(problem.site)) return [];
  return [
    {
      file: index.absolute(problem.site.file),
      site: problem.site,
      severity: problem.severity,
      message: `${withoutStop(problem.message)}. ${problem.nextStep}`,
      code: problem.code,
      related: [],
    },
  ];
}

function relate(
  index: SiteIndex,
  site: Site | undefined,
  message: string,
): Finding["related"][number] | undefined {
  if (!site || !isPlace(site)) return undefined;
  return { file: index.absolute(site.file), site, message };
}

function withoutRepeatedLines(related: Finding["related"], own: Site): Finding["related"] {
  const seen = new Set([`${own.file}:${own.line}`]);
  return related.filter(({ site }) => {
    const key = `${site.file}:${site.line}`;
    return !seen.has(key) && seen.add(key);
  });
}

/** Two parameters on one line are two origins with, often, one and the same message on the reference's line. */
function withoutDoubles(findings: readonly Finding[]): Finding[] {
  const seen = new Set<string>();
  return findings.filter(({ file, site, message }) => {
    const key = `${file}\n${site.line}\n${message}`;
    return !seen.has(key) && seen.add(key);
  });
}

/** A report may name a file as a whole with line 0 or a place outside any file with "". */
function isPlace(site: Site): boolean {
  return site.file !== "" && site.line >= 1;
}

function sameLine(a: Site, b: Site): boolean {
  return a.file === b.file && a.line === b.line;
}

/** The text stays as it is otherwise: it may begin with a name, and names keep their case. */
function withoutStop(text: string): string {
  return text.replace(/[.\s]+$/, "");
}

/** Findings by absolute file name. */
export function byFile(findings: readonly Finding[]): Map<string, Finding[]> {
  const files = new Map<string, Finding[]>();
  for (const finding of findings) {
    const list = files.get(finding.file);
    if (list) list.push(finding);
    else files.set(finding.file, [finding]);
  }
  return files;
}
