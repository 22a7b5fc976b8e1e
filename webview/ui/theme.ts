/** What the canvas needs of the theme. Everything else takes the `--vscode-*` variables in the style sheet. */
export interface ThemeColours {
  foreground: string;
  muted: string;
  line: string;
  background: string;
  focus: string;
  origin: string;
  gate: string;
  noise: string;
  /** One for each candidate, in the order of the report. */
  series: string[];
  font: string;
}

/** Reads the colours that VS Code has set on the document just now. */
export function readThemeColours(): ThemeColours {
  const style = getComputedStyle(document.body);
  const colour = (...names: string[]): string => {
    for (const name of names) {
      const value = style.getPropertyValue(name).trim();
      if (value !== "") return value;
    }
    return style.color;
  };
  return {
    foreground: colour("--vscode-foreground"),
    muted: colour("--vscode-descriptionForeground", "--vscode-foreground"),
    line: colour("--vscode-contrastBorder", "--vscode-panel-border", "--vscode-foreground"),
    background: colour("--vscode-editor-background"),
    focus: colour("--vscode-focusBorder", "--vscode-foreground"),
    origin: colour("--vscode-charts-red", "--vscode-errorForeground"),
    gate: colour("--vscode-charts-green", "--vscode-foreground"),
    noise: colour("--vscode-descriptionForeground", "--vscode-foreground"),
    series: [
      colour("--vscode-charts-blue", "--vscode-foreground"),
      colour("--vscode-charts-purple", "--vscode-foreground"),
      colour("--vscode-charts-orange", "--vscode-foreground"),
      colour("--vscode-charts-yellow", "--vscode-foreground"),
    ],
    font: `11px ${style.getPropertyValue("--vscode-font-family").trim() || "sans-serif"}`,
  };
}

/** Calls back when VS Code changes the theme: it rewrites the root's style and the body's class. Returns the undo. */
export function onThemeChange(callback: () => void): () => void {
  const observer = new MutationObserver(callback);
  observer.observe(document.documentElement, {
    attributeFilter: ["style", "class"],
  });
  observer.observe(document.body, {
    attributeFilter: ["class", "data-vscode-theme-kind"],
  });
  return () => observer.disconnect();
}
