import "uplot/dist/uPlot.min.css";
import "./base.css";
import "./summary.css";
import "./curveAndList.css";
import "./detail.css";
import "./pages.css";
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
