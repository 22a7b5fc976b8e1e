// Everything: types, lint, format, unit, engine, capture, real VS Code, UI. Ends with one line `N passed, N failed`.
import { python, setup } from "./setup.mjs";
import { command, format, lint, told, types, unit } from "./steps.mjs";

await setup({ tests: true });
const total = { passed: 0, failed: 0 };
for (const part of [
  types,
  lint,
  format,
  () => unit(["core", "tidy"]),
  () => unit(["engine"]),
  capture,
  host,
  () => unit(["ui"]),
]) {
  const { passed, failed } = told(await part());
  total.passed += passed;
  total.failed += failed;
}
console.log(`${total.passed} passed, ${total.failed} failed`);
process.exitCode = total.failed === 0 ? 0 : 1;

/** The capture agent's own tests, in Python with real torch, fbgemm and nvtripy. */
async function capture() {
  const { code, output } = await command(
    python,
    ["-m", "unittest", "discover", "-s", "test/capture"],
    { env: { PYTHONDONTWRITEBYTECODE: "1" } },
  );
  const ran = Number(/^Ran (\d+) tests?/m.exec(output)?.[1] ?? 0);
  const counted = /FAILED \((.*)\)/.exec(output)?.[1] ?? "";
  const broken = [...counted.matchAll(/(?:failures|errors|skipped)=(\d+)/g)];
  const failed = broken.reduce((sum, [, count]) => sum + Number(count), 0);
  return {
    name: "capture (Python)",
    passed: Math.max(0, ran - failed),
    failed: code !== 0 && failed === 0 ? 1 : failed,
    output,
  };
}

/** The extension in real VS Code; which host ran is printed. */
async function host() {
  const { code, output } = await command(process.execPath, ["test/host/runHostTests.mjs"]);
  const name = /^host tests run in .*$/m.exec(output)?.[0] ?? "host tests";
  const passed = Number(/(\d+) passed/.exec(output)?.[1] ?? /(\d+) passing/.exec(output)?.[1] ?? 0);
  const counted = Number(
    /(\d+) failed/.exec(output)?.[1] ?? /(\d+) failing/.exec(output)?.[1] ?? 0,
  );
  return { name, passed, failed: code !== 0 && counted === 0 ? 1 : counted, output };
}
