import { readdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import Mocha from "mocha";

/** Runs the host tests of this kind of window in the extension host; rejects when one fails or when there is none. */
export async function run(): Promise<void> {
  const mocha = new Mocha({
    ui: "tdd",
    color: false,
    timeout: 60_000,
    forbidOnly: true,
  });
  const withoutFolder = process.env["HSTU_PARITY_HOST_WINDOW"] === "no folder";
  const files = readdirSync(__dirname)
    .filter((file) => file.endsWith(".test.cjs"))
    .filter((file) => file.startsWith("noFolder") === withoutFolder);
  for (const file of files.sort()) mocha.addFile(path.join(__dirname, file));
  const { passes, failures, pending } = await new Promise<Mocha.Stats>((resolve) => {
    const runner = mocha.run(() => resolve(runner.stats as Mocha.Stats));
  });
  const counts = process.env["HSTU_PARITY_HOST_COUNTS"];
  if (counts !== undefined) writeFileSync(counts, JSON.stringify({ passes, failures, pending }));
  if (failures + pending > 0 || passes === 0) throw new Error(`${failures} host test(s) failed`);
}
