import { execFile } from "node:child_process";
import { mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { root } from "../support/bundleRunner.js";

const committed = path.join(root, "engine/protocol/schema");

it(
  "the schemas are those of the types; `npm run schemas` makes them again",
  { timeout: 60_000 },
  async () => {
    const folder = await mkdtemp(path.join(os.tmpdir(), "schemas-"));
    try {
      const script = path.join(root, "scripts/schemas.mjs");
      await promisify(execFile)(process.execPath, [script, "--out", folder], { cwd: root });
      const files = await readdir(folder);
      expect(files.sort()).toEqual((await readdir(committed)).sort());
      for (const file of files) {
        expect(await readFile(path.join(committed, file), "utf8")).toBe(
          await readFile(path.join(folder, file), "utf8"),
        );
      }
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  },
);
