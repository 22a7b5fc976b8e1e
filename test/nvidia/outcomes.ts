import { reasonNotToApply } from "./cannotApply.js";

export interface Outcome {
  /** As pytest writes it: "TestSlice::test_slice[compile-shape0]". */
  readonly test: string;
  readonly kind: "passed" | "failed" | "cannot apply" | "skipped";
  /** The first line of the failure, the reason from the list, or the test's own reason for being skipped. */
  readonly reason: string;
}

/** Reads a JUnit report of pytest. @throws Error when there is no test in it. */
export function readOutcomes(file: string, xml: string): Outcome[] {
  const cases = [...xml.matchAll(/<testcase ([^>]*?)(?:\/>|>(.*?)<\/testcase>)/gs)];
  if (cases.length === 0) throw new Error(`pytest found no test in ${file}`);
  return cases.map(([, attributes = "", body = ""]) => {
    const parent = attribute(attributes, "classname").split(".").at(-1) ?? "";
    const name = attribute(attributes, "name");
    const test = parent.startsWith("test_") ? name : `${parent}::${name}`;
    const ended = /<(failure|error|skipped)\b([^>]*)(?:\/>|>(.*?)<\/\1>)/s.exec(body);
    if (!ended) return { test, kind: "passed", reason: "" };
    const message = attribute(ended[2] ?? "", "message");
    if (ended[1] === "skipped") return { test, kind: "skipped", reason: firstLine(message) };
    const text = `${message}\n${unescaped(ended[3] ?? "")}`;
    const inapplicable = reasonNotToApply(file, test, text);
    if (inapplicable !== undefined) return { test, kind: "cannot apply", reason: inapplicable };
    return { test, kind: "failed", reason: tellingLine(text) };
  });
}

function attribute(attributes: string, name: string): string {
  return unescaped(new RegExp(`(?:^|\\s)${name}="([^"]*)"`).exec(attributes)?.[1] ?? "");
}

function unescaped(text: string): string {
  const names: Record<string, string> = { lt: "<", gt: ">", quot: '"', apos: "'", amp: "&" };
  return text.replace(/&(?:#(x?)([0-9a-fA-F]+)|(\w+));/g, (all, hex, number, name) =>
    name !== undefined
      ? (names[name as string] ?? (all as string))
      : String.fromCodePoint(Number.parseInt(number as string, hex ? 16 : 10)),
  );
}

/** What Tripy says is in a box below "Error"; other exceptions say it in their first line. */
function tellingLine(text: string): string {
  const lines = text.split("\n").map((line) => line.trim());
  const said = lines.find((line) =>
    /^E\s+(?:.*MTRTException|.*Error|.*Exception|assert)/.test(line),
  );
  return (said ?? firstLine(text)).replace(/^E\s+/, "").slice(0, 240);
}

function firstLine(text: string): string {
  return (
    text
      .split("\n")
      .find((line) => line.trim() !== "")
      ?.trim()
      .slice(0, 240) ?? ""
  );
}
