/**
 * Source of the module that the extension host loads in place of the tests. It writes what happened to a file, because
 * the workbench reports success when its extension host dies: without the file, a crashing native module would pass.
 */
export function runnerSource(testModule: string, resultFile: string): string {
  return `"use strict";
const fs = require("fs");
const path = require("path");
const target = ${JSON.stringify(testModule)};
const resultFile = ${JSON.stringify(resultFile)};
exports.run = async () => {
  try {
    const tests = require(target);
    if (!tests || typeof tests.run !== "function") throw new Error(target + " exports no run()");
    await tests.run(path.dirname(target));
    fs.writeFileSync(resultFile, JSON.stringify({ ok: true }));
  } catch (error) {
    fs.writeFileSync(resultFile, JSON.stringify({ ok: false, error: String((error && error.stack) || error) }));
    throw error;
  }
};
`;
}
