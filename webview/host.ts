import { decodeHostMessage, type HostMessage, type PanelMessage } from "./protocol/messages.js";

interface VsCodeApi {
  postMessage(message: unknown): void;
  getState(): unknown;
  setState(state: unknown): void;
}

declare function acquireVsCodeApi(): VsCodeApi;

/** The panel's end of the wire. */
export interface Host {
  send(message: PanelMessage): void;
  keptState(): unknown;
  keepState(state: unknown): void;
}

/** Connects to VS Code. `acquireVsCodeApi` works once per document, and so does this. */
export function connectHost(
  onMessage: (message: HostMessage) => void,
  onFault: (fault: string) => void,
): Host {
  const api = acquireVsCodeApi();
  window.addEventListener("message", ({ data }: MessageEvent<unknown>) => {
    const decoded = decodeHostMessage(data);
    if ("error" in decoded) onFault(decoded.error);
    else onMessage(decoded.message);
  });
  return {
    send: (message) => api.postMessage(message),
    keptState: () => api.getState(),
    keepState: (state) => api.setState(state),
  };
}
