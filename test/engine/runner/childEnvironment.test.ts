import { expect, it } from "vitest";
import { childEnvironment } from "../../../engine/runner/childEnvironment.js";

const own = { PATH: "/bin", HOME: "/home/u" };

it("keeps the host's environment, adds the caller's, and turns telemetry off", () => {
  expect(childEnvironment(own, { PATH: "/usr/bin" }, { node: "20.20.2" })).toEqual({
    PATH: "/usr/bin",
    HOME: "/home/u",
    ORT_DISABLE_TELEMETRY: "1",
  });
});

it("starts Electron as Node, or a second editor would open", () => {
  const versions = { node: "22.1.0", electron: "35.0.0" };
  expect(childEnvironment(own, {}, versions)["ELECTRON_RUN_AS_NODE"]).toBe("1");
});
