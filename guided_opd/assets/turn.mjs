import { MARK, NAMES, known, nats, parts, percent, pieces, plural, scale, share, thoughtRange, turnValue } from "./pure.mjs";
import { h } from "./dom.mjs";
import { spoken } from "./timeline.mjs";

const MOST_TOKENS = 3000;   // of a reply that are shaded; the rest is plain text
const special = text => /^<\|.*\|>$|^<\/?s>$/.test(text);
const visible = text => text === "" ? "∅" : text.replace(/\n/g, "↵\n");
export const actorBadge = u => h("span", { class: "actor", "data-actor": u.typed ? "typed" : u.actor }, `${MARK[u.typed ? "typed" : u.actor] ?? "?"} ${u.typed ? "typed" : u.actor}`);
const quoted = text => JSON.stringify(text.length > 60 ? text.slice(0, 60) + "…" : text);
const long = (text, kind) => h("div", { class: kind, dir: "auto", tabindex: text.length > 1200 ? 0 : null }, text);

// What a shade means.
export function legend(measure, most) {
  const stops = [0, .25, .5, .75, 1];
  return h("p", { class: "legend" }, h("span", { class: "soft" }, `a token's ${NAMES[measure]}, nats`), h("span", { class: "ramp", "aria-hidden": "true" }),
    h("span", { class: "ends" }, stops.map(s => h("span", {}, s ? (s * s * most).toPrecision(2).replace(/\.0$/, "") : "0"))),
    measure === "gap" && h("span", { class: "soft" }, h("span", { class: "minus-key", "aria-hidden": "true" }), " below 0: the teacher is surer of it"));
}

// A reply as a strip of tokens, each shaded by its measure; `pick(piece)` when one is pointed at or focused.
export function strip(turn, measure, most, pick) {
  const box = h("div", { class: "reply", dir: "auto", role: "group", "aria-label": "reply, token by token; arrow keys move between tokens" });
  if (!turn.tokens) {
    for (const p of parts(turn.reply)) box.append(p.thought ? h("details", { class: "thought" }, h("summary", {}, "thinking"), h("span", {}, p.text)) : h("span", {}, p.text));
    return box;
  }
  const all = pieces(turn, measure), thought = thoughtRange(turn.tokens);
  let home = box, tokens = [];
  all.forEach((p, i) => {
    if (i === thought?.[0]) box.append(h("details", { class: "thought" }, h("summary", {}, `thinking, ${plural(thought[1] - thought[0], "token")}`), home = h("div", {})));
    if (i === thought?.[1]) home = box;
    if (i >= MOST_TOKENS) { if (i === MOST_TOKENS) home.append(all.slice(i).map(q => q.text).join("")); return; }
    const heat = share(p.value, most);
    const token = h("span", { class: `token${special(p.text) ? " special" : ""}${p.value < 0 ? " minus" : ""}${heat > .62 ? " deep" : ""}`, style: p.value == null ? null : `--heat:${(100 * heat).toFixed(0)}%`, tabindex: tokens.length ? -1 : 0, role: "button",
      "aria-label": `token ${quoted(p.text)}${p.value == null ? "" : `, ${nats(p.value)} nats`}` }, visible(p.text));
    const choose = () => { tokens.forEach(t => t.removeAttribute("aria-current")); token.setAttribute("aria-current", "true"); pick(p); };
    for (const kind of ["mouseenter", "focus", "click"]) token.addEventListener(kind, choose);
    token.addEventListener("keydown", e => {
      const by = { ArrowRight: 1, ArrowLeft: -1 }[e.key];
      if (!by) return;
      const next = tokens[tokens.indexOf(token) + by];
      if (next) { token.tabIndex = -1; next.tabIndex = 0; next.focus(); e.preventDefault(); }
      e.stopPropagation();
    });
    token.piece = p; token.choose = choose;
    tokens.push(token); home.append(token);
  });
  box.pick = f => tokens.find(t => f(t.piece))?.choose();
  return box;
}

// The likeliest tokens of both models where one token was said.
export function tokenCard(trajectory, turn, piece) {
  const at = piece.at, m = turn.measures ?? {}, words = trajectory.words ?? {}, value = k => m[k]?.[at];
  const row = (text, p, said) => h("li", { class: said ? "said" : null }, h("span", { class: "word", dir: "auto" }, visible(text)), h("span", { class: "meter", style: `--p:${known(p) ? p : 0}` }), h("span", { class: "p" }, percent(p)), h("span", { class: "mark", title: said ? "this was said" : null }, said ? "◂" : ""));
  const side = name => {
    const top = turn.topk?.[name]?.[at] ?? [], logp = value(`${name}_logprob`), saidId = top.find(([id]) => (words[id] ?? "") === piece.text && piece.n === 1)?.[0];
    const rows = top.map(([id, lp]) => row(words[id] ?? `#${id}`, Math.exp(lp), id === saidId));
    if (saidId === undefined && known(logp)) rows.push(row(piece.text, Math.exp(logp), true));
    return h("section", { "data-actor": name }, h("h4", {}, `${MARK[name]} ${name}`, h("span", { class: "soft" }, known(value(`${name}_entropy`)) ? `entropy ${nats(value(`${name}_entropy`))} nats` : "")), h("ol", {}, rows));
  };
  const gap = known(value("student_logprob")) && known(value("teacher_logprob")) ? value("student_logprob") - value("teacher_logprob") : null;
  return h("div", { class: "token-card" },
    h("h3", { class: "what" }, h("code", { dir: "auto" }, quoted(piece.text)), h("span", { class: "soft" }, piece.n > 1 ? `tokens ${at + 1}–${at + piece.n}` : `token ${at + 1}`)),
    h("dl", {}, [["reverse KL", value("reverse_kl")], ["forward KL", value("forward_kl")], ["log-prob gap", gap]].map(([k, v]) => h("div", {}, h("dt", {}, k), h("dd", {}, nats(v)))), h("div", {}, h("dt", {}, "◂ what was said"))),
    h("div", { class: "sides" }, side("student"), side("teacher")),
    !turn.topk && h("p", { class: "soft" }, "Only what was said is known here; score(…, topk=5) also keeps what else could have been."));
}

// What models would have said: answers by name, of `replay.ask`.
export function answers(asked) {
  const line = (name, r, note) => h("li", {}, h("span", { class: "meter", style: `--p:${known(r.logprob) ? Math.exp(r.logprob) : 0}` }), h("span", { class: "p" }, known(r.logprob) ? percent(Math.exp(r.logprob)) : "–"), h("span", {}, h("code", { dir: "auto" }, r.action || r.text || "(nothing)"), " ", h("span", { class: "soft" }, [note, ...Object.entries(r.by ?? {}).map(([who, p]) => known(p) && `${who} ${percent(Math.exp(p))}`)].filter(Boolean).join(" · "))));
  return h("div", { class: "sides answers" }, Object.entries(asked).map(([name, a]) => h("section", { "data-actor": name }, h("h4", {}, `${MARK[name] ?? "●"} the ${name} would say`),
    h("ol", {}, line(name, a.greedy, "greedy"), a.samples.filter(s => s.text !== a.greedy.text).map(s => line(name, s, `${s.count} of ${a.samples.reduce((n, x) => n + x.count, 0)} samples`))),
    h("p", { class: "soft" }, known(a.done) ? `It gives what was said here ${percent(Math.exp(a.done))} (${nats(a.done)} nats in all).` : ""))));
}

// One turn: what the environment said, the reply, what came of it.
export function turnPanel({ trajectory, i, state, most, side, sign }) {
  const t = trajectory, u = t.turns[i];
  if (!u) return h("div", { class: "turn none" }, h("p", { class: "soft" }, side ? `${side} had ended: ${plural(t.turns.length, "turn")}, ${t.success ? "solved" : "not solved"}.` : "This episode has no turns."));
  const value = turnValue(u, state.measure), top = state.shared ? most : Math.max(0.05, scale([u], state.measure)), card = h("div", { class: "card-place" });
  const reply = strip(u, state.measure, top, p => card.replaceChildren(tokenCard(t, u, p)));
  const measured = u.tokens?.length && Object.keys(u.measures ?? {}).length;
  if (measured) {
    const all = pieces(u, state.measure), worst = all.reduce((a, p) => Math.abs(p.value ?? 0) > Math.abs(a.value ?? 0) ? p : a, all[0]);
    reply.pick?.(p => p.at === worst.at);
  }
  const after = t.turns[i + 1]?.observation ?? t.final;
  return h("article", { class: "turn", "data-actor": u.typed ? "typed" : u.actor, "aria-label": `turn ${i + 1}, ${spoken(u)}` },
    h("div", { class: "episode" },
      h("p", { class: "head" }, side && h("b", { class: "side-mark" }, side), actorBadge(u), h("span", {}, `turn ${i + 1} of ${t.turns.length}`), value != null && h("span", { class: "value" }, `${NAMES[state.measure]} ${nats(value)} nats a token`),
        !u.valid && h("span", { class: "flag bad" }, "✗ not understood"), u.stop === "length" && h("span", { class: "flag bad" }, "cut at the length limit"), sign && h("span", { class: "flag" }, sign), h("span", { class: "soft" }, `Score ${u.score.toFixed(2)}`)),
      h("p", { class: "speaker" }, i ? "environment" : "environment, to begin with"), long(u.observation, "observation"),
      h("p", { class: "speaker" }, u.typed ? "typed by hand" : u.actor), reply,
      u.action.trim() !== u.reply.trim() && h("p", { class: "action", dir: "auto" }, h("span", { class: "speaker" }, "action "), u.action || "(none)"),
      h("p", { class: "speaker" }, "environment, then"), long(after, "observation after")),
    measured ? h("div", { class: "tokens" }, card) : null);
}

