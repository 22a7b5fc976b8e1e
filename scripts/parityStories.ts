/**
 * Runs the sample's stories through the command line, all in this process, and checks that each ends as
 * `samples/hstu/stories.json` says. Bundled by `scripts/setup.mjs`.
 */
import { readFile } from "node:fs/promises";
import path from "node:path";
import { runCommandLine, type Terminal } from "../engine/cli/commandLine.js";
import { exitCodeOfVerdict, exitCodes } from "../engine/cli/exitCodes.js";
import { formatReport } from "../engine/cli/formatText.js";
import type { Origin, Report, Site, Verdict } from "../engine/protocol/report.js";

/** How a story must end. Lines are given by their text, so that an edit above them changes nothing. */
export interface Story {
  /** The run file, beside stories.json. */
  readonly file: string;
  readonly verdict: Verdict;
  /** Exactly these, in any order. Default: none. */
  readonly origins?: readonly ExpectedOrigin[];
  /** Parameters that never came from the reference, exactly these. */
  readonly parameters?: readonly string[];
  /** Least share of the operations that must be covered. */
  readonly coverage?: number;
}

export interface ExpectedOrigin {
  readonly site: ExpectedLine;
  readonly usedAt?: ExpectedLine;
  readonly reference: ExpectedLine;
}

export interface ExpectedLine {
  readonly file: string;
  /** Without indentation. */
  readonly text: string;
}

/** @returns the process's exit code: 0 when every story ended as it should. */
export async function runStories(root: string, terminal: Terminal): Promise<number> {
  const folder = path.join(root, "samples", "hstu");
  const stories = JSON.parse(
    await readFile(path.join(folder, "stories.json"), "utf8"),
  ) as readonly Story[];
  const started = performance.now();
  const ends: { story: Story; proved: string[]; wrong: string[] }[] = [];
  // All at once: each spends most of its time in a runner of its own.
  const runs = stories.map((story) => runOne(path.join(folder, story.file), terminal));
  for (const [index, story] of stories.entries()) {
    const file = path.join(folder, story.file);
    const name = path.relative(terminal.cwd, file);
    terminal.stdout.write(`── ${name} ${"─".repeat(Math.max(0, 76 - name.length))}\n\n`);
    const run = (await runs[index]) as Awaited<ReturnType<typeof runOne>>;
    if (run.exitCode === exitCodes.cancelled) return exitCodes.cancelled;
    if (!run.report) {
      ends.push({ story, proved: [], wrong: [`it ended with exit code ${run.exitCode}`] });
      continue;
    }
    const { report } = run;
    terminal.stdout.write(
      `${formatReport(report, { colour: terminal.stdout.isTTY === true && !terminal.env["NO_COLOR"], cwd: terminal.cwd, stages: false })}\n`,
    );
    const wrong = differences(story, report);
    if (run.exitCode !== exitCodeOfVerdict[report.verdict]) {
      wrong.push(`exit code ${run.exitCode} does not fit the verdict ${report.verdict}`);
    }
    ends.push({ story, proved: proofs(report), wrong });
  }
  const failed = ends.filter(({ wrong }) => wrong.length > 0);
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  terminal.stdout.write(`── what this proved ${"─".repeat(60)}\n\n`);
  for (const { story, proved, wrong } of ends) {
    const name = story.file.replace(/\.parity\.json$/, "");
    const lines = wrong.length > 0 ? wrong.map((text) => `NOT AS EXPECTED: ${text}`) : proved;
    terminal.stdout.write(`${name}\n${lines.map((line) => `  ${line}\n`).join("")}`);
  }
  terminal.stdout.write(
    failed.length === 0
      ? `\nAll ${stories.length} stories ended as they should, in ${seconds} s. Full report of one: node dist/cli.mjs run samples/hstu/silent-bug.parity.json\n`
      : `\n${failed.length} of ${stories.length} stories did not end as they should.\n`,
  );
  return failed.length === 0 && stories.length > 0 ? 0 : 1;
}

/** What is not as the story says; empty when all is. */
export function differences(story: Story, report: Report): string[] {
  const [pair] = report.pairs;
  const wrong: string[] = [];
  if (report.verdict !== story.verdict) {
    wrong.push(`the verdict is ${report.verdict}, not ${story.verdict}`);
  }
  if (!pair) return [...wrong, "the report compares nothing"];
  const expected = story.origins ?? [];
  const found = pair.origins.map((origin) => describeFound(origin, report));
  for (const origin of expected) {
    const words = describeExpected(origin);
    if (!found.includes(words)) wrong.push(`not found: ${words}`);
  }
  const wanted = expected.map(describeExpected);
  for (const words of found) if (!wanted.includes(words)) wrong.push(`found as well: ${words}`);
  if (story.parameters) {
    const candidate = report.implementations.find(({ id }) => id === pair.candidate);
    const never = candidate?.parameters.notFromReference.map(({ name }) => name) ?? [];
    if ([...never].sort().join() !== [...story.parameters].sort().join()) {
      wrong.push(
        `parameters that never came from ${pair.reference}: ${never.join(", ") || "none"}`,
      );
    }
  }
  const share = pair.coverage.total === 0 ? 0 : pair.coverage.covered / pair.coverage.total;
  if (share < (story.coverage ?? 0)) wrong.push(`coverage is ${share.toFixed(3)}`);
  if (story.verdict === "fail" && pair.repair?.proves !== true) {
    wrong.push("repairing the origins does not make the output match");
  }
  return wrong;
}

async function runOne(
  file: string,
  terminal: Terminal,
): Promise<{ exitCode: number; report?: Report }> {
  const printed: string[] = [];
  const exitCode = await runCommandLine(["run", "--format", "json", file], {
    ...terminal,
    stdout: { write: (text) => printed.push(text) },
  });
  const text = printed.join("");
  return text === "" ? { exitCode } : { exitCode, report: JSON.parse(text) as Report };
}

function proofs(report: Report): string[] {
  return report.pairs.flatMap(({ verdict, origins, coverage, ownCheck, repair }) => {
    const percent = `${Math.floor((100 * coverage.covered) / Math.max(1, coverage.total))} %`;
    if (verdict === "pass")
      return [`a right port passes, with ${percent} of its operations covered`];
    const lines = origins.map(({ site }) => `${site.file}:${site.line}`).join(", ");
    return [
      `found ${lines}`,
      ...(ownCheck?.passes
        ? [`which the script's own check at ${ownCheck.atol} does not notice`]
        : []),
      ...(repair?.proves
        ? [
            `and repairing only that makes the output match to ${Number(repair.outputRelL2After).toPrecision(2)}`,
          ]
        : []),
    ];
  });
}

function describeExpected({ site, usedAt, reference }: ExpectedOrigin): string {
  const used = usedAt ? `, used by ${lineWords(usedAt)}` : "";
  return `${lineWords(site)}${used}, should match ${lineWords(reference)}`;
}

function describeFound({ site, usedAt, referenceSite }: Origin, report: Report): string {
  const at = (s: Site | undefined): string =>
    s ? lineWords({ file: bareName(s, report), text: textOf(s, report) }) : "nothing";
  return `${at(site)}${usedAt ? `, used by ${at(usedAt)}` : ""}, should match ${at(referenceSite)}`;
}

function lineWords({ file, text }: ExpectedLine): string {
  return `${file} "${text}"`;
}

/** Relative to the run file's folder, whatever the report's base is. */
function bareName({ file }: Site, { run }: Report): string {
  const folder = run.runFile === undefined ? "" : path.posix.dirname(run.runFile);
  return path.posix.relative(folder, file);
}

function textOf({ file, line }: Site, { sources }: Report): string {
  for (const snippet of sources.find((source) => source.file === file)?.snippets ?? []) {
    const text = snippet.text.split("\n")[line - snippet.startLine];
    if (text !== undefined && line >= snippet.startLine) return text.trim();
  }
  return "";
}
