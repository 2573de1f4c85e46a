// The run report's front end, in anywidget's ESM form: render({model, el}) draws model.get("report") into el.
// Texts of models and environments are hostile: they reach the page through textContent alone, never as HTML.

const NATS = [0.01, 0.03, 0.1, 0.3, 1, 3];        // limits between the shades of a token
const MARK = { student: "●", teacher: "▲", expert: "■" };
const NAMES = { reverse_kl: "reverse KL", forward_kl: "forward KL", student_entropy: "student's entropy", teacher_entropy: "teacher's entropy",
                student_logprob: "student's log-prob", teacher_logprob: "teacher's log-prob" };
const SHADED = 3000;                              // tokens of a reply that are shaded; the rest is plain text

const nats = x => x == null ? "–" : Math.abs(x) < 0.0005 ? "0.000" : x.toFixed(3);
const known = x => typeof x === "number" && isFinite(x);
const share = (x, most) => Math.sqrt(Math.min(1, Math.max(0, x / most)));   // height of a bar: most turns are far below the worst
const mean = xs => xs.reduce((a, x) => a + x, 0) / xs.length;
const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;

// h("p", {class: "x", onclick: f, "aria-label": "…"}, child, "text"): an element
function h(tag, props, ...children) {
  const el = document.createElement(tag);
  for (const [k, v] of Object.entries(props ?? {})) {
    if (v == null || v === false) continue;
    if (typeof v === "function") el[k] = v; else el.setAttribute(k, v === true ? "" : v);
  }
  el.append(...children.flat().filter(c => c != null && c !== false));
  return el;
}

// --- tables and figures

function table({ title, caption, columns, rows }) {
  const numeric = (columns ?? []).map((_, i) => rows.every(r => /^[-+–\d]/.test(String(r[i] ?? "–"))));
  const cell = (tag, x, i) => h(tag, { class: i && (tag === "th" ? numeric[i] : /^[-+–\d]/.test(String(x ?? "–"))) ? "number" : null, scope: tag === "th" ? (i == null ? "row" : "col") : null, dir: "auto" }, String(x ?? "–"));
  return h("section", {}, title && h("h3", {}, title), caption && h("p", { class: "soft" }, caption),
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": title || "table" },
      h("table", {}, columns && h("thead", {}, h("tr", {}, columns.map((c, i) => cell("th", c, i)))),
        h("tbody", {}, rows.map(r => h("tr", {}, r.map((x, i) => i ? cell("td", x, columns ? i : 0) : cell("th", x))))))));
}

function figure({ title, caption, figure }) {
  const plot = h("div", { class: "plot", role: "img", "aria-label": `${title}. ${caption}` });
  plot.figure = figure;
  plot.style.height = `${figure.layout.height}px`;
  return h("figure", {}, h("h3", {}, title), caption && h("figcaption", {}, caption), plot);
}

async function draw(plot) {
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
  const seen = new IntersectionObserver(entries => entries.forEach(e => { if (e.isIntersecting && e.target.figure) { seen.unobserve(e.target); draw(e.target); } }), { rootMargin: "9999px" });
  el.querySelectorAll(".plot").forEach(p => seen.observe(p));
}

// --- one trajectory, turn by turn

const level = x => NATS.filter(limit => x >= limit).length;

function shades() {
  const label = i => i === 0 ? `< ${NATS[0]}` : i === NATS.length ? `≥ ${NATS[i - 1]}` : `${NATS[i - 1]}–${NATS[i]}`;
  return h("p", { class: "shades" }, "Shade of a token, in nats: ", [...NATS, 0].map((_, i) => h("span", { class: "token", "data-level": i }, label(i))));
}

// One floating card for all tokens of the page.
function makeCard(el) {
  const card = h("div", { class: "card", role: "tooltip", id: "token-card", hidden: true });
  el.append(card);
  const hide = () => { card.hidden = true; };
  const show = token => {
    const { text, measures } = token.about;
    card.replaceChildren(h("b", { dir: "auto" }, JSON.stringify(text.length > 80 ? text.slice(0, 80) + "…" : text)),
      h("dl", {}, measures.flatMap(([k, v]) => [h("dt", {}, NAMES[k] ?? k), h("dd", {}, `${nats(v)} nats` + (k.endsWith("logprob") && v != null ? ` (${(100 * Math.exp(v)).toPrecision(3)}%)` : ""))])));
    card.hidden = false;
    const at = token.getBoundingClientRect(), box = card.getBoundingClientRect(), home = el.getBoundingClientRect();
    const left = Math.max(4, Math.min(at.left, document.documentElement.clientWidth - box.width - 8));
    const top = at.bottom + box.height + 8 < window.innerHeight ? at.bottom + 6 : at.top - box.height - 6;
    card.style.left = `${left - home.left}px`;
    card.style.top = `${top - home.top}px`;
  };
  const of = e => e.target.closest?.(".reply .token");
  for (const kind of ["mouseover", "focusin", "click"]) el.addEventListener(kind, e => { const t = of(e); t ? show(t) : hide(); });
  el.addEventListener("keydown", e => {
    if (e.key === "Escape") hide();
    const t = of(e), next = t && { ArrowRight: t.nextElementSibling, ArrowLeft: t.previousElementSibling }[e.key];
    if (t && e.key.startsWith("Arrow")) { e.stopPropagation(); if (next?.matches(".token")) { next.focus(); e.preventDefault(); } }
  }, true);
}

function reply(turn) {
  const box = h("div", { class: "reply", dir: "auto" });
  if (!turn.tokens) { box.append(h("span", {}, turn.reply)); return box; }
  const measured = Object.entries(turn.measures ?? {}), shade = turn.measures?.[turn.measure];
  let at = 0, shown = 0;
  for (const [text, n] of turn.tokens) {
    if (shown++ >= SHADED) { box.append(turn.tokens.slice(SHADED).map(t => t[0]).join("")); break; }
    const over = xs => { const own = xs.slice(at, at + n).filter(known); return own.length ? mean(own) : null; };
    const value = shade ? over(shade) : null;
    const token = h("span", { class: /^<\|.*\|>$|^<\/?s>$/.test(text) ? "token special" : "token", "data-level": value == null ? null : level(value), tabindex: shown === 1 ? 0 : -1, "aria-describedby": "token-card" },
      text === "" ? "∅" : text.replace(/\n/g, "↵\n"));
    token.about = { text, measures: measured.map(([k, xs]) => [k, over(xs)]) };
    box.append(token);
    at += n;
  }
  return box;
}

const long = (text, kind) => h("div", { class: kind, dir: "auto", tabindex: text.length > 1200 ? 0 : null }, text);

function turnView(turn, i, most) {
  const measure = NAMES[turn.measure];
  return h("li", { class: "turn", "data-actor": turn.actor, tabindex: -1 },
    h("div", { class: "said" }, h("span", { class: "soft label" }, "environment"), long(turn.observation, "observation")),
    h("div", { class: "head" },
      h("span", { class: "actor" }, `${MARK[turn.actor] ?? "?"} ${turn.actor}`), h("span", { class: "soft" }, `turn ${i + 1}`),
      turn.drift != null && h("span", { class: "drift" }, h("span", { class: "bar", style: `--share:${share(turn.drift, most)}` }), `${measure} ${nats(turn.drift)} nats a token`),
      !turn.trained && h("span", { class: "flag" }, "not trained"),
      !turn.valid && h("span", { class: "flag bad" }, "✗ not understood"),
      turn.stop === "length" && h("span", { class: "flag bad" }, "cut at the length limit"),
      h("span", { class: "soft" }, `score ${turn.score.toFixed(2)}`)),
    reply(turn),
    turn.action.trim() !== turn.reply.trim() && h("div", { class: "act", dir: "auto" }, h("span", { class: "soft label" }, "action"), turn.action || "(none)"));
}

function trajectoryView(t, most, activate) {
  const turns = [], buttons = [];
  let at = -1;
  const count = ["student", "teacher", "expert"].map(a => [a, t.turns.filter(u => u.actor === a).length]).filter(([, n]) => n);
  const details = h("details", { class: "trajectory", "data-solved": String(t.success) },
    h("summary", {}, h("span", { class: t.success ? "result good" : "result bad" }, t.success ? "✓ solved" : "✗ not solved"), h("span", { class: "task", dir: "auto" }, t.task),
      h("span", { class: "soft" }, `step ${t.step} · β ${t.beta.toFixed(2)} · score ${t.score.toFixed(2)} · ${count.map(([a, n]) => `${n} ${a}`).join(" + ")} ${t.turns.length === 1 ? "turn" : "turns"} · ${t.why}`)));
  details.go = (i, focus = true) => {
    if (i < 0 || i >= turns.length) return;
    for (const xs of [turns, buttons]) { xs[at]?.removeAttribute("aria-current"); xs[i].setAttribute("aria-current", "step"); }
    at = i;
    if (focus) { turns[i].focus({ preventScroll: true }); turns[i].scrollIntoView({ block: "nearest" }); }
  };
  details.move = by => details.go(Math.max(0, Math.min(turns.length - 1, at + by)));
  details.addEventListener("toggle", () => {
    if (!details.open) return;
    activate(details);
    if (turns.length) return;
    t.turns.forEach((u, i) => {
      turns.push(turnView(u, i, most));
      buttons.push(h("button", { type: "button", "data-actor": u.actor, "data-invalid": !u.valid, onclick: () => { activate(details); details.go(i); }, style: `--share:${share(u.drift ?? 0, most)}`,
        title: `turn ${i + 1}, ${u.actor}${u.drift == null ? "" : `: ${nats(u.drift)} nats a token`}${u.valid ? "" : ", not understood"}`,
        "aria-label": `turn ${i + 1}, ${u.actor}, ${u.drift == null ? "not scored" : `${nats(u.drift)} nats a token`}${u.valid ? "" : ", not understood"}` }));
    });
    details.append(
      h("div", { class: "strip", role: "group", "aria-label": "turns; left and right arrow or j and k step through them" }, h("span", { class: "soft" }, `${most.toPrecision(2)} nats`), h("div", { class: "bars" }, buttons)),
      h("ol", { class: "turns" }, turns),
      h("div", { class: "said end" }, h("span", { class: "soft label" }, "environment"), long(t.final, "observation")),
      h("p", { class: "soft" }, `Ended by ${{ environment: "the environment", max_turns: "the limit of turns", context: "a full context window" }[t.ended] ?? t.ended}.`));
    details.addEventListener("click", () => activate(details));
    if (turns.length) details.go(0, false);
  });
  return details;
}

function trajectories(report, activate) {
  const drifts = report.trajectories.flatMap(t => t.turns.map(u => u.drift)).filter(known);
  const most = Math.max(1e-3, ...drifts);
  const views = report.trajectories.map(t => trajectoryView(t, most, activate));
  const filters = [["all", () => true], ["solved", v => v.dataset.solved === "true"], ["not solved", v => v.dataset.solved === "false"]];
  const buttons = filters.map(([name, keep]) => h("button", { type: "button", "aria-pressed": String(name === "all"),
    onclick: e => { views.forEach(v => { v.hidden = !keep(v); }); buttons.forEach(b => b.setAttribute("aria-pressed", String(b === e.currentTarget))); } }, `${name} (${views.filter(keep).length})`));
  return h("section", { class: "trajectories" }, h("h3", {}, "Trajectories, turn by turn"),
    h("p", {}, `${plural(views.length, "episode")} of ${report.trajectories_written} that were written down, from early to late. A token is shaded by how far student and teacher were apart there: reverse KL in the student's turns, forward KL in the teacher's. `,
      `Point at a token for all its measures. Bars are turns: click one, or step with ← → or j k.`),
    shades(), h("p", { class: "key" }, ["student", "teacher", "expert"].map(a => h("span", { "data-actor": a }, h("span", { class: "actor" }, `${MARK[a]} ${a}`))), h("span", { class: "soft" }, `bars: 0 to ${most.toPrecision(2)} nats a token (mean of a turn), square-root scale`)),
    h("p", { class: "filters", role: "group", "aria-label": "which episodes" }, buttons), views);
}

// --- the page

function body(report, activate) {
  return [
    report.summary?.map(text => h("p", { class: "lead" }, text)),
    report.notes?.map(text => h("p", { class: "note", role: "note" }, text)),
    report.facts && h("dl", { class: "facts" }, report.facts.map(([k, v]) => h("div", {}, h("dt", {}, k), h("dd", { dir: "auto" }, v)))),
    report.tables?.filter(t => t.first).map(table), report.figures?.map(figure), report.tables?.filter(t => !t.first).map(table),
    report.trajectories?.length && trajectories(report, activate),
    report.settings?.length && h("details", { class: "settings" }, h("summary", {}, "All settings"), table({ rows: report.settings })),
  ].flat().filter(Boolean);
}

export function render({ model, el }) {
  const report = model.get("report");
  let active = null;
  const activate = details => { active = details; };
  const runs = (report.runs ?? []).map(run => h("details", { class: "run" }, h("summary", {}, h("b", {}, run.title), " ", h("span", { class: "soft" }, run.line)), body(run, activate)));
  const root = h("main", { class: "guided-report" }, h("header", {}, h("h1", {}, report.title), h("p", { class: "soft" }, report.line)), body(report, activate),
    runs.length && h("section", {}, h("h2", {}, "The runs"), runs), h("footer", { class: "soft" }, report.made));
  el.append(root);
  makeCard(root);
  drawWhenShown(root);
  const keys = e => {
    const by = { ArrowRight: 1, j: 1, ArrowLeft: -1, k: -1 }[e.key];
    if (!by || !active?.open || e.ctrlKey || e.metaKey || e.altKey || e.target.closest?.("input, textarea, select, .scroll")) return;
    active.move(by); e.preventDefault();
  };
  el.addEventListener("keydown", keys);
  const first = root.querySelector(".trajectory");
  if (first) first.open = true;
  return () => { el.removeEventListener("keydown", keys); root.remove(); };
}

export default { render };
