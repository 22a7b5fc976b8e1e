import { randomUUID } from "node:crypto";
import os from "node:os";
import { summarise } from "../core/summary.js";
import { worstVerdict } from "../core/verdicts.js";
import type { Implementation, Problem, Report, Run, Site, Verdict } from "../protocol/report.js";
import type { ComparedCandidate } from "./compareCandidate.js";
import type { ObservedImplementation } from "./observe.js";
import { readSources } from "./sources.js";

/** Set by the bundler. */
declare const HSTU_PARITY_VERSION: string | undefined;
export const toolVersion =
  typeof HSTU_PARITY_VERSION === "string" ? HSTU_PARITY_VERSION : "0.0.0-source";

export interface ReportParts {
  readonly startedAt: Date;
  /** The command line. */
  readonly command: readonly string[];
  /** Absolute folder that file names are relative to. */
  readonly base: string;
  /** What was run, and whether it came from the cache. */
  readonly run: Pick<Run, "runFile" | "script" | "cache">;
  readonly python?: string;
  /** The references first. */
  readonly references: readonly ObservedImplementation[];
  readonly compared: readonly {
    readonly candidate: ObservedImplementation;
    readonly result: ComparedCandidate;
  }[];
  readonly problems: readonly Problem[];
  /** The best verdict that is allowed, whatever the pairs say: what could not be compared counts as well. */
  readonly atBest?: Verdict;
}

/** The report of a run: a value that fully describes what every view shows. */
export async function assembleReport(parts: ReportParts): Promise<Report> {
  const { references, compared, base, startedAt } = parts;
  const implementations = [
    ...references.map((reference) =>
      describe(reference, {
        total: reference.observation.parameters.length,
        same: [],
        transposed: [],
        different: [],
        notFromReference: [],
        missing: [],
      }),
    ),
    ...compared.map(({ candidate, result }) => describe(candidate, result.parameters)),
  ];
  const observed = [...references, ...compared.map(({ candidate }) => candidate)];
  const pairs = compared.map(({ result }) => result.pair);
  const { sources, problems } = await readSources(
    base,
    observed.flatMap((implementation) => implementation.sources),
    [
      ...sitesOf(implementations, pairs),
      ...parts.problems.flatMap(({ site }) => (site && isKnown(site) ? [site] : [])),
    ],
  );
  const versions = Object.assign({}, ...observed.map(({ ranOn }) => ranOn.versions)) as Record<
    string,
    string
  >;
  const report: Report = {
    schemaVersion: 1,
    tool: { name: "hstu-parity", version: toolVersion },
    verdict: worstVerdict([
      ...pairs.map((pair) => pair.verdict),
      ...(parts.atBest ? [parts.atBest] : []),
    ]),
    summary: "",
    run: {
      id: randomUUID(),
      startedAt: startedAt.toISOString(),
      durationMs: Date.now() - startedAt.getTime(),
      command: [...parts.command],
      base,
      ...parts.run,
      emulated: [...new Set(observed.flatMap(({ ranOn }) => ranOn.emulated))],
      environment: {
        os: `${os.type()} ${os.release()}`,
        cpu: os.cpus()[0]?.model ?? os.arch(),
        gpus: [],
        ...(parts.python !== undefined && { python: parts.python }),
        packages: { ...versions, node: process.versions.node },
      },
    },
    reference: references[0]?.id ?? "",
    implementations,
    sources,
    pairs,
    problems: [
      ...parts.problems,
      ...compared.flatMap(({ result }) => result.problems),
      ...problems,
    ],
  };
  return { ...report, summary: summarise(report) };
}

function describe(
  implementation: ObservedImplementation,
  parameters: Implementation["parameters"],
): Implementation {
  const { id, label, kind, framework, ranOn, unusedInputs } = implementation;
  const nonDeterminism = [...implementation.observation.tensors.values()]
    .map((tensor) => tensor.nonDeterminism ?? 0)
    .reduce((a, b) => Math.max(a, b), 0);
  return {
    id,
    label,
    kind,
    framework,
    executor: ranOn.executor,
    provider: ranOn.provider,
    device: ranOn.device,
    precision: ranOn.precision,
    standIns: ranOn.standIns,
    ...(nonDeterminism > 0 && { nonDeterminism: { runs: 2, maxRelL2: nonDeterminism } }),
    parameters,
    unusedInputs: [...unusedInputs],
  };
}

function sitesOf(implementations: readonly Implementation[], pairs: Report["pairs"]): Site[] {
  const parameters = implementations.flatMap(({ parameters: p }) =>
    [p.same, p.transposed, p.different, p.notFromReference, p.missing].flat(),
  );
  const rows = pairs.flatMap((pair) => pair.rows);
  const origins = pairs.flatMap((pair) => pair.origins);
  return [
    ...parameters.flatMap((p) => [p.site, p.reference?.site, ...p.usedAt]),
    ...rows.flatMap((row) => [row.reference?.site, row.candidate?.site]),
    ...origins.flatMap((o) => [
      o.site,
      o.usedAt,
      o.referenceSite,
      o.referenceUsedAt,
      ...o.alternatives.map((a) => a.site),
    ]),
  ].filter((site): site is Site => site !== undefined && isKnown(site));
}

function isKnown({ file, line }: Site): boolean {
  return file !== "" && line > 0;
}
