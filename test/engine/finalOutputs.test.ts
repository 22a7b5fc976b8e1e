import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { scriptHarness } from "./scriptHarness.js";

const harness = scriptHarness();

describe("the final outputs", () => {
  it("are written as NumPy reads them, valid elements only", async () => {
    await harness.script("pair.py", twoModels);
    const ended = await harness.run(["--outputs", "kept", "pair.py"]);
    expect(ended.code).toBe(1);
    const folder = path.join(harness.workspace, "kept");
    expect((await readdir(folder)).sort()).toEqual([
      "Port.0.candidate.npy",
      "Port.0.reference.npy",
    ]);
    const values = async (side: string): Promise<number[]> => {
      const bytes = await readFile(path.join(folder, `Port.0.${side}.npy`));
      const length = 10 + bytes.readUInt16LE(8);
      expect(length % 64).toBe(0);
      expect(bytes.subarray(0, 8)).toEqual(Buffer.from([0x93, ...Buffer.from("NUMPY"), 1, 0]));
      expect(bytes.subarray(10, length).toString("latin1")).toMatch(
        /^\{'descr': '<f4', 'fortran_order': False, 'shape': \(4,\), \} *\n$/,
      );
      return Array.from({ length: 4 }, (_, i) => bytes.readFloatLE(length + 4 * i));
    };
    const reference = await values("reference");
    expect(reference.every((x) => x !== 0)).toBe(true);
    expect(await values("candidate")).toEqual(reference.map((x) => x / 2));
  });

  it("of a run file are written too", async () => {
    await harness.script("pair.py", twoModels);
    await harness.run(["--save-run-file", "pair.parity.json", "pair.py"]);
    await harness.run(["--outputs", "kept", "pair.parity.json"]);
    const files = await readdir(path.join(harness.workspace, "kept"), { recursive: true });
    expect(files.filter((file) => file.endsWith(".npy")).length).toBeGreaterThan(0);
  });
});

const twoModels = `import torch

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 2)

    def forward(self, x):
        return self.linear(x)

class Port(Model):
    def forward(self, x):
        return self.linear(x) * 0.5

torch.manual_seed(0)
model, port = Model(), Port()
port.load_state_dict(model.state_dict())
x = torch.randn(2, 3)
with torch.no_grad():
    print(model(x), port(x))
`;
