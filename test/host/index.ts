import { readdirSync } from "node:fs";
import path from "node:path";
import Mocha from "mocha";

/** Runs every host test in the extension host; rejects when one fails or when there is none. */
export async function run(): Promise<void> {
  const mocha = new Mocha({
    ui: "tdd",
    color: false,
    timeout: 60_000,
    forbidOnly: true,
  });
  const files = readdirSync(__dirname).filter((file) => file.endsWith(".test.cjs"));
  for (const file of files.sort()) mocha.addFile(path.join(__dirname, file));
  const { passes, failures, pending } = await new Promise<Mocha.Stats>((resolve) => {
    const runner = mocha.run(() => resolve(runner.stats as Mocha.Stats));
  });
  console.log(`host tests: ${passes} passed, ${failures} failed, ${pending} skipped`);
  if (failures + pending > 0 || passes === 0) throw new Error(`${failures} host test(s) failed`);
}
