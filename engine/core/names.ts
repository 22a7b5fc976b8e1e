/** Names of tensors, parameters and stages: normal forms and globs. */

/**
 * The form under which names of different authors meet: case, underscores and the separators inside a path do not
 * count, so that `_o.weight` meets `_o_weight`. Assignment and call counts (`#k`, `@n`) do count.
 */
export function normalisedName(name: string): string {
  return name.toLowerCase().replace(/[^a-z0-9#@]/g, "");
}

/** `*` stands for one part of a name (no `.` or `/`), `**` for any text. Returns what each wildcard stood for. */
export function matchGlob(pattern: string, name: string): string[] | undefined {
  return globToRegExp(pattern).exec(name)?.slice(1);
}

/** Puts the k-th text in place of the k-th wildcard; undefined when the pattern has more wildcards than texts. */
export function fillGlob(pattern: string, captures: readonly string[]): string | undefined {
  let next = 0;
  const filled = pattern.replace(/\*\*?/g, () => captures[next++] ?? "\u0000");
  return filled.includes("\u0000") ? undefined : filled;
}

const compiled = new Map<string, RegExp>();

function globToRegExp(pattern: string): RegExp {
  let regExp = compiled.get(pattern);
  if (!regExp) {
    const source = pattern.replace(/\*\*|\*|[.+?^${}()|[\]\\]/g, (part) =>
      part === "**" ? "(.*)" : part === "*" ? "([^./]*)" : `\\${part}`,
    );
    regExp = new RegExp(`^${source}$`);
    compiled.set(pattern, regExp);
  }
  return regExp;
}

/** "INSTANCE/FUNCTION.VARIABLE#k" in its parts; a name of another form has no instance. */
export function splitTensorName(name: string): { instance: string; local: string } {
  const slash = name.lastIndexOf("/");
  return slash < 0
    ? { instance: "", local: name }
    : { instance: name.slice(0, slash), local: name.slice(slash + 1) };
}

/** "INSTANCE/FUNCTION.VARIABLE" without the assignment count. */
export function withoutCount(name: string): string {
  return name.replace(/#\d+$/, "");
}
