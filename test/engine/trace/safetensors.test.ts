import { mkdtemp, readFile, readdir, rm, truncate, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { TensorValue } from "../../../engine/core/tensorValue.js";
import { UserError } from "../../../engine/protocol/userError.js";
import {
  openSafetensors,
  readSafetensors,
  writeSafetensors,
} from "../../../engine/trace/safetensors.js";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), "hstu-parity-safetensors-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const floats: TensorValue = {
  dtype: "float32",
  shape: [2, 2],
  // NaN with a payload, −0, +Infinity and a subnormal: bits that no JSON would keep.
  bytes: new Uint8Array(Uint32Array.of(0x7fc12345, 0x80000000, 0x7f800000, 1).buffer),
};
const integers: TensorValue = {
  dtype: "int64",
  shape: [2],
  bytes: new Uint8Array(BigInt64Array.of(-1n, 2n ** 62n + 1n).buffer),
};
const flags: TensorValue = { dtype: "bool", shape: [3], bytes: Uint8Array.of(1, 0, 1) };
const scalar: TensorValue = { dtype: "bfloat16", shape: [], bytes: Uint8Array.of(0x80, 0x3f) };
const empty: TensorValue = { dtype: "float16", shape: [0, 4], bytes: new Uint8Array(0) };
const all = { flags, floats, scalar, integers, empty };

async function file(name: string, content: Uint8Array | string): Promise<string> {
  const full = path.join(folder, name);
  await writeFile(full, content);
  return full;
}

/** A file with the given header and as many zero bytes of data. */
function raw(header: unknown, dataBytes: number): Buffer {
  const text = Buffer.from(typeof header === "string" ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.byteLength));
  return Buffer.concat([length, text, Buffer.alloc(dataBytes)]);
}

async function refusal(run: Promise<unknown>): Promise<UserError> {
  const error: unknown = await run.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(UserError);
  expect((error as UserError).problems[0]?.nextStep).not.toBe("");
  return error as UserError;
}

describe("safetensors", () => {
  it("gives every bit back, whatever the type, read whole or one by one", async () => {
    const name = path.join(folder, "all.safetensors");
    await writeSafetensors(name, all, { made: "here" });
    const whole = await readSafetensors(name);
    const opened = await openSafetensors(name);
    try {
      expect(opened.metadata).toEqual({ made: "here" });
      for (const [key, value] of Object.entries(all)) {
        for (const read of [whole.get(key), await opened.read(key)]) {
          expect(read?.dtype).toBe(value.dtype);
          expect(read?.shape).toEqual(value.shape);
          expect(Buffer.from(read?.bytes ?? [])).toEqual(Buffer.from(value.bytes));
        }
        const ref = opened.tensors.get(key);
        expect(
          (ref?.byteOffset ?? 1) %
            { bool: 1, float32: 4, bfloat16: 2, int64: 8, float16: 2 }[value.dtype as "bool"],
        ).toBe(0);
        const bytes = await readFile(name);
        expect(
          bytes.subarray(ref?.byteOffset, (ref?.byteOffset ?? 0) + (ref?.byteLength ?? 0)),
        ).toEqual(Buffer.from(value.bytes));
      }
    } finally {
      await opened.close();
    }
  });

  it("keeps names that JavaScript objects treat specially, and takes a Map", async () => {
    const name = path.join(folder, "names.safetensors");
    await writeSafetensors(
      name,
      new Map([
        ["__proto__", flags],
        ['a "b" ü', scalar],
      ]),
    );
    expect([...(await readSafetensors(name)).keys()].sort()).toEqual(["__proto__", 'a "b" ü']);
  });

  it("reads values that are larger than what is read at once", async () => {
    const name = path.join(folder, "large.safetensors");
    const large = new Uint8Array(17 * 2 ** 20).map((_, i) => i % 251);
    await writeSafetensors(name, {
      large: { dtype: "uint8", shape: [large.length], bytes: large },
      floats,
      flags,
    });
    const values = await readSafetensors(name);
    expect(Buffer.compare(values.get("large")?.bytes ?? new Uint8Array(), large)).toBe(0);
    expect(values.get("flags")?.bytes).toEqual(flags.bytes);
  });

  it("refuses to write bytes that do not fit type and shape, and leaves nothing behind", async () => {
    const name = path.join(folder, "wrong.safetensors");
    await expect(writeSafetensors(name, { floats: { ...floats, shape: [2, 3] } })).rejects.toThrow(
      RangeError,
    );
    await expect(writeSafetensors(path.join(folder, "no", "x.safetensors"), all)).rejects.toThrow();
    expect(
      (await readdir(folder)).filter((f) => f.includes("wrong") || f.endsWith(".part")),
    ).toEqual([]);
  });

  const entry = { dtype: "F32", shape: [2], data_offsets: [0, 8] };
  const bad: [string, Buffer | string, RegExp][] = [
    ["an empty file", "", /ends within its header's length/],
    ["seven bytes", "1234567", /ends within its header's length/],
    ["a text file", "this is no tensor at all", /claims \d+ bytes, but only 16 follow/],
    [
      "a header that lacks its last byte",
      raw({}, 0).subarray(0, -1),
      /claims 2 bytes, but only 1 follow/,
    ],
    [
      "a header length that only just exceeds the file",
      raw({ a: entry }, 8).subarray(0, 20),
      /truncated/,
    ],
    ["a header of nonsense", raw("{nonsense", 0), /not JSON/],
    [
      "a header that is no UTF-8",
      Buffer.concat([raw("", 0).fill(3, 0, 1), Buffer.from([0x22, 0xff, 0x22])]),
      /not JSON/,
    ],
    ["a header that is a list", raw([], 0), /not a JSON object/],
    ["a tensor that is a number", raw({ a: 1 }, 0), /tensor "a" is not described/],
    [
      "an unknown dtype",
      raw({ a: { ...entry, dtype: "F8_E4M3" } }, 8),
      /tensor "a" has the unknown dtype "F8_E4M3"/,
    ],
    [
      "a prototype's name as dtype",
      raw({ a: { ...entry, dtype: "constructor" } }, 8),
      /unknown dtype/,
    ],
    [
      "a negative size",
      raw({ a: { ...entry, shape: [-2] } }, 8),
      /tensor "a" has the shape \[-2\]/,
    ],
    ["a size that is no number", raw({ a: { ...entry, shape: ["2"] } }, 8), /has the shape/],
    ["offsets that are one number", raw({ a: { ...entry, data_offsets: [8] } }, 8), /data_offsets/],
    [
      "offsets that run backwards",
      raw({ a: { ...entry, data_offsets: [8, 0] } }, 8),
      /ends at 0, before it begins at 8/,
    ],
    [
      "more elements than bytes",
      raw({ a: { ...entry, shape: [3] } }, 8),
      /has 8 bytes, but float32 \[3\] takes 12/,
    ],
    [
      "more than the file holds",
      raw({ a: entry }, 7),
      /tensor "a" claims to end 1 bytes after the end/,
    ],
    [
      "an overlap",
      raw({ a: entry, b: { ...entry, data_offsets: [4, 12] } }, 12),
      /tensors "a" and "b" overlap/,
    ],
    ["metadata that is no text", raw({ __metadata__: { a: 1 } }, 0), /__metadata__/],
  ];
  it.each(bad)("refuses %s, naming the file", async (_, content, message) => {
    const name = await file("bad.safetensors", content);
    for (const read of [openSafetensors, readSafetensors]) {
      const { message: said } = await refusal(read(name));
      expect(said).toMatch(message);
      expect(said).toContain(name);
    }
  });

  it("says that a file is missing, and that a folder is no file", async () => {
    const missing = path.join(folder, "missing.safetensors");
    expect((await refusal(readSafetensors(missing))).message).toBe(`there is no file ${missing}`);
    expect((await refusal(readSafetensors(folder))).message).toMatch(/cannot be read: EISDIR/);
  });

  it("notices that a file became shorter after it was opened", async () => {
    const name = path.join(folder, "shrinks.safetensors");
    await writeSafetensors(name, { floats });
    const opened = await openSafetensors(name);
    await truncate(name, (await readFile(name)).byteLength - 1);
    expect((await refusal(opened.read("floats"))).message).toMatch(/ends within tensor "floats"/);
    await opened.close();
  });

  it("names the tensors that there are when asked for another", async () => {
    const name = path.join(folder, "few.safetensors");
    await writeSafetensors(name, { floats });
    const opened = await openSafetensors(name);
    const error = await refusal(opened.read("float"));
    expect(error.message).toContain('no tensor "float"');
    expect(error.problems[0]?.nextStep).toContain('"floats"');
    await opened.close();
  });
});
