import { h } from "./dom.mjs";
import { stepper } from "./stepper.mjs";

const isNumber = x => /^[-+–\d]/.test(String(x ?? "–"));

function plainTable({ title, caption, columns, rows }) {
  const numeric = (columns ?? []).map((_, i) => rows.every(r => isNumber(r[i])));
  const cell = (tag, x, i) => h(tag, { class: i && (tag === "th" ? numeric[i] : isNumber(x)) ? "number" : null, scope: tag === "th" ? (i == null ? "row" : "col") : null, dir: "auto" }, String(x ?? "–"));
  return h("section", {}, title && h("h3", {}, title), caption && h("p", { class: "soft" }, caption),
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": title || "table" },
      h("table", {}, columns && h("thead", {}, h("tr", {}, columns.map((c, i) => cell("th", c, i)))),
        h("tbody", {}, rows.map(r => h("tr", {}, r.map((x, i) => i ? cell("td", x, columns ? i : 0) : cell("th", x))))))));
}

function figureBox({ title, caption, figure }) {
  const plot = h("div", { class: "plot", role: "img", "aria-label": `${title}. ${caption}` });
  plot.figure = figure;
  plot.style.height = `${figure.layout.height}px`;
  return h("figure", {}, h("h3", {}, title), caption && h("figcaption", {}, caption), plot);
}

async function drawFigure(plot) {
  const { data, layout } = plot.figure, narrow = plot.clientWidth < 600;
  plot.figure = null;
  if (!window.Plotly) { plot.textContent = "Figures need plotly.js, which this page lacks."; return; }
  const titles = (layout.annotations ?? []).filter(a => a.name?.startsWith("legend"));
  if (narrow && titles.length) layout.height *= 1.3;
  if (narrow) layout.margin = { ...layout.margin, l: 44, r: 8 };
  plot.style.height = `${layout.height}px`;
  await window.Plotly.newPlot(plot, data, layout, { responsive: true, displaylogo: false, displayModeBar: narrow ? false : "hover" });
  // A legend that had to wrap pushes the title of its panel up.
  const shift = {};
  (layout.annotations ?? []).forEach((a, i) => {
    const box = a.name?.startsWith("legend") && plot.querySelector(`g.${a.name} .bg`)?.getBBox();
    if (box && box.height > 24) shift[`annotations[${i}].yshift`] = box.height;
  });
  if (Object.keys(shift).length) await window.Plotly.relayout(plot, shift);
  plot.drawn = true;
}

function drawWhenShown(el) {
  const seen = new IntersectionObserver(entries => entries.forEach(e => { if (e.isIntersecting && e.target.figure) { seen.unobserve(e.target); drawFigure(e.target); } }), { rootMargin: "9999px" });
  el.querySelectorAll(".plot").forEach(p => seen.observe(p));
}

// What is said and drawn of a run, or of a comparison.
function body(report) {
  return [
    report.summary?.map(text => h("p", { class: "lead" }, text)),
    report.notes?.map(text => h("p", { class: "note", role: "note" }, text)),
    report.facts && h("dl", { class: "facts" }, report.facts.map(([k, v]) => h("div", {}, h("dt", {}, k), h("dd", { dir: "auto" }, v)))),
    report.tables?.filter(t => t.first).map(plainTable), report.figures?.map(figureBox), report.tables?.filter(t => !t.first).map(plainTable),
    report.settings?.length && h("details", { class: "settings" }, h("summary", {}, "All settings"), plainTable({ rows: report.settings })),
  ].flat().filter(Boolean);
}

// The report of a run: words, figures, tables, and the stepper for some of its trajectories.
export function reportView({ model, el, root }) {
  const report = model.get("report"), parts = body(report), settings = parts.at(-1)?.classList.contains("settings") ? parts.pop() : null;
  const box = h("div", { class: "stepper" });
  const runs = (report.runs ?? []).map(run => h("details", { class: "run" }, h("summary", {}, h("b", {}, run.title), " ", h("span", { class: "soft" }, run.line)), body(run)));
  el.append(h("header", {}, h("h1", {}, report.title), h("p", { class: "soft" }, report.line)), ...parts,
    model.get("index")?.rows.length ? h("section", { class: "trajectories" }, h("h2", {}, "Trajectories, turn by turn"),
      h("p", {}, `${model.get("index").rows.length} of the ${report.trajectories_written} episodes that were written down, from early to late. `, "Step through one with ← → or j k; space plays it. Click a bar to go there, drag the dashed line to say what counts as drift, point at a token to see what else could have been said."), box) : "",
    settings ?? "", runs.length ? h("section", {}, h("h2", {}, "The runs"), runs) : "", h("footer", { class: "soft" }, report.made));
  drawWhenShown(el);
  return box.isConnected ? stepper({ model, el: box, root }) : () => {};
}
