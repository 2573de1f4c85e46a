import { MARK, MEASURES, cleanState, companions, firstDifference, firstPast, keyStep, nats, plural, roundUp, scale, turnValue } from "./pure.mjs";
import { button, h, icon, requester } from "./dom.mjs";
import { spoken, timeline } from "./timeline.mjs";
import { actorBadge, answers, legend, turnPanel } from "./turn.mjs";
import { table } from "./table.mjs";

const ENDED = { environment: "the environment", max_turns: "the limit of turns", context: "a full context window" };

// The stepper: a table of trajectories, the timeline of one, the turn in full, and what may be asked about it. Returns what takes it away.
export function stepper({ model, el, root }) {
  const request = requester(model), can = model.get("can") ?? {};
  let index = model.get("index"), state = cleanState(model.get("state"), index), a = null, b = null, playing = null, width = 0, loads = 0, gone = false;
  const loaded = new Map();

  // --- places; each is filled anew when what it shows has changed
  const place = (name, props) => h("div", { class: name, ...props });
  const header = place("episode-head"), lanes = place("lanes-place"), turns = place("turns-place"), tools = place("tools", { role: "toolbar", "aria-label": "stepping" }), panels = place("panels"), says = place("says", { "aria-live": "polite" }), notes = place("notes");
  let finder = null;
  const find = () => { if (!finder && index.rows.length) notes.before(finder = table({ index, state, open: i => update({ trajectory: i, turn: 0, beside: null }), search: text => request("search", { text }) })); };
  el.append(notes, header, tools, lanes, turns, panels, says);
  find();

  // --- state
  function update(patch, { save = true } = {}) {
    const before = state;
    state = cleanState({ ...state, ...patch }, index);
    if (save && JSON.stringify(before) !== JSON.stringify(state)) { model.set("state", state); model.save_changes(); }
    finder?.update(state, index);
    if (!a || before.trajectory !== state.trajectory || before.beside !== state.beside) return open();
    draw();
  }
  // (a kernel that trains does not answer: what is newest was sent along)
  const fetched = i => model.get("newest")?.index === i ? Promise.resolve(model.get("newest")) : request("load", { index: i }).catch(e => { loaded.delete(i); throw e; });
  const load = i => { if (!loaded.has(i)) loaded.set(i, fetched(i)); return loaded.get(i); };
  async function open() {
    const mine = ++loads;
    if (!index.rows.length) { header.replaceChildren(h("p", { class: "soft" }, "There is no trajectory here yet.")); return; }
    root.setAttribute("aria-busy", "true");
    try {
      const [x, y] = await Promise.all([load(state.trajectory), state.beside == null ? null : load(state.beside)]);
      if (mine !== loads || gone) return;
      a = x; b = y;
      say();
      draw();
    } catch (e) { if (mine === loads) say(e.message, true); }
    finally { if (mine === loads) root.removeAttribute("aria-busy"); }
  }
  const say = (text = "", bad = false) => notes.replaceChildren(...(text ? [h("p", { class: bad ? "note bad" : "note", role: "status" }, text)] : []));

  // --- drawing
  const from = () => b?.branch && b.branch.of === state.trajectory ? b.branch.turn : 0;
  const go = turn => update({ turn });
  const values = () => a.turns.map(u => turnValue(u, state.measure)), letters = () => a.turns.map(u => u.actor[0]).join("");
  function draw() {
    if (!a) return;
    drawHead(); drawTools(); drawLanes(); drawTurns(); drawPanels();
    const u = a.turns[state.turn];
    says.textContent = u ? `turn ${state.turn + 1} of ${a.turns.length}, ${spoken(u)}: ${u.action}` : "";
  }
  function drawHead() {
    const counts = ["student", "teacher", "expert"].map(x => [x, a.turns.filter(u => u.actor === x).length]).filter(([, n]) => n);
    header.replaceChildren(h("h2", { dir: "auto" }, a.goal || a.task),
      h("p", {}, h("span", { class: a.success ? "outcome good" : "outcome bad" }, a.success ? "✓ solved" : "✗ not solved"), counts.map(([x, n]) => h("span", { class: "count" }, actorBadge({ actor: x }), ` ${plural(n, "turn")}`)),
        h("span", { class: "soft", dir: "auto" }, [a.label, a.env, a.task, a.kind, `step ${a.step}`, `β ${a.beta.toFixed(2)}`, `ended by ${ENDED[a.ended] ?? a.ended}`, a.note].filter(Boolean).join(" · "))),
      ...[a, b].map((t, i) => t?.branch && forkNote(t, "AB"[i])).filter(Boolean));
  }
  function forkNote(t, side) {
    const f = t.branch, d = f.differences ?? [];
    return h("div", { class: "note", role: "note" }, `${b ? `${side} is a` : "A"} branch of trajectory ${f.of + 1} at turn ${f.turn + 1}: ${f.how === "typed" ? "typed by hand" : `the ${f.how} took it`}, then the ${f.then} played on.`,
      d.length > 0 && h("details", {}, h("summary", {}, `Played again, the environment answered otherwise in ${plural(d.length, "turn")} before the fork.`), d.map(x => h("div", { class: "differ" }, h("b", {}, `turn ${x.turn + 1}`), h("p", { class: "speaker" }, "recorded"), h("div", { class: "observation", dir: "auto" }, x.recorded), h("p", { class: "speaker" }, "played again"), h("div", { class: "observation", dir: "auto" }, x.now)))));
  }
  function drawTools() {
    const focused = tools.contains(document.activeElement) && document.activeElement.dataset.tool, n = a.turns.length;
    const step = (name, label, to, off) => button(label, () => go(to()), { "data-tool": name, disabled: off }, icon(name));
    const first = firstPast(values(), letters(), state.threshold);
    const measures = h("select", { "aria-label": "measure of drift", "data-tool": "measure", title: MEASURES[state.measure].about, onchange: e => update({ measure: e.target.value }) }, Object.entries(MEASURES).map(([k, m]) => h("option", { value: k, selected: k === state.measure }, m.name)));
    const beside = companions(index, state.trajectory).slice(0, 200), name = i => { const r = index.rows[i], get = c => r[index.columns.indexOf(c)]; return `${get("fork")?.[0] === state.trajectory ? `branch at turn ${get("fork")[1] + 1}` : get("label") || `trajectory ${i + 1}`} · step ${get("step")} · ${get("success") ? "✓" : "✗"} ${get("score").toFixed(2)}`; };
    tools.replaceChildren(
      h("span", { class: "group" }, step("first", "first turn (Home)", () => 0, !state.turn), step("back", "turn back (← or k)", () => state.turn - 1, !state.turn), button(playing ? "pause (space)" : "play (space)", play, { "data-tool": "play", "aria-pressed": String(!!playing) }, icon(playing ? "pause" : "play")),
        step("next", "next turn (→ or j)", () => state.turn + 1, state.turn >= n - 1), step("last", "last turn (End)", () => n - 1, state.turn >= n - 1)),
      h("label", {}, h("span", {}, "drift"), measures),
      h("label", { title: "on: colours and bars mean the same in all turns and trajectories; off: each turn and trajectory by itself" }, h("input", { type: "checkbox", checked: state.shared, "data-tool": "shared", onchange: e => update({ shared: e.target.checked }) }), h("span", {}, "one scale")),
      button(first < 0 ? `no turn past ${nats(state.threshold)}` : `first drift past ${nats(state.threshold)}: turn ${first + 1}`, () => go(first), { class: "jump", "data-tool": "jump", disabled: first < 0 }),
      beside.length > 0 && h("label", {}, h("span", {}, "beside"), h("select", { "aria-label": "another trajectory of this task, to compare", "data-tool": "beside", onchange: e => update({ beside: e.target.value === "" ? null : +e.target.value }) },
        h("option", { value: "" }, "none"), beside.map(i => h("option", { value: i, selected: i === state.beside }, name(i))))) || "");
    if (focused) tools.querySelector(`[data-tool="${focused}"]:not(:disabled)`)?.focus();
  }
  const mostOf = () => roundUp(state.measure === "gap" ? Math.max(...[a, b].filter(Boolean).flatMap(t => t.turns.map(u => Math.abs(turnValue(u, "gap") ?? 0))), 0.1) : index.most);
  function drawLanes() {
    const had = lanes.contains(document.activeElement) && (document.activeElement.closest(".threshold") ? ".threshold" : ".lanes");
    width = Math.max(260, lanes.clientWidth);
    const box = timeline({ a, b, from: from(), state, most: mostOf(), width, go, setThreshold: threshold => update({ threshold }) });
    const scrolled = lanes.querySelector(".scroll-x")?.scrollLeft ?? 0;
    lanes.replaceChildren(box);
    lanes.querySelector(".scroll-x").scrollLeft = scrolled;
    box.keepInSight();
    if (had) lanes.querySelector(had)?.focus({ preventScroll: true });
  }
  function drawTurns() {
    const top = Math.max(scale([...a.turns, ...(b?.turns ?? [])], state.measure), 0.1), d = b ? firstDifference(a.turns, b.turns) : null, sign = d === state.turn ? "≠ first differing action" : null;
    turns.classList.toggle("two", !!b);
    turns.replaceChildren(...[a, b].filter(Boolean).map((t, k) => turnPanel({ trajectory: t, i: state.turn, state, most: roundUp(top), side: b ? "AB"[k] : null, sign: k ? sign : null })), legend(state.measure, state.shared ? roundUp(top) : Math.max(0.05, scale([a.turns[state.turn] ?? {}], state.measure))));
  }

  // --- asking and branching
  function drawPanels() {
    const u = a.turns[state.turn], open = Object.fromEntries([...panels.children].map(p => [p.dataset.panel, p.open])), typed = panels.querySelector("[name=typed]")?.value ?? "", picked = n => panels.querySelector(`[name=${n}]:checked`)?.value;
    const was = { first: picked("first"), then: picked("then") };
    if (!u) return panels.replaceChildren();
    const panel = (name, title, ...inside) => h("details", { "data-panel": name, open: open[name] ?? (name === "ask" && !!u.asked) }, h("summary", {}, title), inside);
    const out = [];
    if (can.ask?.length || u.asked) out.push(panel("ask", "What would they have said here?", u.asked ? answers(u.asked)
      : h("p", {}, button(`Ask ${can.ask.map(x => `the ${x}`).join(" and ")}`, ask, { class: "main ask" }))));
    if (can.branch?.length) {
      const choice = (name, value, label, chosen) => h("label", {}, h("input", { type: "radio", name, value, checked: chosen }), label);
      const names = can.branch, other = names.find(x => x !== u.actor) ?? names[0], first = was.first ?? other, then = was.then ?? (names.includes("student") ? "student" : names[0]);
      const field = h("input", { type: "text", name: "typed", value: typed, "aria-label": "reply typed by hand", placeholder: "e.g. look", oninput: () => { form.querySelector("[name=first][value=typed]").checked = true; } });
      const form = h("form", { class: "branch", onsubmit: e => { e.preventDefault(); branch(form); } },
        h("fieldset", {}, h("legend", {}, `turn ${state.turn + 1} is taken by`), names.map(x => choice("first", x, `${MARK[x]} ${x}`, x === first)), choice("first", "typed", `${MARK.typed} me:`, first === "typed"), field),
        h("fieldset", {}, h("legend", {}, "then plays"), names.map(x => choice("then", x, `${MARK[x]} ${x}`, x === then))),
        h("button", { type: "submit", class: "main" }, icon("fork"), "Branch and play to the end"));
      out.push(panel("branch", "What would have come of it?", h("p", { class: "soft" }, "The environment is brought back to this turn by playing the same actions again, then the game goes on for real."), form));
    }
    if (!out.length && model.get("view") !== "live") out.push(h("p", { class: "soft" }, "Asking the models and branching need them at hand: TrajectoryStepper(…, student=, teacher=, env=) in a notebook."));
    panels.replaceChildren(...out);
  }
  async function ask() {
    const t = a, i = state.turn;
    await busy("The models are thinking …", async () => { t.turns[i].asked = await request("ask", { index: state.trajectory, turn: i }); });
  }
  async function branch(form) {
    const data = new FormData(form), first = data.get("first");
    await busy("Playing on …", async () => {
      const made = await request("branch", { index: state.trajectory, turn: state.turn, first: first === "typed" ? null : first, reply: first === "typed" ? data.get("typed") : null, then: data.get("then") });
      index = made.rows;
      update({ beside: made.index });
    });
  }
  async function busy(text, work) {
    say(text); root.setAttribute("aria-busy", "true");
    panels.querySelectorAll("button").forEach(x => { x.disabled = true; });
    try { await work(); say(); } catch (e) { say(e.message, true); }
    root.removeAttribute("aria-busy");
    if (!gone) draw();
  }

  // --- playing, keys, and what the other side changes
  function play() {
    if (playing) { clearInterval(playing); playing = null; return drawTools(); }
    if (state.turn >= a.turns.length - 1) go(0);
    playing = setInterval(() => { if (state.turn >= a.turns.length - 1 || !el.isConnected) { clearInterval(playing); playing = null; return drawTools(); } go(state.turn + 1); }, 1100);
    drawTools();
  }
  const keys = e => {
    if (e.ctrlKey || e.metaKey || e.altKey || !a || e.target.closest?.("input:not([type=checkbox]), textarea, select, [contenteditable], .grid, .plot")) return;
    if (e.key === " " && !e.target.closest?.("button, summary, .token")) { play(); return e.preventDefault(); }
    const to = keyStep(e.key, state.turn, a.turns.length);
    if (to == null) return;
    e.preventDefault(); e.stopPropagation();
    if (to !== state.turn) go(to);
  };
  const onState = () => { const s = model.get("state"); if (JSON.stringify(s) !== JSON.stringify(state)) update(s ?? {}, { save: false }); };
  // (of one trajectory the index tells only which others there are and how high the highest bar is: a text that is read, or a click that has begun, stays)
  const onIndex = () => {
    const others = () => String(a ? companions(index, state.trajectory) : []), before = JSON.stringify(state), most = index.most, had = others();
    index = model.get("index"); state = cleanState(state, index);
    finder ? finder.update(state, index) : find();
    if (!a || JSON.stringify(state) !== before) return open();
    if (others() !== had) drawTools();
    if (index.most !== most) drawLanes();
  };
  // a page that holds nothing else takes the keys wherever the focus is; in a notebook they are the notebook's until it is in here
  const hears = root.parentElement === document.body ? document : root;
  hears.addEventListener("keydown", keys);
  model.on("change:state", onState);
  model.on("change:index", onIndex);
  const resized = new ResizeObserver(() => { if (a && Math.abs(lanes.clientWidth - width) > 2 && lanes.clientWidth) { drawLanes(); finder?.drawn(); } });
  resized.observe(lanes);
  open();
  return () => { gone = true; clearInterval(playing); hears.removeEventListener("keydown", keys); model.off("change:state", onState); model.off("change:index", onIndex); resized.disconnect(); request.stop(); };
}
