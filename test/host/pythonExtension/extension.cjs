// The part of the Python extension's published API that is used, with an environment that a test chooses.
const vscode = require("vscode");

let chosen;
const resources = [];

exports.activate = () => ({
  /** For tests: the path of an interpreter; undefined: none is chosen. */
  choose: (path) => {
    chosen = path;
    resources.length = 0;
  },
  /** For tests: what was asked about since the last choice. */
  resources,
  environments: {
    getActiveEnvironmentPath: (resource) => {
      resources.push(resource?.toString());
      return { id: chosen ?? "DEFAULT_PYTHON", path: chosen ?? "python" };
    },
    resolveEnvironment: async ({ path }) =>
      path === chosen && chosen !== undefined
        ? { id: path, path, executable: { uri: vscode.Uri.file(path) } }
        : undefined,
  },
});
