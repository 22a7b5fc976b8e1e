// Everything: types, lint, format, unit, engine, capture, real VS Code, UI. Ends with one line `N passed, N failed`.
import { python, setup } from "./setup.mjs";
import { broken, command, format, lint, told, types, unit } from "./steps.mjs";

await setup({ tests: true });
const total = { passed: 0, failed: 0 };
const parts = [
  types,
  lint,
  format,
  () => unit("tidy"),
  () => unit("core"),
  () => unit("engine"),
  capture,
  host,
  () => unit("ui"),
];
for (const part of parts) {
  const { passed, failed } = told(await part());
  total.passed += passed;
  total.failed += failed;
}
console.log(`${total.passed} passed, ${total.failed} failed`);
process.exitCode = total.failed === 0 ? 0 : 1;

/** The capture agent's own tests, in Python with real torch, fbgemm and nvtripy. */
async function capture() {
  const { code, output, seconds } = await command(
    [python, "-m", "unittest", "discover", "-s", "test/capture"],
    { PYTHONDONTWRITEBYTECODE: "1" },
  );
  const ran = Number(/^Ran (\d+) tests?/m.exec(output)?.[1] ?? 0);
  const [, counted = ""] = /^(?:OK|FAILED) \((.*)\)$/m.exec(output) ?? [];
  const failed = [...counted.matchAll(/(?:failures|errors|skipped)=(\d+)/g)].reduce(
    (sum, [, count]) => sum + Number(count),
    0,
  );
  const passed = Math.max(0, ran - failed);
  return { name: "capture (Python)", passed, failed: broken(code, failed), output, seconds };
}

/** The extension in real VS Code; which host ran is printed. */
async function host() {
  const { code, output, seconds } = await command([process.execPath, "test/host/runHostTests.mjs"]);
  const name = /^host tests run in .*$/m.exec(output)?.[0] ?? "host tests";
  const counts = /^.*host tests: (\d+) passed, (\d+) failed, (\d+) skipped/m.exec(output);
  const [passed = 0, failed = 0, skipped = 0] = counts?.slice(1).map(Number) ?? [];
  return { name, passed, failed: broken(code, failed + skipped), output, seconds };
}
