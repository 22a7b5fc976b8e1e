/** What a JSON value should have been, and where it stands: "ops[3].inputs[0]: expected an integer, found \"x\"". */
export class DecodeError extends Error {
  constructor(path: string, expected: string, found: unknown) {
    super(`${path || "the file"}: expected ${expected}, found ${describe(found)}`);
    this.name = "DecodeError";
  }
}

/** Reads a value of unknown shape. @throws DecodeError */
export type Decode<T> = (value: unknown, path: string) => T;

export const text: Decode<string> = (value, path) => {
  if (typeof value !== "string") throw new DecodeError(path, "a text", value);
  return value;
};

export const flag: Decode<boolean> = (value, path) => {
  if (typeof value !== "boolean") throw new DecodeError(path, "true or false", value);
  return value;
};

export function integer(lowest = 0): Decode<number> {
  return (value, path) => {
    if (typeof value !== "number" || !Number.isSafeInteger(value) || value < lowest) {
      throw new DecodeError(path, `an integer from ${lowest}`, value);
    }
    return value;
  };
}

export function oneOf<T extends string | number>(...allowed: readonly T[]): Decode<T> {
  return (value, path) => {
    const found = allowed.find((one) => one === value);
    if (found === undefined) {
      throw new DecodeError(path, allowed.map((one) => JSON.stringify(one)).join(" or "), value);
    }
    return found;
  };
}

export function nullable<T>(decode: Decode<T>): Decode<T | null> {
  return (value, path) => (value === null ? null : decode(value, path));
}

export function list<T>(decode: Decode<T>): Decode<T[]> {
  return (value, path) => {
    if (!Array.isArray(value)) throw new DecodeError(path, "a list", value);
    return value.map((item, index) => decode(item, `${path}[${index}]`));
  };
}

export const record: Decode<Record<string, unknown>> = (value, path) => {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new DecodeError(path, "an object", value);
  }
  return value as Record<string, unknown>;
};

export function recordOf<T>(decode: Decode<T>): Decode<Record<string, T>> {
  return (value, path) =>
    Object.fromEntries(
      Object.entries(record(value, path)).map(([key, item]) => [key, decode(item, at(path, key))]),
    );
}

/** The fields of one object, each decoded under its own path. */
export interface Fields {
  required<T>(name: string, decode: Decode<T>): T;
  /** `{ name: value }`, or nothing where the field is absent: to be spread. */
  optional<N extends string, T>(name: N, decode: Decode<T>): { [K in N]?: T };
}

export function fields(value: unknown, path: string): Fields {
  const object = record(value, path);
  return {
    required: (name, decode) => {
      if (!Object.hasOwn(object, name)) throw new DecodeError(at(path, name), "a value", undefined);
      return decode(object[name], at(path, name));
    },
    optional: <N extends string, T>(name: N, decode: Decode<T>) =>
      (Object.hasOwn(object, name) ? { [name]: decode(object[name], at(path, name)) } : {}) as {
        [K in N]?: T;
      },
  };
}

function at(path: string, name: string): string {
  return path === "" ? name : `${path}.${name}`;
}

function describe(value: unknown): string {
  if (value === undefined) return "nothing";
  const json = JSON.stringify(value);
  return json.length > 60 ? `${json.slice(0, 57)}…` : json;
}
