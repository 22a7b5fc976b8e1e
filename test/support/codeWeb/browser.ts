import { chromium, type Browser } from "playwright-core";
import type { CodeWeb } from "./installation.js";

/** A headless browser that can reach nothing but this machine. */
export function openBrowser({ chromium: executablePath }: CodeWeb): Promise<Browser> {
  return chromium.launch({
    executablePath,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--disable-dev-shm-usage",
      "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
    ],
  });
}

/**
 * The workbench's address. It says `localhost` and not 127.0.0.1: the name is the remote authority, and both are secure
 * contexts, which webviews need for their service worker.
 */
export function workbenchUrl(
  port: number,
  folder: string | undefined,
  payload: readonly (readonly [string, string])[] = [],
): string {
  const query = new URLSearchParams();
  if (folder === undefined) query.set("ew", "true");
  else query.set(folder.endsWith(".code-workspace") ? "workspace" : "folder", folder);
  if (payload.length > 0) query.set("payload", JSON.stringify(payload));
  return `http://localhost:${port}/?${query.toString()}`;
}
