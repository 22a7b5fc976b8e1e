// What is fast, all the time: types, lint, format, layering and the core's tests.
import { setup } from "./setup.mjs";
import { format, lint, told, types, unit } from "./steps.mjs";

await setup({ tests: false });
const results = await Promise.all([types(), lint(), format()]);
results.push(await unit("tidy"), await unit("core"));
const failed = results.map(told).reduce((sum, result) => sum + result.failed, 0);
process.exitCode = failed === 0 ? 0 : 1;
