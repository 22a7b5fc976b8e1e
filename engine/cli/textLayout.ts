import type pc from "picocolors";

export type Colours = ReturnType<typeof pc.createColors>;

/** A label with its texts below one another; code comes last and is cut, not wrapped. */
export interface Field {
  readonly label: string;
  readonly texts: readonly string[];
  readonly code?: string;
}

const labelWidth = 12;

/** Fields under one another, their texts wrapped beside the labels. */
export function fields(
  list: readonly Field[],
  width: number,
  colours: Colours,
  indent = 3,
): string[] {
  const column = indent + labelWidth + 2;
  const margin = " ".repeat(column);
  return list.flatMap(({ label, texts, code }) => {
    const room = width - column;
    const body = texts.flatMap((text) => wrapped(text, room, ""));
    const last = body.at(-1) ?? "";
    // Code goes beside its place where all of it fits, else below.
    const beside = code !== undefined && last.length + 2 + code.length <= room;
    const lines = beside
      ? [...body.slice(0, -1), `${last}  ${shortened(code, room - last.length - 2)}`]
      : code === undefined
        ? body
        : [...body, `  ${shortened(code, room - 2)}`];
    return lines.map((line, index) =>
      index === 0
        ? `${" ".repeat(indent)}${colours.dim(label.padEnd(labelWidth))}  ${line}`
        : `${margin}${line}`,
    );
  });
}

/** Breaks at spaces; a word longer than a line is shortened in the middle. `hanging` stands before all lines but the first. */
export function wrapped(text: string, width: number, hanging: string): string[] {
  const lines: string[] = [];
  let line = "";
  for (const long of text.split(/\s+/).filter((word) => word !== "")) {
    const word = shortened(long, width - hanging.length);
    const start = lines.length === 0 ? "" : hanging;
    if (line === "") line = start + word;
    else if (line.length + 1 + word.length <= width) line += ` ${word}`;
    else {
      lines.push(line);
      line = hanging + word;
    }
  }
  return line === "" ? lines : [...lines, line];
}

/** Both ends of a name tell more than its middle. */
export function shortened(text: string, width: number): string {
  if (text.length <= width) return text;
  if (width <= 1) return "…".slice(0, Math.max(0, width));
  const head = Math.ceil((width - 1) / 2);
  return `${text.slice(0, head)}…${text.slice(text.length - (width - 1 - head))}`;
}
