import { followTheme, h } from "./dom.mjs";
import { stepper } from "./stepper.mjs";
import { liveCurves, scheduleExplorer } from "./explorer.mjs";
import { reportView } from "./report.mjs";

const VIEWS = { stepper: ["trajectory stepper", stepper], live: ["training, live", o => { const stop = [liveCurves(o), stepper(o)]; return () => stop.forEach(f => f()); }],
                schedule: ["schedule explorer", scheduleExplorer], report: ["report", reportView] };

// anywidget's form: draw model.get("view") into el; returns what takes it away again.
// JupyterLab keeps its own keys (j, k, …) to itself while the focus is in here.
export function render({ model, el }) {
  const view = model.get("view"), [label, draw] = VIEWS[view];
  const root = h(view === "report" ? "main" : "div", { class: `guided-opd view-${view}`, role: view === "report" ? null : "region", "aria-label": label, tabindex: -1, "data-lm-suppress-shortcuts": "true" });
  el.append(root);
  const stops = [followTheme(root)];
  stops.push(draw({ model, el: root, root }));
  return () => { stops.forEach(f => f()); root.remove(); };
}

export default { render };
