import { filterRows, inSight, nats, roundUp, share, sortRows, tableRow } from "./pure.mjs";
import { h, svg } from "./dom.mjs";

const ROW = 34;
const COLUMNS = [["success", "result", "5rem"], ["goal", "task", "minmax(9rem, 1fr)"], ["kind", "type", "minmax(4rem, 8rem)"], ["label", "of", "minmax(4rem, 7.5rem)"], ["step", "step", "3rem"], ["beta", "β", "2.6rem"],
                 ["score", "Score", "3.2rem"], ["turns", "turns", "3rem"], ["mean", "mean drift", "4.6rem"], ["max", "max drift", "4.6rem"], ["first", "first drift", "4.6rem"]];
const ABOUT = { mean: "reverse KL of the student's turns, nats a token: mean over them", max: "reverse KL of the student's worst turn, nats a token", first: "first turn of the student past the threshold", beta: "probability of a teacher turn", goal: "sorted by goal" };

const plain = text => text.replaceAll("_", " ");

// Bars of drift in small, one a turn.
function spark(row, most) {
  const w = Math.max(2, Math.min(5, 70 / Math.max(1, row.turns))), who = { s: "student", t: "teacher", e: "expert" };
  return svg("svg", { class: "spark", width: Math.ceil(w * row.turns), height: 20, "aria-hidden": "true" }, [...row.actors].map((a, i) => {
    const tall = Math.max(2, share(row.drift[i], most) * 20);
    return svg("rect", { x: i * w, y: 20 - tall, width: Math.max(1, w - .6), height: tall, "data-actor": who[a] });
  }));
}

// All trajectories: search, filter, sort; only rows in sight are in the page.
//   open(i): a row was chosen;  search(text) → promise of indices whose texts hold it
export function table({ index, state, open, search }) {
  let shown = [], sort = { key: "i", down: false }, found = null, at = 0, asked = 0;
  let rows = index.rows.map((_, i) => tableRow(index, i, state.threshold));
  let labels = [], kinds = [], heads = [], most = 1, made = new Map();   // elements of the rows in the page, by what they show
  const text = h("input", { type: "search", placeholder: "search all that was said", "aria-label": "search tasks, observations, replies and actions" });
  const success = h("select", { "aria-label": "result" }, [["all", "all results"], ["yes", "solved"], ["no", "not solved"]].map(([v, t]) => h("option", { value: v }, t)));
  const label = h("select", { "aria-label": "of" }), kind = h("select", { "aria-label": "type" });
  const count = h("span", { class: "soft", role: "status" });
  const head = ([key, name]) => h("span", { class: `c ${key}`, role: "columnheader", "aria-sort": "none" },
    h("button", { type: "button", title: ABOUT[key], onclick: () => { sort = { key, down: sort.key === key ? !sort.down : ["score", "mean", "max", "success"].includes(key) }; refresh(); } }, name));
  const body = h("div", { class: "rows", role: "rowgroup" }), view = h("div", { class: "window" }, body), top = h("div", { class: "row heads", role: "row" });
  const grid = h("div", { class: "grid", role: "grid", tabindex: 0, "aria-label": "trajectories; up and down choose one" }, top, view);

  // Columns and choices: of labels and types only where there are any.
  function shape() {
    const values = key => [...new Set(rows.map(r => r[key]))].filter(Boolean), was = [labels, kinds].join();
    most = roundUp(index.most); labels = values("label"); kinds = values("kind");
    if (heads.length && was === [labels, kinds].join()) return;
    const columns = COLUMNS.filter(([k]) => (k !== "label" || labels.length) && (k !== "kind" || kinds.length)), wide = skip => columns.filter(([k]) => k !== skip).map(c => c[2]).join(" ");
    top.replaceChildren(...(heads = columns.map(head)));
    grid.style.setProperty("--columns", wide()); grid.style.setProperty("--untyped", wide("kind"));
    for (const [select, all, xs] of [[label, "of all", labels], [kind, "all types", kinds]]) {
      const chosen = select.value;
      select.replaceChildren(h("option", { value: "" }, all), ...xs.map(x => h("option", { value: x, selected: x === chosen }, plain(x))));
      select.hidden = xs.length < 2;
    }
  }

  function cells(r) {
    const cell = (key, ...children) => h("span", { class: `c ${key}`, role: "gridcell" }, children);
    return h("div", { class: "row", role: "row", "data-index": r.i, onclick: () => { at = shown.findIndex(x => x.i === r.i); open(r.i); } },
      cell("success", h("span", { class: r.success ? "good" : "bad" }, r.success ? "✓" : "✗", h("span", { class: "word" }, r.success ? " solved" : " failed"))), cell("goal", h("span", { class: "text", dir: "auto", title: `${r.task}${r.kind ? ` · ${r.kind}` : ""}${r.note ? ` · ${r.note}` : ""}` }, r.fork ? "⑂ " : "", r.goal || r.task), spark(r, most)),
      kinds.length ? cell("kind", h("span", { title: r.kind }, plain(r.kind))) : null, labels.length ? cell("label", h("span", { title: r.label }, r.label)) : null, cell("step", String(r.step)), cell("beta", r.beta.toFixed(2)), cell("score", r.score.toFixed(2)), cell("turns", String(r.turns)), cell("mean", nats(r.mean)), cell("max", nats(r.max)), cell("first", r.first == null ? "–" : String(r.first)));
  }
  function draw() {
    const [a, b] = inSight(view.scrollTop, view.clientHeight || 8 * ROW, ROW, shown.length);
    body.style.height = `${shown.length * ROW}px`;
    const now = new Map(shown.slice(a, b).map((r, k) => {
      const shows = JSON.stringify([r, most, labels.length > 0, kinds.length > 0]), el = made.get(shows) ?? cells(r);
      el.style.top = `${(a + k) * ROW}px`; el.setAttribute("aria-rowindex", a + k + 2); el.setAttribute("aria-selected", String(r.i === state.trajectory));
      return [shows, el];
    }));
    // What stays is not taken out of the page: a click that has begun on it would be lost.
    for (const [shows, el] of made) if (!now.has(shows)) el.remove();
    let here = body.firstChild;
    for (const el of now.values()) if (el === here) here = here.nextSibling; else body.insertBefore(el, here);
    made = now;
  }
  function refresh() {
    shown = sortRows(filterRows(rows, { text: text.value, success: success.value, label: label.value, kind: kind.value, found }), sort.key, sort.down);
    at = Math.max(0, shown.findIndex(r => r.i === state.trajectory));
    count.textContent = shown.length === rows.length ? String(rows.length) : `${shown.length} of ${rows.length}`;
    grid.setAttribute("aria-rowcount", shown.length + 1);
    heads.forEach(c => c.setAttribute("aria-sort", c.classList.contains(sort.key) ? (sort.down ? "descending" : "ascending") : "none"));
    view.style.height = `${Math.min(6.5, Math.max(1, shown.length)) * ROW}px`;
    draw();
  }
  const inView = () => { const top = at * ROW; if (top < view.scrollTop) view.scrollTop = top; else if (top + ROW > view.scrollTop + view.clientHeight) view.scrollTop = top + ROW - view.clientHeight; };
  view.addEventListener("scroll", draw);
  for (const s of [success, kind, label]) s.addEventListener("change", refresh);
  text.addEventListener("input", async () => {
    const mine = ++asked, want = text.value.trim();
    found = null; refresh();
    if (want.length < 2) return;
    await new Promise(r => setTimeout(r, 150));     // until the typing rests
    if (mine !== asked) return;
    const hits = await search(want).catch(() => []);
    if (mine === asked) { found = new Set(hits); refresh(); }
  });
  grid.addEventListener("keydown", e => {
    const by = { ArrowDown: 1, ArrowUp: -1, PageDown: 6, PageUp: -6 }[e.key];
    if (!by || e.target !== grid || !shown.length) return;
    e.preventDefault(); e.stopPropagation();
    at = Math.max(0, Math.min(shown.length - 1, at + by));
    open(shown[at].i); inView();
  });
  const el = h("details", { class: "find", open: index.rows.length > 1 }, h("summary", {}, "Trajectories ", count), h("div", { class: "filters" }, text, success, kind, label), grid);
  el.addEventListener("toggle", draw);
  shape(); refresh();
  // A new state or index: what changed is drawn.
  el.update = (newState, newIndex) => {
    const recount = newIndex !== index || newState.threshold !== state.threshold, moved = newState.trajectory !== state.trajectory;
    index = newIndex; state = newState;
    if (recount) { rows = index.rows.map((_, i) => tableRow(index, i, state.threshold)); shape(); refresh(); }
    else if (moved) { at = Math.max(0, shown.findIndex(r => r.i === state.trajectory)); draw(); }
    if (moved) inView();
  };
  el.drawn = draw;
  return el;
}
