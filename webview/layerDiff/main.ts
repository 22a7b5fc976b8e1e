import "uplot/dist/uPlot.min.css";
import "./layerDiff.css";
import { connectHost } from "../host.js";
import { defineComponents } from "../ui/components.js";
import { LayerDiffPanel } from "./layerDiffPanel.js";

defineComponents();
const host = connectHost(
  (message) => panel.receive(message),
  (fault) => panel.reportFault(fault),
);
const panel = new LayerDiffPanel(document.getElementById("panel") ?? document.body, host);
host.send({ type: "ready" });
