import path from "node:path";
import type { Origin, Row, Site } from "../protocol/report.js";
import {
  goToSiteCommand,
  openPanelCommand,
  type GoToSiteArguments,
  type PanelAddress,
} from "../protocol/requests.js";
import { fromWire, type WireNumber } from "../protocol/wire.js";
import { differenceText, plural } from "../core/figures.js";
import { commandLink, escapeMarkdown, inlineCode } from "./markdown.js";
import type { LineEntry, ParameterAtLine, SiteIndex } from "./siteIndex.js";
import { rowVerdictWords, worstFirst, worstOf } from "../core/verdictWords.js";

/** A hover that is longer than a screen is not read: the panel has the rest. */
const maxTableRows = 16;
const maxParameters = 6;
/** VS Code draws the columns of a hover's table with no space between them. */
const gap = " &nbsp;&nbsp;";

/**
 * Markdown for what the report says about one line; undefined when the line took no part.
 * @param file absolute name, @param line 1-based line as of the report.
 */
export function hoverText(index: SiteIndex, file: string, line: number): string | undefined {
  const entries = index.files.get(file)?.get(line);
  if (!entries || entries.length === 0) return undefined;
  return entries.map((entry) => section(index, entry)).join("\n\n---\n\n");
}

/** The hover of a line that is no longer what was compared. */
export function staleHoverText(): string {
  return "**HSTU Parity**: this line has changed since the run. Run again to see what it does now.";
}

function section(index: SiteIndex, entry: LineEntry): string {
  // VS Code shows some ten lines of a hover: what to know and where to go come first, the table last.
  const parts = [
    headline(entry),
    valuesText(entry),
    ...entry.origins.map((origin) => originText(origin)),
    ...entry.touching.map((origin) => touchingText(index, entry, origin)),
    reasonsText(entry),
    [...counterparts(index, entry), panelLink(entry)].join("  \n"),
    table(entry),
    parametersText(entry.parameters),
  ];
  return parts.filter((part) => part !== "").join("\n\n");
}

function headline({ pair, side, rows, origins, parameters }: LineEntry): string {
  const names = `${escapeMarkdown(pair.candidate)} against ${escapeMarkdown(pair.reference)}`;
  const role = side === "reference" ? " · reference side" : "";
  const verdicts = [
    ...rows.map((row) => row.verdict),
    ...(origins.length > 0 ? (["origin"] as const) : []),
    ...(rows.length === 0 && origins.length === 0 && parameters.every((p) => p.status === "same")
      ? (["match"] as const)
      : []),
  ];
  const { glyph, word } = rowVerdictWords[worstOf(verdicts)];
  return `**${glyph} ${word}** · ${names}${role}`;
}

function originText(origin: Origin): string {
  const what =
    origin.kind === "parameter"
      ? `**This declaration makes the difference** (${parameterNames(origin)})`
      : "**This line makes the difference**";
  return origin.cause ? `${what}: ${sentence(origin.cause.text)}` : `${what}.`;
}

function touchingText(index: SiteIndex, { side }: LineEntry, origin: Origin): string {
  const place = siteLink(index, origin.site);
  const cause = origin.cause ? `: ${sentence(origin.cause.text)}` : ".";
  if (side === "reference")
    return `The candidate differs here, the line to fix is ${place}${cause}`;
  // A cause names the parameter itself.
  return origin.cause
    ? `Declared at ${place}${cause}`
    : `Uses ${parameterNames(origin)}, declared at ${place}.`;
}

function parameterNames(origin: Origin): string {
  const names = origin.parameters ?? [];
  if (names.length === 0) return "a parameter that is not the reference's";
  const shown = names.slice(0, 2).map((name) => inlineCode(name));
  const rest = names.length > 2 ? ` and ${names.length - 2} more` : "";
  return shown.join(", ") + rest;
}

/** The largest values over the instances: what the table says in one line. */
function valuesText({ rows, origins }: LineEntry): string {
  const relL2 = largest(rows.map((row) => row.metrics?.relL2));
  const introduced = largest([
    ...rows.map((row) => row.introduced),
    ...origins.map((origin) => origin.introduced),
  ]);
  const inherited = largest([
    ...rows.map((row) => row.inherited),
    ...origins.map((origin) => origin.inherited),
  ]);
  const values = [
    relL2 !== undefined && `relL2 **${differenceText(relL2)}**`,
    introduced !== undefined && `introduced **${differenceText(introduced)}**`,
    inherited !== undefined && `inherited **${differenceText(inherited)}**`,
  ].filter((value) => value !== false);
  if (values.length === 0) return "";
  const instances = new Set(comparedOf(rows).map(instanceKey)).size;
  const over = instances > 1 ? ` (largest of ${plural(instances, "instance")})` : "";
  return values.join(" · ") + over;
}

/** Why a row has no value: a dash alone explains nothing. */
function reasonsText({ rows }: LineEntry): string {
  const reasons = comparedOf(rows).flatMap((row) => [row.absentReason, row.undefined?.relL2]);
  const distinct = [...new Set(reasons.filter((reason) => reason !== undefined))];
  return distinct.slice(0, 2).map(sentence).join(" ");
}

/** Where something of a line was compared, its tensors without a counterpart would only bury that. */
function comparedOf(rows: readonly Row[]): readonly Row[] {
  const compared = rows.filter((row) => row.metrics !== undefined);
  return compared.length > 0 ? compared : rows;
}

function table(entry: LineEntry): string {
  const rows = comparedOf(entry.rows);
  if (rows.length === 0) return "";
  const named = new Set(rows.map((row) => row.name)).size > 1;
  const shown = [...rows]
    .map((row, order) => ({ row, order }))
    .sort((a, b) => severity(a.row) - severity(b.row) || a.order - b.order)
    .slice(0, maxTableRows)
    .sort((a, b) => a.order - b.order)
    .map(({ row }) => row);
  const head = [
    "instance",
    ...(named ? ["tensor"] : []),
    "verdict",
    "relL2",
    "introduced",
    "inherited",
  ];
  const lines = [
    `| ${head.join(` |${gap}`)} |`,
    `| ${head.map((_, i) => (i < head.length - 3 ? ":--" : "--:")).join(" | ")} |`,
    ...shown.map((row) => {
      const { glyph, word } = rowVerdictWords[row.verdict] ?? rowVerdictWords.unknown;
      const cells = [
        inlineCode(instanceName(row), "table"),
        ...(named ? [inlineCode(row.name, "table")] : []),
        `${glyph} ${word}`,
        differenceText(row.metrics?.relL2),
        differenceText(row.introduced),
        differenceText(row.inherited),
      ];
      return `| ${cells.join(` |${gap}`)} |`;
    }),
  ];
  const rest = rows.length - shown.length;
  return lines.join("\n") + (rest > 0 ? `\n\n… and ${rest} more in the layer diff.` : "");
}

function parametersText(parameters: readonly ParameterAtLine[]): string {
  if (parameters.length === 0) return "";
  const lines = parameters.slice(0, maxParameters).map(({ parameter, status }) => {
    const shape = parameter.shape.length > 0 ? ` \\[${parameter.shape.join(", ")}\\]` : "";
    const far = parameter.relL2 === undefined ? "" : `, relL2 ${differenceText(parameter.relL2)}`;
    return `- ${inlineCode(parameter.name)}${shape}: ${parameterWords[status]}${far}`;
  });
  const rest = parameters.length - lines.length;
  return lines.join("\n") + (rest > 0 ? `\n- … and ${rest} more` : "");
}

const parameterWords: Readonly<Record<ParameterAtLine["status"], string>> = {
  same: "✓ the reference's values",
  transposed: "✓ the reference's values, transposed",
  different: "✗ other values than the reference's",
  notFromReference: "✗ never came from the reference",
  missing: "✗ missing in the candidate",
};

/** The lines of the other side, each with its text, without doubles. */
function counterparts(index: SiteIndex, entry: LineEntry): string[] {
  const { side, rows, origins, touching, parameters } = entry;
  const other: (Site | undefined)[] =
    side === "candidate"
      ? [
          ...origins.map((o) => o.referenceSite),
          ...origins.map((o) => o.usedAt),
          ...touching.map((o) => o.referenceUsedAt),
          ...rows.map((row) => row.reference?.site),
          ...parameters.map((p) => p.parameter.reference?.site),
        ]
      : [...rows.map((row) => row.candidate?.site), ...parameters.map((p) => p.parameter.site)];
  const seen = new Set<string>();
  const parts: string[] = [];
  for (const site of other) {
    if (!site || site.line < 1 || site.file === "") continue;
    const key = `${site.file}:${site.line}`;
    if (seen.has(key) || parts.length === 3) continue;
    seen.add(key);
    const text = inlineCode(index.lineText(site.file, site.line) ?? "");
    const used = origins.some((origin) => origin.usedAt && sameLine(origin.usedAt, site));
    const what = used ? "Used at" : side === "candidate" ? "Reference" : "Candidate";
    parts.push(`${what}: ${siteLink(index, site)}${text ? ` ${text}` : ""}`);
  }
  return parts;
}

function panelLink({ pair, rows, origins, touching }: LineEntry): string {
  const origin = origins[0] ?? touching[0];
  const row = [...rows].sort((a, b) => severity(a) - severity(b))[0];
  const address: PanelAddress = {
    candidate: pair.candidate,
    ...(origin ? { origin: origin.id } : {}),
    ...(row ? { row: row.id } : origin?.instances[0] ? { row: origin.instances[0].row } : {}),
  };
  return commandLink("Open the layer diff here", openPanelCommand, address);
}

function siteLink(index: SiteIndex, site: Site): string {
  const argument: GoToSiteArguments = {
    file: index.absolute(site.file),
    line: site.line,
    ...(site.column !== undefined && { column: site.column }),
  };
  const name = site.file.length > 60 ? path.basename(site.file) : site.file;
  return commandLink(escapeMarkdown(`${name}:${site.line}`), goToSiteCommand, argument);
}

function instanceName(row: Row): string {
  const call = row.call ? ` call ${row.call}` : "";
  return `${row.instance === undefined || row.instance === "" ? "model" : row.instance}${call}`;
}

function instanceKey(row: Row): string {
  return `${row.instance ?? ""}#${row.call ?? 0}`;
}

function severity(row: Row): number {
  return worstFirst.indexOf(row.verdict);
}

function sameLine(a: Site, b: Site): boolean {
  return a.file === b.file && a.line === b.line;
}

/** The text may begin with a name, and names keep their case. */
function sentence(text: string): string {
  const escaped = escapeMarkdown(text.trim());
  return /[.?!]$/.test(escaped) ? escaped : `${escaped}.`;
}

/** NaN counts as the largest: it is worse than any number. */
function largest(values: readonly (WireNumber | undefined)[]): WireNumber | undefined {
  let found: WireNumber | undefined;
  for (const value of values) {
    if (value === undefined) continue;
    if (found === undefined || Number.isNaN(fromWire(value)) || fromWire(value) > fromWire(found)) {
      found = value;
      if (Number.isNaN(fromWire(value))) break;
    }
  }
  return found;
}
