import { Option, type Command } from "commander";
import { defaultCacheFolder } from "../cache/cacheFolder.js";
import { createRunCache, type CacheEntry, type RunCache } from "../cache/runCache.js";
import { verdictWords } from "../core/verdictWords.js";
import type { Terminal } from "./commandLine.js";
import { exitCodes } from "./exitCodes.js";
import { shortened } from "./textLayout.js";

/** Adds `cache list` and `cache clear`. */
export function addCacheCommand(
  program: Command,
  terminal: Terminal,
  setExitCode: (code: number) => void,
): void {
  const folder = defaultCacheFolder(terminal.env);
  const withCache = async (work: (cache: RunCache) => Promise<string>): Promise<void> => {
    try {
      terminal.stdout.write(await work(createRunCache({ folder })));
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      terminal.stderr.write(
        `hstu-parity: the cache ${folder} cannot be read: ${reason}\n` +
          "  Mend the folder's permissions, or name another one by HSTU_PARITY_CACHE.\n",
      );
      setExitCode(exitCodes.wrongRequest);
    }
  };
  const cache = program
    .command("cache")
    .description("list or clear the stored reports of scripts")
    .helpOption("-h, --help", "print this help")
    .helpCommand(false)
    .addHelpText("after", afterHelp);
  cache
    .command("list")
    .description("print what is stored, the last used first")
    .helpOption("-h, --help", "print this help")
    .addOption(
      new Option("--format <format>", "what to print on stdout")
        .choices(["text", "json"])
        .default("text"),
    )
    .action(({ format }: { format: "text" | "json" }) =>
      withCache(async (stored) => {
        const entries = await stored.list();
        return format === "json"
          ? `${JSON.stringify({ folder, bytes: bytesOf(entries), entries }, undefined, 1)}\n`
          : formatEntries(entries, folder, terminal.stdout.columns ?? 100, Date.now());
      }),
    );
  cache
    .command("clear")
    .description("remove all of it")
    .helpOption("-h, --help", "print this help")
    .action(() =>
      withCache(async (stored) => {
        const { entries, bytes } = await stored.clear();
        const left = (await stored.list()).length;
        const removed =
          entries > 0
            ? `Removed ${count(entries)} (${sizeText(bytes)}) from ${folder}.`
            : `There was nothing to remove in ${folder}.`;
        if (left === 0) return `${removed}\n`;
        setExitCode(exitCodes.wrongRequest);
        return `Removed ${count(entries)}; ${count(left)} could not be removed from ${folder}.\n`;
      }),
    );
}

/** A table that fits the terminal; `now` in milliseconds since 1970. */
export function formatEntries(
  entries: readonly CacheEntry[],
  folder: string,
  width: number,
  now: number,
): string {
  if (entries.length === 0) return `No run is stored in ${folder}.\n`;
  const rows = entries.map((entry) => [
    ageText(now - Date.parse(entry.storedAt)),
    ageText(now - Date.parse(entry.usedAt)),
    sizeText(entry.bytes),
    verdictWords[entry.verdict].word,
    [entry.program, ...entry.args.map(asWord)].join(" "),
    entry.cwd,
  ]);
  const table = [["Stored", "Used", "Size", "Verdict", "Script", "In"], ...rows];
  const widths = (table[0] as string[]).map((_, column) =>
    Math.max(...table.map((row) => (row[column] as string).length)),
  );
  const fixed = widths.slice(0, 4).reduce((sum, one) => sum + one + 2, 0);
  const room = Math.max(40, width - fixed - 2);
  const ofCwd = Math.min(widths[5] as number, Math.floor(room / 2));
  const ofScript = Math.min(widths[4] as number, room - ofCwd);
  const lines = table.map(([stored, used, size, verdict, script, cwd]) =>
    [
      (stored as string).padEnd(widths[0] as number),
      (used as string).padEnd(widths[1] as number),
      (size as string).padStart(widths[2] as number),
      (verdict as string).padEnd(widths[3] as number),
      shortened(script as string, ofScript).padEnd(ofScript),
      shortened(cwd as string, ofCwd),
    ].join("  "),
  );
  return `${lines.join("\n")}\n\n${count(entries.length)}, ${sizeText(bytesOf(entries))}, in ${folder}\n`;
}

function bytesOf(entries: readonly CacheEntry[]): number {
  return entries.reduce((sum, { bytes }) => sum + bytes, 0);
}

function count(runs: number): string {
  return runs === 1 ? "1 run" : `${runs} runs`;
}

/** An argument as it could be typed, on one line. */
function asWord(arg: string): string {
  return /^[^\s"'\p{Cc}]+$/u.test(arg) ? arg : JSON.stringify(arg);
}

function sizeText(bytes: number): string {
  const units = ["bytes", "kB", "MB", "GB"];
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 || value >= 99.5 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

function ageText(ms: number): string {
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 1) return "just now";
  if (minutes < 60) return `${minutes} min ago`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ago`;
  return `${Math.floor(hours / 24)} days ago`;
}

const afterHelp = `
Examples:
  $ hstu-parity cache list
      what is stored: when, how large, which script and its verdict
  $ hstu-parity cache clear
      removes all stored runs; the next run of each script runs Python again

The folder is the platform's for caches; HSTU_PARITY_CACHE names another one.`;
