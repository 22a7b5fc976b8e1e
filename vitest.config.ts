import { defineConfig } from "vitest/config";

const seconds = 1000;

export default defineConfig({
  test: {
    maxWorkers: 2,
    projects: [
      { test: { name: "core", include: ["test/core/**/*.test.ts"], testTimeout: 30 * seconds } },
      { test: { name: "tidy", include: ["test/*.test.ts"] } },
      {
        test: {
          name: "engine",
          include: ["test/engine/**/*.test.ts"],
          testTimeout: 60 * seconds,
          hookTimeout: 120 * seconds,
        },
      },
      {
        test: {
          name: "ui",
          include: ["test/ui/**/*.test.ts"],
          testTimeout: 120 * seconds,
          hookTimeout: 120 * seconds,
          fileParallelism: false,
        },
      },
    ],
  },
});
