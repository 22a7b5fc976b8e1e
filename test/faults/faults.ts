import { createHash } from "node:crypto";
import { cp, mkdtemp, readdir, readFile, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";

/** A change of a copy of a port's sources. */
export interface Edit {
  readonly file: string;
  readonly find: string;
  readonly replace: string;
  /** Starts of the lines that may be named for it, in the edited file unless `linesIn` says otherwise. Default: the edited one. */
  readonly lines?: readonly string[];
  readonly linesIn?: string;
  /** Lines that are as good an answer, "FILE@TEXT" where they are in another file. */
  readonly also?: readonly string[];
}

export interface Fault {
  readonly id: string;
  readonly category: string;
  readonly port: string;
  /** One for each thing that is wrong; of an honest variant, all that it changes. */
  readonly edits: readonly Edit[];
  /** It must not be accused. */
  readonly honest?: boolean;
  /** A precision that both sides do not share: WARN is as good as PASS. */
  readonly mayWarn?: boolean;
  /** False where the valid outputs stay the same to the last bit: there is nothing to be found. */
  readonly effect?: boolean;
  /** The two sides get other inputs: the answer is a question, UNKNOWN. */
  readonly question?: boolean;
}

export interface Port {
  readonly folder: string;
  readonly script: string;
  readonly args: readonly string[];
  /** Copied and run with these files only; the rest of the folder is of no use. */
  readonly seed: (seed: number) => {
    args: readonly string[];
    env: Readonly<Record<string, string>>;
  };
}

const sample = "samples/hstu";
const ownSeed = (seed: number) => ({ args: [], env: { SEED: String(seed) } });
const sampleSeed = (seed: number) => ({ args: ["--seed", String(seed)], env: {} });
const model = (name: string): Port => ({
  folder: `test/faults/models/${name}`,
  script: "run.py",
  args: [],
  seed: ownSeed,
});

export const ports: Readonly<Record<string, Port>> = {
  "hstu-tripy": { folder: sample, script: "tripy_hstu_example.py", args: [], seed: sampleSeed },
  "hstu-dense": { folder: sample, script: "test_research_pipeline.py", args: [], seed: sampleSeed },
  conv: model("conv"),
  encoder: model("encoder"),
  interaction: model("interaction"),
  recurrent: model("recurrent"),
};

/** @throws Error that names the file and the entry that is malformed. */
export async function readFaults(folder: string): Promise<Fault[]> {
  const faults: Fault[] = [];
  for (const name of (await readdir(folder)).filter((file) => file.endsWith(".json")).sort()) {
    const content = JSON.parse(await readFile(path.join(folder, name), "utf8")) as {
      port: string;
      faults: Omit<Fault, "port">[];
    };
    if (!ports[content.port]) throw new Error(`${name}: there is no port "${content.port}"`);
    for (const fault of content.faults) {
      const isComplete =
        fault.id && fault.category && fault.edits.every((e) => e.file && e.find !== e.replace);
      if (!isComplete) throw new Error(`${name}: the entry "${fault.id}" is not complete`);
      faults.push({ ...fault, port: content.port });
    }
  }
  const twice = faults.find(({ id }, at) => faults.findIndex((other) => other.id === id) !== at);
  if (twice) throw new Error(`two entries are named "${twice.id}"`);
  return faults;
}

/** A third, by a hash of the name: these are looked at when all tuning is done. */
export function isHeldOut({ id }: Fault): boolean {
  return createHash("sha256").update(id).digest().readUInt32BE(0) % 3 === 0;
}

export interface Place {
  readonly file: string;
  readonly line: number;
}

export interface Edited {
  readonly folder: string;
  /** For each edit, the lines that may be named for it. */
  readonly wanted: readonly (readonly Place[])[];
}

/** Copies the port and edits the copy. @throws Error where a text to replace or a line to name is not there. */
export async function applyEdits(root: string, { id, port, edits }: Fault): Promise<Edited> {
  const { folder: source } = ports[port] as Port;
  const folder = await mkdtemp(path.join(os.tmpdir(), `hstu-parity-fault-${id}-`));
  await cp(path.join(root, source), folder, {
    recursive: true,
    filter: (file) => !/artefacts|__pycache__/.test(file),
  });
  const texts = new Map<string, string>();
  const textOf = async (file: string): Promise<string> =>
    texts.get(file) ?? readFile(path.join(folder, file), "utf8");
  for (const { file, find, replace } of edits) {
    const text = await textOf(file);
    if (!text.includes(find)) throw new Error(`${id}: ${file} has no "${find}"`);
    texts.set(
      file,
      text.replace(find, () => replace),
    );
  }
  for (const [file, text] of texts) await writeFile(path.join(folder, file), text);
  const wanted: Place[][] = [];
  for (const { file, replace, lines, linesIn, also = [] } of edits) {
    const own = lines ?? (replace.trim() === "" ? [] : [replace]);
    const named = own.map((text) => [linesIn ?? file, text] as const);
    const others = also.map((text): readonly [string, string] => {
      const at = text.indexOf("@");
      return at > 0 && text.slice(0, at).endsWith(".py")
        ? [text.slice(0, at), text.slice(at + 1)]
        : [file, text];
    });
    const places: Place[] = [];
    for (const [where, text] of [...named, ...others]) {
      const found = placesOf(await textOf(where), text.split("\n")[0] as string);
      if (found.length === 0) throw new Error(`${id}: ${where} has no line with "${text}"`);
      places.push(...found.map((line) => ({ file: where, line })));
    }
    wanted.push(places);
  }
  return { folder, wanted };
}

function placesOf(text: string, part: string): number[] {
  return text.split("\n").flatMap((line, at) => (line.includes(part.trim()) ? [at + 1] : []));
}
