/** Text from sources and reports goes into Markdown as text: nothing in it may become a link, an image or HTML. */
export function escapeMarkdown(text: string): string {
  return oneLine(text)
    .replace(/[\\`*_{}[\]()#+\-!|~>&<$:]/g, "\\$&")
    .replace(/^(\d+)\./, "$1\\.");
}

/** Inline code. A table cell ends at a bare `|`, inside code too, so it is escaped there. */
export function inlineCode(text: string, where: "text" | "table" = "text"): string {
  const line = oneLine(text).trim();
  if (line === "") return "";
  const longest = Math.max(0, ...[...line.matchAll(/`+/g)].map((run) => run[0].length));
  const fence = "`".repeat(longest + 1);
  const padding = longest > 0 ? " " : "";
  const content = where === "table" ? line.replaceAll("|", "\\|") : line;
  return `${fence}${padding}${content}${padding}${fence}`;
}

/** A link that runs a command. Parentheses would end the link, and encodeURIComponent leaves them. */
export function commandLink(label: string, command: string, argument: unknown): string {
  const encoded = encodeURIComponent(JSON.stringify([argument]))
    .replaceAll("(", "%28")
    .replaceAll(")", "%29")
    .replaceAll("'", "%27");
  return `[${label}](command:${command}?${encoded})`;
}

function oneLine(text: string): string {
  return text.replace(/[\r\n\u2028\u2029]+/g, " ");
}
