/** The arguments in one line of text, as a shell takes it, without its variables and wildcards. */

/**
 * Splits a line at its blanks; quotes keep blanks together. A backslash takes the next character as it is, outside of
 * single quotes and not on Windows, where it stands in paths.
 * @returns the arguments, or what is wrong with the line
 */
export function splitArguments(
  line: string,
  platform: NodeJS.Platform = process.platform,
): string[] | { readonly wrong: string } {
  const words: string[] = [];
  let word: string | undefined;
  let quote: string | undefined;
  for (let i = 0; i < line.length; i++) {
    const character = line[i] as string;
    if (character === quote) {
      quote = undefined;
    } else if (character === "\\" && quote !== "'" && escapes(line[i + 1], quote, platform)) {
      word = (word ?? "") + (line[++i] as string);
    } else if (quote === undefined && (character === '"' || character === "'")) {
      quote = character;
      word ??= "";
    } else if (quote === undefined && /\s/.test(character)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else {
      word = (word ?? "") + character;
    }
  }
  if (quote !== undefined) return { wrong: `the quote ${quote} is not closed` };
  return word === undefined ? words : [...words, word];
}

/** The line that `splitArguments` makes the arguments of. */
export function joinArguments(
  args: readonly string[],
  platform: NodeJS.Platform = process.platform,
): string {
  return args
    .map((arg) => {
      if (arg !== "" && !/[\s"'\\]/.test(arg)) return arg;
      if (!arg.includes("'"))
        return /^[^\s"']+$/.test(arg) && platform === "win32" ? arg : `'${arg}'`;
      const inside = platform === "win32" ? /"/g : /["\\]/g;
      return `"${arg.replace(inside, "\\$&")}"`;
    })
    .join(" ");
}

function escapes(
  next: string | undefined,
  quote: string | undefined,
  platform: NodeJS.Platform,
): boolean {
  if (next === undefined) return false;
  if (platform === "win32") return next === '"';
  return quote === undefined || next === '"' || next === "\\";
}
