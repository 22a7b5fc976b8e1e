import { findNodeAtLocation, type Node } from "jsonc-parser";
import type { Site } from "../protocol/report.js";

/** Field names and array indices from the top of the file. */
export type Path = readonly (string | number)[];

export interface Places {
  /** Where the value at the path stands; of several lines, the first. */
  value(path: Path): Site;
  /** Where the field's name stands; for an array's entry and for the whole file, the value. */
  key(path: Path): Site;
  at(offset: number, length: number): Site;
  /** What the user calls the field: `implementations.tripy.onnx`. */
  name(path: Path): string;
}

export function placesIn(text: string, file: string, tree: Node | undefined): Places {
  const lineStarts = [0];
  for (let i = text.indexOf("\n"); i >= 0; i = text.indexOf("\n", i + 1)) lineStarts.push(i + 1);

  const at = (offset: number, length: number): Site => {
    const next = lineStarts.findIndex((start) => start > offset);
    const line = next < 0 ? lineStarts.length : next;
    const start = lineStarts[line - 1] ?? 0;
    const lineEnd = start + text.slice(start).search(/\r?\n|$/);
    const end = Math.max(offset + 1, Math.min(offset + length, lineEnd));
    return { file, line, column: offset - start + 1, endColumn: end - start + 1, function: "" };
  };
  const node = (path: Path): Node | undefined => tree && findNodeAtLocation(tree, [...path]);
  const ofNode = (found: Node | undefined): Site =>
    found ? at(found.offset, found.length) : at(0, 1);
  return {
    at,
    value: (path) => ofNode(node(path)),
    key: (path) => {
      const found = node(path);
      return ofNode(found?.parent?.type === "property" ? found.parent.children?.[0] : found);
    },
    name: nameOf,
  };
}

function nameOf(path: Path): string {
  return path
    .map((part, index) => {
      if (typeof part === "number") return `[${part}]`;
      if (!/^[\w$-]+$/.test(part)) return `[${JSON.stringify(part)}]`;
      return index === 0 ? part : `.${part}`;
    })
    .join("");
}
