import { differenceText as typographic } from "../core/figures.js";
import type { WireNumber } from "../protocol/wire.js";

export { plural } from "../core/figures.js";

/** As the editor's views have it, but with ASCII signs: what is read at a terminal is searched for and pasted. */
export function differenceText(value: WireNumber | undefined): string {
  return typographic(value).replaceAll("−", "-");
}
