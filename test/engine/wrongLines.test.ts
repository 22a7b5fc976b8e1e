import { spawnSync } from "node:child_process";
import { readdir } from "node:fs/promises";
import path from "node:path";
import { describe, expect, it } from "vitest";
import type { Pair, Report } from "../../engine/protocol/report.js";
import { python, scriptHarness } from "./scriptHarness.js";

const harness = scriptHarness();

/** A reference that calls what torch has, and a port that writes it out. `# 1` and so on mark lines. */
const right = `import torch
import torch.nn.functional as F


class Block(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = torch.nn.LayerNorm(width, eps=1e-2)
        self.qkv = torch.nn.Linear(width, 3 * width)
        self.out = torch.nn.Linear(width, width)

    def forward(self, x):
        q, k, v = self.qkv(self.norm(x)).chunk(3, dim=-1)
        weights = torch.softmax(q @ k.transpose(-1, -2) / 2.0, dim=-1)
        mixed = self.out(weights @ v)
        return x + mixed


class Model(torch.nn.Module):
    def __init__(self, width=8, blocks=2):
        super().__init__()
        self.blocks = torch.nn.ModuleList(Block(width) for _ in range(blocks))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return F.normalize(x, dim=-1)


class Port(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.parts = torch.nn.ParameterDict(
            {name.replace(".", "-"): torch.nn.Parameter(p) for name, p in model.named_parameters()}
        )

    def forward(self, x):
        for index in range(2):  # loop
            name = f"blocks-{index}-"  # name
            normed = norm(x, self.parts, name + "norm")
            mixed = attend(normed, self.parts, name)  # attend
            x = x + mixed  # residual
        squares = x * x  # squares
        length = torch.sqrt(torch.sum(squares, dim=-1, keepdim=True))  # length
        return x / torch.clamp(length, min=1e-12)  # divide


def norm(x, parts, name):
    mean = x.mean(dim=-1, keepdim=True)  # mean
    centred = x - mean
    variance = (centred * centred).mean(dim=-1, keepdim=True)
    quotient = centred / torch.sqrt(variance + 1e-2)  # eps
    return quotient * parts[name + "-weight"] + parts[name + "-bias"]  # affine


def attend(x, parts, name):
    both = x @ parts[name + "qkv-weight"].t() + parts[name + "qkv-bias"]
    q, k, v = both.split(8, dim=-1)  # split
    weights = weigh(q, k)  # weigh
    return (weights @ v) @ parts[name + "out-weight"].t() + parts[name + "out-bias"]  # out


def weigh(queries, keys):
    scores = queries @ keys.transpose(-1, -2)  # scores
    scores = scores * 0.5  # scale
    return torch.softmax(scores, dim=-1)  # softmax


torch.manual_seed(3)
model = Model()
with torch.no_grad():
    for parameter in model.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
port = Port(model)
x = torch.randn(3, 5, 8)
with torch.no_grad():
    print((model(x) - port(x)).abs().max())
`;

const faults: [string, string, string, string][] = [
  ["an eps inside the root", "variance + 1e-2", "variance + 1e-1", "eps"],
  ["a root too early", "torch.sqrt(variance + 1e-2)", "(torch.sqrt(variance) + 1e-2)", "eps"],
  [
    "a mean over the wrong axis",
    "x.mean(dim=-1, keepdim=True)  # mean",
    "x.mean(dim=1, keepdim=True)  # mean",
    "mean",
  ],
  ["a norm over the wrong axis", "torch.sum(squares, dim=-1", "torch.sum(squares, dim=0", "length"],
  ["a bias that is left out", ' + parts[name + "-bias"]  # affine', "  # affine", "affine"],
  ["the other factor", "return (weights @ v)", "return (weights @ k)", "out"],
  ["a split in another order", "q, k, v = both.split", "q, v, k = both.split", "split"],
  ["another scale", "scores * 0.5", "scores * 0.3", "scale"],
  [
    "a softmax over the wrong axis",
    "torch.softmax(scores, dim=-1)",
    "torch.softmax(scores, dim=-2)",
    "softmax",
  ],
  ["a residual that is left out", "x = x + mixed", "x = mixed", "residual"],
  ["a step that is done twice", "x = x + mixed", "x = x + torch.tanh(mixed)", "residual"],
  ["layers in another order", "in range(2):", "in reversed(range(2)):", "loop"],
  ["a layer too few", "in range(2):", "in range(1):", "loop"],
  ["the first layer left out", "in range(2):", "in range(1, 2):", "loop"],
  ["a layer twice", "in range(2):", "in (0, 1, 1):", "loop"],
  ["the first layer's weights throughout", 'f"blocks-{index}-"', '"blocks-0-"', "name"],
  ["the operand that was not normed", "attend(normed,", "attend(x,", "attend"],
  [
    "a weight read the wrong way round",
    'parts[name + "out-weight"].t()',
    'parts[name + "out-weight"]',
    "out",
  ],
];

describe("the wrong line of a port that writes out what torch does in one", () => {
  it("is none while it is right", { timeout: 60_000 }, async () => {
    const pair = await compare(right);
    expect([pair.verdict, pair.origins]).toEqual(["pass", []]);
  });

  it("is none where the port computes in float64", { timeout: 60_000 }, async () => {
    const wide = right
      .replace("port = Port(model)\n", "port = Port(model).double()\n")
      .replace("port(x)", "port(x.double())");
    const pair = await compare(wide);
    expect(["pass", "warn"]).toContain(pair.verdict);
    expect(pair.origins).toEqual([]);
  });

  it.each(faults)("is found: %s", { timeout: 60_000 }, async (_, find, replace, mark) => {
    expect(right.split(find)).toHaveLength(2);
    const wrong = right.replace(find, replace);
    const pair = await compare(wrong);
    expect(pair.verdict).toBe("fail");
    expect(pair.origins.map(({ site }) => site.line)).toEqual([lineOf(wrong, mark)]);
    expect(pair.repair).toMatchObject({ proves: true });
    // What torch does in one has names for its steps; a constant too much is told as such.
    if (mark === "eps") expect(pair.origins[0]?.cause?.text).toMatch(/layer_norm's root|0\.09/);
  });

  it("can be looked at alone", { timeout: 60_000 }, async () => {
    await harness.script("port.py", right.replace("scores * 0.5", "scores * 0.3"));
    await harness.run(["--repro", "alone", "port.py"]);
    const folder = path.join(harness.workspace, "alone");
    const [origin = ""] = await readdir(folder);
    const ran = spawnSync(python, [path.join(folder, origin, "repro.py")], { encoding: "utf8" });
    expect([ran.status, ran.stderr]).toEqual([0, ""]);
    // 0.3 / 0.5 is 0.4 too little.
    expect(ran.stdout).toMatch(/relL2 0\.4,/);
  });
});

async function compare(text: string): Promise<Pair> {
  await harness.script("port.py", text);
  const ended = await harness.run(["port.py"]);
  const [pair] = (JSON.parse(ended.stdout) as Report).pairs;
  if (!pair) throw new Error(`nothing was compared: ${ended.stderr}`);
  return pair;
}

function lineOf(text: string, mark: string): number {
  return text.split("\n").findIndex((line) => line.endsWith(`# ${mark}`)) + 1;
}
