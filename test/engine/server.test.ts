import { chmod, mkdtemp, realpath, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { Duplex } from "node:stream";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  createConnection,
  createProtocolConnection,
  StreamMessageReader,
  StreamMessageWriter,
  type Diagnostic,
  type Hover,
  type ProtocolConnection,
} from "vscode-languageserver/node";
import { URI } from "vscode-uri";
import {
  runRequest,
  type ReportChangedParams,
  type RunResult,
} from "../../engine/protocol/requests.js";
import {
  interpreterFound,
  runScriptRequest,
  scriptPrinted,
} from "../../engine/protocol/scriptRequests.js";
import { userError } from "../../engine/protocol/userError.js";
import { startServer, type Server } from "../../engine/server/server.js";
import type { RunParity } from "../../engine/server/runs.js";
import type { RunScript } from "../../engine/server/scriptRun.js";
import { candidateLines, makeReport, referenceLines } from "./serverReport.js";

/** The server at one end of a pair of streams, a bare client at the other. */
interface Client {
  readonly connection: ProtocolConnection;
  readonly diagnostics: Map<string, Diagnostic[]>;
  readonly reports: ReportChangedParams[];
  readonly stale: string[][];
  readonly server: Server;
  run(name?: string, workDoneToken?: string): Promise<RunResult>;
  script(name: string, python: string): Promise<RunResult>;
  open(name: string, text: string): Promise<void>;
  change(name: string, text: string): Promise<void>;
  hover(name: string, line: number): Promise<string | undefined>;
  of(name: string): Diagnostic[];
}

let folder: string;
let client: Client;
let runParity: RunParity;
let runScript: RunScript;

beforeEach(async () => {
  folder = await realpath(await mkdtemp(path.join(os.tmpdir(), "server-")));
  await writeFile(path.join(folder, "reference.py"), referenceLines.join("\n"));
  await writeFile(path.join(folder, "port.py"), candidateLines.join("\n"));
  await writeFile(path.join(folder, "story.parity.json"), "{}");
  runParity = async ({ onProgress }) => {
    onProgress("Comparing", 0.5);
    return makeReport(folder);
  };
  runScript = async () => makeReport(folder);
  client = await connect();
});
afterEach(async () => {
  client.connection.dispose();
  await rm(folder, { recursive: true, force: true });
});

describe("the engine as a language server", () => {
  it("runs a run file and puts the findings on both sides' lines", async () => {
    const result = await client.run();
    expect(result.outcome).toBe("report");
    const [error] = client.of("port.py").filter((item) => item.severity === 1);
    expect(error).toMatchObject({
      source: "HSTU Parity",
      code: "parameter",
      range: { start: { line: 2, character: 8 }, end: { line: 2, character: 51 } },
    });
    expect(error?.relatedInformation?.map((item) => item.location.uri)).toContain(
      uri("reference.py"),
    );
    expect(client.of("reference.py").map((item) => [item.severity, item.range.start.line])).toEqual(
      [
        [3, 2],
        [3, 6],
      ],
    );
    expect(client.reports.at(-1)?.report?.verdict).toBe("fail");
  });

  it("reports progress under the request's token", async () => {
    const seen: unknown[] = [];
    client.connection.onNotification("$/progress", (params) => void seen.push(params));
    await client.run("story.parity.json", "token-1");
    expect(seen).toMatchObject([
      { token: "token-1", value: { kind: "begin", title: "story.parity.json" } },
      { token: "token-1", value: { kind: "report", message: "Comparing", percentage: 50 } },
      { token: "token-1", value: { kind: "end" } },
    ]);
  });

  it("ends a run when the request is cancelled, and keeps the former findings", async () => {
    await client.run();
    const before = client.of("port.py");
    let aborted = false;
    runParity = ({ signal }) =>
      new Promise((_, reject) =>
        signal.addEventListener("abort", () => {
          aborted = true;
          reject(signal.reason as Error);
        }),
      );
    const cancel = new AbortController();
    const running = client.connection.sendRequest(
      runRequest,
      { runFile: uri("story.parity.json") },
      {
        get isCancellationRequested() {
          return cancel.signal.aborted;
        },
        onCancellationRequested: (listener: (e: unknown) => void) => {
          cancel.signal.addEventListener("abort", () => listener(undefined));
          return { dispose: () => undefined };
        },
      },
    );
    await settle();
    cancel.abort();
    expect(await running).toEqual({ outcome: "cancelled" });
    expect(aborted).toBe(true);
    expect(client.of("port.py")).toEqual(before);
  });

  it("serves hovers for lines that took part", async () => {
    await client.run();
    expect(await client.hover("port.py", 7)).toContain("relL2 **0.920**");
    expect(await client.hover("port.py", 5)).toBeUndefined();
  });

  it("moves findings with the lines, and drops those of a changed line", async () => {
    await client.open("port.py", candidateLines.join("\n"));
    await client.run();
    await client.change("port.py", ["# above", ...candidateLines].join("\n"));
    expect(client.of("port.py").find((item) => item.severity === 1)?.range.start.line).toBe(3);
    expect(await client.hover("port.py", 8)).toContain("relL2 **0.920**");
    expect(client.stale.at(-1) ?? []).toEqual([]);

    const changed = candidateLines.map((line, index) => (index === 6 ? "        return u" : line));
    await client.change("port.py", changed.join("\n"));
    expect(client.of("port.py").map((item) => item.range.start.line)).toEqual([2]);
    expect(await client.hover("port.py", 7)).toContain("has changed since the run");
    expect(client.stale.at(-1)).toEqual(["port.py"]);

    await client.change("port.py", candidateLines.join("\n"));
    expect(client.of("port.py")).toHaveLength(2);
    expect(client.stale.at(-1)).toEqual([]);
  });

  it("takes what is on disk when an editor closes without saving", async () => {
    await client.open("port.py", "x = 1\n");
    await client.run();
    expect(client.of("port.py")).toEqual([]);
    await client.connection.sendNotification("textDocument/didClose", {
      textDocument: { uri: uri("port.py") },
    });
    await settle();
    expect(client.of("port.py")).toHaveLength(2);
  });

  it("shows the mistakes of a run file while it is edited", async () => {
    await client.open("story.parity.json", "{\n  bad\n}");
    expect(client.of("story.parity.json")).toMatchObject([
      { code: "bad-field", severity: 1, range: { start: { line: 1, character: 2 } } },
    ]);
    await client.change("story.parity.json", "{\n}");
    expect(client.of("story.parity.json")).toEqual([]);
  });

  it("runs what the editor shows, saved or not", async () => {
    let text: string | undefined;
    runParity = async (options) => {
      text = options.text;
      return makeReport(folder);
    };
    await client.open("story.parity.json", "{ }");
    await client.run();
    expect(text).toBe("{ }");
  });

  it("shows what a run says about its run file until the next run", async () => {
    const { userError } = await import("../../engine/protocol/userError.js");
    runParity = () =>
      Promise.reject(
        userError("trace-missing", "there is no trace a.trace.json", "Record it.", {
          file: path.join(folder, "story.parity.json"),
          line: 1,
          function: "",
        }),
      );
    expect((await client.run()).outcome).toBe("invalid");
    expect(client.of("story.parity.json")).toMatchObject([
      { code: "trace-missing", message: "there is no trace a.trace.json. Record it." },
    ]);
    runParity = async () => makeReport(folder);
    await client.run();
    expect(client.of("story.parity.json")).toEqual([]);
  });

  it("shows the last report again after a restart", async () => {
    const result = await client.run();
    if (result.outcome !== "report") throw new Error(result.outcome);
    client.connection.dispose();
    client = await connect(result.reportFile);
    await settle();
    expect(client.reports.at(-1)?.report?.summary).toBe(result.report.summary);
    expect(client.of("port.py")).toHaveLength(2);
  });

  it("shows no finding of a report on a line that has changed since, after a restart", async () => {
    const result = await client.run();
    if (result.outcome !== "report") throw new Error(result.outcome);
    await writeFile(
      path.join(folder, "port.py"),
      candidateLines.map((line, index) => (index === 2 ? "        pass" : line)).join("\n"),
    );
    client.connection.dispose();
    client = await connect(result.reportFile);
    await settle();
    expect(client.of("port.py").map((item) => item.range.start.line)).toEqual([6]);
    expect(client.stale.at(-1)).toEqual(["port.py"]);
  });

  it("runs a script: its interpreter and output are told, its report is shown", async () => {
    const told: unknown[] = [];
    for (const method of [interpreterFound, scriptPrinted]) {
      client.connection.onNotification(method, (params) => void told.push(params));
    }
    runScript = async ({ onOutput }) => {
      onOutput?.("stdout", "hello");
      return makeReport(folder);
    };
    const python = await fakePython(folder);
    const result = await client.script("port.py", python);
    expect(result.outcome).toBe("report");
    await settle();
    expect(told).toMatchObject([
      { script: uri("port.py"), interpreter: { path: python, found: "from the settings" } },
      { script: uri("port.py"), text: "hello" },
    ]);
    expect(client.of("port.py").filter((item) => item.severity === 1)).toHaveLength(1);
    expect(await client.hover("port.py", 7)).toContain("relL2 **0.920**");
  });

  it("puts a script's problem on its line, also in a module that is not open, until that line's file is edited", async () => {
    const python = await fakePython(folder);
    const at = { file: path.join(folder, "reference.py"), line: 5, function: "forward" };
    runScript = () => Promise.reject(userError("script-raised", "it raised", "Mend it.", at));
    expect((await client.script("port.py", python)).outcome).toBe("invalid");
    await settle();
    expect(client.of("reference.py").map((item) => item.range.start.line)).toEqual([4]);
    expect(client.of("port.py")).toEqual([]);
    await client.open("reference.py", referenceLines.join("\n"));
    expect(client.of("reference.py")).toHaveLength(1);
    await client.change("reference.py", ["# mended", ...referenceLines].join("\n"));
    expect(client.of("reference.py")).toEqual([]);
  });

  it("ends a script's run when it stops", async () => {
    let aborted = false;
    runScript = ({ signal }) =>
      new Promise((_, reject) =>
        signal.addEventListener("abort", () => {
          aborted = true;
          reject(signal.reason as Error);
        }),
      );
    const running = client.script("port.py", await fakePython(folder));
    await settle();
    client.server.stop();
    expect(aborted).toBe(true);
    expect((await running).outcome).toBe("cancelled");
  });
});

function uri(name: string): string {
  return URI.file(path.join(folder, name)).toString();
}

/** Lets messages that are under way arrive, and files be read. */
function settle(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 60));
}

/** A shell script that answers as an interpreter does. */
async function fakePython(place: string): Promise<string> {
  const file = path.join(place, "python");
  const answer = { version: "3.11.7", prefix: place, searchPath: [], packages: {} };
  const text = JSON.stringify({ ...answer, installer: "pip" });
  await writeFile(file, `#!/bin/sh\nprintf '%s' 'hstu-parity-interpreter:${text}'\n`);
  await chmod(file, 0o755);
  return file;
}

async function connect(lastReport?: string): Promise<Client> {
  const [up, down] = [pipe(), pipe()];
  const server = startServer(
    createConnection(new StreamMessageReader(up), new StreamMessageWriter(down)),
    {
      runParity: (options) => runParity(options),
      parseRunFile: (text, file) => ({
        problems: text.includes("bad")
          ? [
              {
                severity: "error",
                code: "bad-field",
                message: "bad",
                nextStep: "Remove it.",
                site: { file, line: 2, column: 3, endColumn: 6, function: "" },
              },
            ]
          : [],
      }),
      runnerEntry: "runner.mjs",
      runScript: (options, choice) => runScript(options, choice),
      agentFolder: "capture",
      env: process.env,
    },
  );
  const connection = createProtocolConnection(
    new StreamMessageReader(down),
    new StreamMessageWriter(up),
  );
  const diagnostics = new Map<string, Diagnostic[]>();
  const reports: ReportChangedParams[] = [];
  const stale: string[][] = [];
  connection.onNotification(
    "textDocument/publishDiagnostics",
    (params: { uri: string; diagnostics: Diagnostic[] }) =>
      void diagnostics.set(params.uri, params.diagnostics),
  );
  connection.onNotification(
    "hstuParity/reportChanged",
    (params: ReportChangedParams) => void reports.push(params),
  );
  connection.onNotification(
    "hstuParity/staleChanged",
    (params: { files: string[] }) => void stale.push(params.files),
  );
  connection.listen();
  await connection.sendRequest("initialize", {
    processId: null,
    rootUri: null,
    capabilities: {},
    initializationOptions: { storage: path.join(folder, "storage"), lastReport },
  });
  await connection.sendNotification("initialized", {});
  let version = 1;
  return {
    server,
    connection,
    diagnostics,
    reports,
    stale,
    run: (name = "story.parity.json", workDoneToken) =>
      connection.sendRequest(runRequest, { runFile: uri(name), workDoneToken }),
    script: (name, python) =>
      connection.sendRequest(runScriptRequest, {
        script: uri(name),
        args: [],
        cwd: folder,
        given: [{ path: python, source: "setting" }],
        folders: [folder],
      }),
    open: async (name, text) => {
      await connection.sendNotification("textDocument/didOpen", {
        textDocument: { uri: uri(name), languageId: "python", version: ++version, text },
      });
      await settle();
    },
    change: async (name, text) => {
      await connection.sendNotification("textDocument/didChange", {
        textDocument: { uri: uri(name), version: ++version },
        contentChanges: [{ text }],
      });
      await settle();
    },
    hover: async (name, line) => {
      const hover: Hover | null = await connection.sendRequest("textDocument/hover", {
        textDocument: { uri: uri(name) },
        position: { line: line - 1, character: 8 },
      });
      return hover ? (hover.contents as { value: string }).value : undefined;
    },
    of: (name) => diagnostics.get(uri(name)) ?? [],
  };
}

function pipe(): Duplex {
  const stream = new Duplex({
    read: () => undefined,
    write: (chunk, _encoding, done) => {
      stream.push(chunk);
      done();
    },
  });
  return stream;
}
