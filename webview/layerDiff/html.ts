export interface PanelHtmlSources {
  /** The webview's `cspSource`, or the origin that serves the files in a plain browser. */
  cspSource: string;
  /** Fresh for each document: at least 16 random bytes. */
  nonce: string;
  scriptUri: string;
  styleUri: string;
}

/**
 * The panel's document. Nothing may load but our own script and style sheet: no inline script, no inline style, no
 * network. Elements get their styles from the sheet, from constructed sheets (the toolkit) or through the CSSOM (the
 * chart, the virtual list), none of which the policy concerns. The toolkit probes for `:focus-visible` with one style
 * element and looks for its nonce in the `csp-nonce` meta element; without it the probe would be a violation.
 */
export function layerDiffHtml({ cspSource, nonce, scriptUri, styleUri }: PanelHtmlSources): string {
  const policy = [
    "default-src 'none'",
    `script-src 'nonce-${nonce}'`,
    `style-src ${cspSource} 'nonce-${nonce}'`,
    `img-src ${cspSource}`,
    `font-src ${cspSource}`,
    "base-uri 'none'",
    "form-action 'none'",
  ].join("; ");
  return `<!DOCTYPE html>
<html lang="en">
  <head>
    <meta charset="UTF-8" />
    <meta http-equiv="Content-Security-Policy" content="${attribute(policy)}" />
    <meta property="csp-nonce" content="${attribute(nonce)}" />
    <meta name="viewport" content="width=device-width, initial-scale=1.0" />
    <link rel="stylesheet" href="${attribute(styleUri)}" />
    <title>Layer Diff</title>
  </head>
  <body>
    <div id="panel"></div>
    <script nonce="${attribute(nonce)}" src="${attribute(scriptUri)}"></script>
  </body>
</html>
`;
}

function attribute(text: string): string {
  return text
    .replaceAll("&", "&amp;")
    .replaceAll('"', "&quot;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;");
}
