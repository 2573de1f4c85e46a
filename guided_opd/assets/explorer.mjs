import { SHAPES, betaAt, clamp, known, mean, plural, ribbon, roundUp, smooth, ticks } from "./pure.mjs";
import { button, h, svg } from "./dom.mjs";

// --- curves, as the live view shows them

// lines: [{name, actor or colour class, xs, ys, dash}]
export function chart({ title, unit, lines, xmax, width, height = 150, top = null, percent = false, marks = [], key = true }) {
  const shown = lines.filter(l => l.ys.some(known)), box = { l: 40, r: 14, t: 8, b: 24 }, w = width - box.l - box.r, hgt = height - box.t - box.b;
  const high = top ?? roundUp(Math.max(1e-9, ...shown.flatMap(l => l.ys.filter(known)))), low = 0;
  const X = x => box.l + w * x / Math.max(1, xmax), Y = y => box.t + hgt * (1 - (clamp(y, low, high) - low) / (high - low));
  const path = l => l.xs.reduce((d, x, i) => known(l.ys[i]) ? `${d}${d && known(l.ys[i - 1]) ? "L" : "M"}${X(x).toFixed(1)} ${Y(l.ys[i]).toFixed(1)}` : d, "");
  const label = y => percent ? `${Math.round(100 * y)}%` : String(+y.toPrecision(3));
  const last = l => { const ys = l.ys.filter(known); return ys.length ? label(ys[ys.length - 1]) : "–"; };
  return h("figure", { class: "chart" }, h("figcaption", {}, h("b", {}, title), " ", h("span", { class: "soft" }, unit)),
    svg("svg", { width, height, role: "img", "aria-label": `${title}: ${shown.map(l => `${l.name}, last ${last(l)}`).join("; ") || "nothing yet"}` },
      ticks(low, high, 3).map(y => [svg("line", { class: "grid-line", x1: box.l, x2: width - box.r, y1: Y(y), y2: Y(y) }), svg("text", { class: "tick", x: box.l - 5, y: Y(y) + 4, "text-anchor": "end" }, label(y))]),
      ticks(0, xmax, Math.max(2, Math.floor(width / 90))).map(x => svg("text", { class: "tick", x: X(x), y: height - 7, "text-anchor": "middle" }, String(x))),
      shown.map(l => svg("path", { class: `line ${l.look}`, d: path(l), "stroke-dasharray": l.dash ?? null })),
      shown.flatMap(l => l.dots || l.ys.filter(known).length === 1 ? l.xs.flatMap((x, i) => known(l.ys[i]) ? [svg("circle", { class: `dot ${l.look}`, cx: X(x), cy: Y(l.ys[i]), r: 3 })] : []) : []),
      marks.map(m => svg("line", { class: "mark-line", x1: X(m), x2: X(m), y1: box.t, y2: box.t + hgt }))),
    key && h("p", { class: "key" }, shown.map(l => h("span", {}, h("i", { class: `swatch ${l.look}${l.dash ? " dashed" : ""}`, "aria-hidden": "true" }), `${l.name} ${last(l)}`))));
}

// The curves of a run, beside what it does now.
export function liveCurves({ model, el }) {
  const place = h("div", { class: "charts" }), status = h("p", { class: "soft", role: "status" });
  el.append(h("section", { class: "live", "aria-label": "curves of the run" }, status, place));
  function draw() {
    const live = model.get("live") ?? {}, rows = live.rows ?? [], xs = rows.map(r => r.step), get = k => rows.map(r => r[k] ?? null), width = place.clientWidth;
    const n = width > 820 ? 4 : width > 420 ? 2 : 1, w = Math.floor((Math.max(220, width) - (n - 1) * 16) / n), k = Math.floor(rows.length / 40), trained = rows.filter(r => r.loss != null);
    const line = (name, key, look, more) => ({ name, look, xs, ys: more?.dots ? get(key) : smooth(get(key), k), ...more });
    const speed = { name: "tokens", look: "grey", xs, ys: smooth(rows.map(r => { const s = (r.seconds_rollout ?? 0) + (r.seconds_score ?? 0) + (r.seconds_update ?? 0); return s > 0 ? ((r.student_tokens ?? 0) + (r.teacher_tokens ?? 0)) / s : null; }), k) };
    const xmax = live.steps || Math.max(1, ...xs), at = xs[xs.length - 1] ?? 0;
    status.textContent = !rows.length ? "Waiting for the first step …" : `${live.title ?? ""} ${at} of ${live.steps ?? "?"} steps${trained.length ? `, ${mean(trained.slice(-20).map(r => (r.seconds_rollout ?? 0) + (r.seconds_score ?? 0) + (r.seconds_update ?? 0))).toFixed(1)} s a step` : ""}${at >= live.steps ? "; done" : live.watching ? "" : "; no longer watched"}`;
    place.style.gridTemplateColumns = `repeat(${n}, minmax(0, 1fr))`;
    place.replaceChildren(
      chart({ title: "Divergence", unit: "nats a token", xmax, width: w, lines: [line("loss", "loss", "grey"), line("student, reverse KL", "kl_student", "student"), line("teacher, forward KL", "kl_teacher", "teacher", { dash: "6 4" })] }),
      chart({ title: "Success", unit: "share of episodes", xmax, width: w, top: 1, percent: true, lines: [line("training", "success", "grey"), line("held-out, student alone", "eval_success", "student", { dots: true, dash: "2 4" })] }),
      chart({ title: "Guidance β", unit: "the teacher's share of turns", xmax, width: w, top: 1, lines: [line("β", "beta", "teacher")] }),
      chart({ title: "Speed", unit: "tokens a second", xmax, width: w, lines: [speed] }));
  }
  const resized = new ResizeObserver(draw);
  resized.observe(place);
  model.on("change:live", draw);
  return () => { resized.disconnect(); model.off("change:live", draw); };
}

// --- the schedule

const SLIDERS = [["ratio", "ρ, share of the steps with guidance", 0.05, 1, 0.05, "cosine linear exponential staircase"], ["start", "β at the start", 0, 1, 0.05, "cosine linear exponential staircase constant"], ["end", "β at the end", 0, 1, 0.05, "cosine linear exponential staircase"],
                 ["stairs", "stairs", 1, 10, 1, "staircase"], ["steps", "training steps", 20, 1000, 10, "cosine linear exponential staircase constant"], ["turns", "turns of a trajectory", 2, 50, 1, "cosine linear exponential staircase constant"], ["at", "look at step", 0, 1, 1, "cosine linear exponential staircase constant"]];

// Shapes and sliders, the curve, the expected number of teacher turns, and who would act.
export function scheduleExplorer({ model, el }) {
  let s = { ...model.get("schedule") }, width = 0;
  const shapes = h("select", { "aria-label": "shape", onchange: e => set({ shape: e.target.value }) }, SHAPES.map(x => h("option", { value: x }, x)));
  const fields = Object.fromEntries(SLIDERS.map(([k, label, low, high, step, on]) => {
    const input = h("input", { type: "range", min: low, max: high, step, "aria-label": label, oninput: e => set({ [k]: +e.target.value }) }), out = h("output", {});
    return [k, { box: h("label", { class: "slider" }, h("span", {}, label), input, out), input, out, on: on.split(" ") }];
  }));
  const curve = h("div", { class: "curve" }), said = h("p", { class: "lead", role: "status" }), who = h("div", { class: "ribbons" });
  el.append(h("div", { class: "explorer" }, h("div", { class: "controls" }, h("label", { class: "slider" }, h("span", {}, "shape"), shapes), Object.values(fields).map(f => f.box), button("sample again", () => set({ seed: (s.seed ?? 0) + 1 }))), h("div", { class: "sight" }, said, curve, who)));
  function set(patch) { s = { ...s, ...patch }; model.set("schedule", s); model.save_changes(); draw(); }
  function draw() {
    shapes.value = s.shape;
    s.at = clamp(s.at ?? 0, 0, s.steps);
    fields.at.input.max = s.steps;
    for (const [k, f] of Object.entries(fields)) { f.box.hidden = !f.on.includes(s.shape); f.input.value = s[k]; f.out.textContent = ["ratio", "start", "end"].includes(k) ? (+s[k]).toFixed(2) : s[k]; }
    width = Math.max(260, curve.clientWidth);
    const xs = Array.from({ length: 201 }, (_, i) => s.steps * i / 200), ys = xs.map(x => betaAt(s, x)), now = betaAt(s, s.at), all = mean(Array.from({ length: s.steps }, (_, i) => betaAt(s, i)));
    said.textContent = `At step ${s.at} β is ${now.toFixed(2)}: of ${plural(s.turns, "turn")} the teacher takes ${(now * s.turns).toFixed(1)} on average, and a trajectory is the student's alone with probability ${+((1 - now) ** s.turns).toPrecision(2)}. Over the whole training the teacher takes ${(100 * all).toFixed(0)}% of the turns.`;
    curve.replaceChildren(chart({ title: "β", unit: "probability that a turn is the teacher's, by training step", xmax: s.steps, width, height: 190, top: 1, marks: [s.at], key: false, lines: [{ name: "β at the end", look: "teacher", xs, ys }] }));
    const rows = 26, steps = Array.from({ length: rows }, (_, i) => Math.round(s.steps * i / (rows - 1))), cells = ribbon(s, steps, s.turns, s.seed ?? 0), label = 52, w = (width - label) / s.turns, tall = 11;
    who.replaceChildren(h("p", { class: "caption-line" }, h("b", {}, "Who acts"), " ", h("span", { class: "soft" }, "one sampled trajectory at each of these training steps; a row is a trajectory, a cell a turn")),
      svg("svg", { width, height: rows * tall + 4, role: "img", "aria-label": `one sampled trajectory at each of ${rows} training steps, from ${[...cells[0]].filter(c => c === "t").length} teacher turns of ${s.turns} at the first to ${[...cells[rows - 1]].filter(c => c === "t").length} at the last` },
        steps.map((x, r) => [r % 5 === 0 && svg("text", { class: "tick", x: label - 8, y: r * tall + 10, "text-anchor": "end" }, String(x)),
          [...cells[r]].map((c, i) => svg("rect", { x: label + i * w, y: r * tall + 1, width: Math.max(1, w - 1.5), height: tall - 2, rx: 1.5, "data-actor": c === "t" ? "teacher" : "student" }))])),
      h("p", { class: "key" }, h("span", {}, h("i", { class: "swatch teacher" }), "teacher"), h("span", {}, h("i", { class: "swatch student" }), "student")));
  }
  const onChange = () => { const other = model.get("schedule"); if (JSON.stringify(other) !== JSON.stringify(s)) { s = { ...other }; draw(); } };
  const resized = new ResizeObserver(() => { if (Math.abs(curve.clientWidth - width) > 2) draw(); });
  resized.observe(curve);
  model.on("change:schedule", onChange);
  draw();
  return () => { resized.disconnect(); model.off("change:schedule", onChange); };
}
