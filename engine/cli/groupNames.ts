/**
 * Names that differ only in their numbers become one: `layers.{0,1}._o_weight`. Names are merged only where every
 * combination of the numbers occurs, so that the short form stands for exactly these names.
 */
export function groupNames(names: readonly string[]): string[] {
  const groups = new Map<string, { names: Set<string>; numbers: number[][] }>();
  for (const name of names) {
    const numbers = [...name.matchAll(numberPart)].map((match) => Number(match[0]));
    const key = name.replace(numberPart, "*");
    const group = groups.get(key) ?? { names: new Set<string>(), numbers: [] };
    if (!group.names.has(name)) group.numbers.push(numbers);
    group.names.add(name);
    groups.set(key, group);
  }
  return [...groups].flatMap(([key, group]) => {
    const count = group.numbers[0]?.length ?? 0;
    const values = Array.from({ length: count }, (_, k) =>
      [...new Set(group.numbers.map((numbers) => numbers[k] as number))].sort((a, b) => a - b),
    );
    const combinations = values.reduce((product, list) => product * list.length, 1);
    if (combinations !== group.names.size) return [...group.names];
    let next = 0;
    return [
      key.replace(/\*/g, () => {
        const list = values[next++] as number[];
        return list.length === 1 ? String(list[0]) : `{${numberList(list)}}`;
      }),
    ];
  });
}

/** Ascending whole numbers: "0,1", and "0–7" where three or more follow one another. */
export function numberList(numbers: readonly number[]): string {
  const runs: [number, number][] = [];
  for (const number of numbers) {
    const last = runs.at(-1);
    if (last && number === last[1] + 1) last[1] = number;
    else runs.push([number, number]);
  }
  return runs
    .flatMap(([from, to]) =>
      from === to ? [`${from}`] : to === from + 1 ? [`${from}`, `${to}`] : [`${from}–${to}`],
    )
    .join(",");
}

/** A part of a dotted name that is a whole number. */
export const numberPart = /(?<=^|[./])\d+(?=[./]|$)/g;
