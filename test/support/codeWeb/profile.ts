import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";

/** A throw-away profile. Its path is short because Unix sockets, whose names are limited, live below it. */
export interface Profile {
  readonly dir: string;
  readonly extensionsDir: string;
  /** Arguments of the server that keep everything inside the profile. */
  readonly serverArguments: readonly string[];
  readonly environment: NodeJS.ProcessEnv;
  remove(): void;
}

const quietSettings = {
  "workbench.startupEditor": "none",
  "workbench.tips.enabled": false,
  "workbench.enableExperiments": false,
  "workbench.secondarySideBar.defaultVisibility": "hidden",
  "chat.disableAIFeatures": true,
  "telemetry.telemetryLevel": "off",
  "extensions.autoCheckUpdates": false,
  "extensions.autoUpdate": false,
  "extensions.ignoreRecommendations": true,
  "git.enabled": false,
  // The web workbench saves after a second by default: a test that fails half-way would write into the sample.
  "files.autoSave": "off",
};

export function makeProfile(settings: Readonly<Record<string, unknown>> = {}): Profile {
  const dir = mkdtempSync(path.join(os.tmpdir(), "code-web-"));
  const userData = path.join(dir, "u");
  const extensionsDir = path.join(dir, "e");
  const temporary = path.join(dir, "t");
  mkdirSync(path.join(userData, "User"), { recursive: true });
  mkdirSync(extensionsDir);
  mkdirSync(temporary);
  writeFileSync(
    path.join(userData, "User/settings.json"),
    JSON.stringify({ ...quietSettings, ...settings }, null, 2),
  );
  return {
    dir,
    extensionsDir,
    serverArguments: [
      "--accept-server-license-terms",
      "--user-data-dir",
      userData,
      "--server-data-dir",
      path.join(dir, "s"),
      "--extensions-dir",
      extensionsDir,
    ],
    environment: {
      ...process.env,
      TMPDIR: temporary,
      XDG_RUNTIME_DIR: temporary,
      EXTENSIONS_GALLERY: "{}",
    },
    remove: () => rmSync(dir, { recursive: true, force: true, maxRetries: 5 }),
  };
}
