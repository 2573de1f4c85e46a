import { MARK, NAMES, clamp, firstDifference, known, nats, roundUp, share, turnValue } from "./pure.mjs";
import { h, svg } from "./dom.mjs";

const who = u => u.typed ? "typed" : u.actor;
let drawn = 0;   // numbers the timelines of a page, for ids
export const spoken = u => `${u.typed ? "typed by hand" : u.actor}${u.valid ? "" : ", not understood"}`;

// The turns of a trajectory in a row, with everything that is known of each below it, and a second trajectory beside it.
//   a, b: trajectories (b may be null); from: first turn of b that is drawn, b is a fork of a before it
//   go(turn), setThreshold(nats, done): what the user does
export function timeline({ a, b, from, state, most, width, go, setThreshold }) {
  const n = Math.max(a.turns.length, b?.turns.length ?? 0, 1), end = 84, left = 3;
  const cw = clamp((width - left - end) / n, 15, 64), W = Math.max(width, Math.ceil(left + n * cw + end));
  const x = i => left + i * cw, two = b != null;
  const el = h("div", { class: "timeline" }), plot = svg("svg", { class: "lanes", role: "listbox", tabindex: 0, "aria-label": "turns; arrow keys step through them", width: W });
  const captions = [];
  let y = 0;

  // The columns: one option each, drawn first so that everything else lies on top of it.
  const id = `guided-opd-turn-${++drawn}-`, columns = Array.from({ length: a.turns.length }, (_, i) => {
    const u = a.turns[i], value = turnValue(u, state.measure);
    const label = `turn ${i + 1}, ${spoken(u)}: ${u.action || "no action"}${value == null ? "" : `; ${NAMES[state.measure]} ${nats(value)} nats a token`}`;
    return svg("g", { class: "column", role: "option", id: id + i, "data-turn": i, "aria-selected": String(i === state.turn), "aria-label": label, onclick: () => go(i) },
      svg("title", {}, label), svg("rect", { class: "back", x: x(i), y: 0, width: cw, height: 0 }));
  });
  plot.append(...columns);
  if (a.turns.length) plot.setAttribute("aria-activedescendant", id + state.turn);

  // Turn numbers.
  y += 14;
  const every = cw >= 24 ? 1 : 5;
  for (let i = 0; i < n; i++) if (i === state.turn || (i + 1) % every === 0 || i === 0) plot.append(svg("text", { class: i === state.turn ? "number now" : Math.abs(i - state.turn) < 2 && cw < 24 ? "number hidden" : "number", x: x(i) + cw / 2, y: y - 3 }, String(i + 1)));

  // Ribbons: who acted, and how it ended.
  const ribbons = [];
  const ribbon = (t, start, other) => {
    const top = y;
    ribbons.push(top);
    t.turns.forEach((u, i) => {
      if (i < start) return;
      plot.append(svg("g", { class: "cell", "data-actor": who(u), "data-turn": i },
        svg("rect", { class: i === state.turn ? "now" : "", x: x(i) + 1, y: top, width: cw - 2, height: 26, rx: 4 }), svg("text", { x: x(i) + cw / 2, y: top + 17 }, MARK[who(u)] ?? "?")),
        !u.valid && svg("path", { class: "cross", d: `M${x(i) + cw / 2 - 3.5} ${top + 30}l7 7m0-7l-7 7` }));
    });
    const ended = svg("text", { class: t.success ? "ended good" : "ended bad", x: x(t.turns.length) + 6, y: top + 12 }, t.success ? "✓ solved" : "✗ failed");
    plot.append(ended, svg("text", { class: "ended soft", x: x(t.turns.length) + 6, y: top + 25 }, `Score ${t.score.toFixed(2)}`));
    if (other) plot.append(svg("text", { class: "side", x: other.at, y: top - 4, "text-anchor": "start" }, other.text));
    y += 42;
  };
  if (two) y += 14;
  if (two) plot.append(svg("text", { class: "side", x: left + 2, y: y - 3 }, `A${a.label ? ` · ${a.label}` : ""}`));
  ribbon(a, 0);
  if (two) {
    y += 14;
    const d = firstDifference(a.turns, b.turns);
    // (the label gives way to the sign of the first difference)
    ribbon(b, from, { at: d != null && x(d) < 160 + x(from) ? x(d) + cw / 2 + 13 : x(from) + 2, text: `B${b.branch ? ` · ${b.branch.how === "typed" ? "typed by hand" : b.branch.how}, then ${b.branch.then}` : b.label ? ` · ${b.label}` : ""}` });
    if (from != null && b.branch && b.turns.length > from) {
      const at = x(from), top = ribbons[0] + 26, low = ribbons[1] + 13;
      plot.append(svg("path", { class: "fork", d: `M${at} ${top - 13}C${at - cw * .9} ${top + 4} ${at - cw * .9} ${low} ${at + 1} ${low}` }));
    }
    if (d != null) {   // between the ribbons, below the cross that a turn may have
      const at = x(d) + cw / 2, low = ribbons[1] - 9, high = ribbons[0] + (a.turns[d]?.valid === false ? 39 : 27);
      plot.append(svg("g", { class: "differs" }, svg("title", {}, `first differing action: turn ${d + 1}`), svg("line", { x1: at, x2: at, y1: Math.min(high, low), y2: ribbons[1] - 1 }), svg("circle", { cx: at, cy: low, r: 8 }), svg("text", { x: at, y: low + 4.5 }, "≠")));
    }
  }

  // Score so far, as steps.
  const caption = (text, right) => { captions.push(h("div", { class: "caption", style: `top:${y}px` }, h("span", {}, right ? `${text} · ${right}` : text))); y += 17; };
  const steps = t => t.turns.map((u, i) => `${i ? "" : `M${x(0)} ${y + 20}`}V${y + 20 - 20 * clamp(u.score, 0, 1)}H${x(i + 1)}`).join("");
  caption("score so far, 0 to 1");
  if (a.turns.length) plot.append(svg("path", { class: "score", d: steps(a) }), svg("path", { class: "score area", d: `${steps(a)}V${y + 20}Z` }));
  if (two && b.turns.length) plot.append(svg("path", { class: "score second", d: steps(b) }));
  plot.append(svg("line", { class: "axis", x1: left, x2: x(n), y1: y + 20, y2: y + 20 }));
  y += 26;

  // β by turn, where it is not the same in all.
  if (a.turns.some(u => known(u.beta))) {
    caption("β, probability of a teacher turn, 0 to 1");
    plot.append(svg("path", { class: "score beta", d: a.turns.map((u, i) => `M${x(i)} ${y + 20 - 20 * clamp(u.beta ?? a.beta, 0, 1)}H${x(i + 1)}`).join("") }), svg("line", { class: "axis", x1: left, x2: x(n), y1: y + 20, y2: y + 20 }));
    y += 26;
  }

  // Bars of a measure; `hang` from the top when it is a log-prob.
  const bars = (of, height, top, hang, past) => {
    for (const [t, side] of two ? [[a, 0], [b, 1]] : [[a, 0]]) t.turns.forEach((u, i) => {
      const v = of(u);
      if (!known(v) || (side && i < from)) return;
      const tall = Math.max(1.5, share(v, top) * height), bw = (cw - 3) / (two ? 2 : 1);
      plot.append(svg("rect", { class: `bar ${side ? "second" : ""} ${past && !past(u, v) ? "below" : ""}`, "data-actor": who(u), "data-turn": i, x: x(i) + 1.5 + side * bw, y: hang ? y : y + height - tall, width: Math.max(2, bw - (two ? 1 : 0)), height: tall, rx: 1.5, onclick: () => go(i) }));
    });
    plot.append(svg("line", { class: "axis", x1: left, x2: x(n), y1: hang ? y : y + height, y2: hang ? y : y + height }));
  };
  const all = [...a.turns, ...(b?.turns.slice(from) ?? [])], biggest = f => roundUp(Math.max(0.1, ...all.map(f).filter(known).map(Math.abs)));
  const scored = all.some(u => turnValue(u, state.measure) != null);
  if (scored) {
    const top = roundUp(Math.max(state.shared ? most : 0, ...all.map(u => Math.abs(turnValue(u, state.measure) ?? 0)), 0.1)), height = 84;
    caption(`${NAMES[state.measure]}, nats a token`, `0 to ${top} (√ scale)`);
    bars(u => turnValue(u, state.measure), height, top, false, (u, v) => u.actor === "student" && v > state.threshold);
    el.append(thresholdLine({ y, height, top, value: state.threshold, width: W, set: setThreshold }));
    y += height + 6;
    const entropy = u => u.means?.teacher_entropy ?? null, logprob = u => u.means?.teacher_logprob ?? null;
    caption("teacher's entropy, nats a token", `0 to ${biggest(entropy)} (√)`);
    bars(entropy, 32, biggest(entropy), false); y += 38;
    caption("teacher's log-prob of what was said, nats a token", `0 to −${biggest(logprob)} (√)`);
    bars(logprob, 32, biggest(logprob), true); y += 36;
  } else { captions.push(h("div", { class: "caption", style: `top:${y}px` }, h("span", {}, "These turns have not been scored: there is no drift to show."))); y += 22; }

  plot.setAttribute("height", y);
  columns.forEach((c, i) => { c.querySelector(".back").setAttribute("height", y); if (i === state.turn) c.classList.add("current"); });
  el.prepend(plot);
  const lanes = h("div", { class: "scroll-x" }, el), outer = h("div", { class: "lanes-box" }, lanes, captions);
  // (kept in sight by hand: scrollIntoView would move the page, too)
  outer.keepInSight = () => { const at = x(state.turn); if (at < lanes.scrollLeft + 20 || at + cw > lanes.scrollLeft + lanes.clientWidth - 20) lanes.scrollLeft = at - lanes.clientWidth / 2; };
  return outer;
}

// A line across the bars that can be dragged, or moved by the keyboard.
function thresholdLine({ y, height, top, value, width, set }) {
  const place = v => y + height - share(v, top) * height;
  const line = h("div", { class: "threshold", role: "slider", tabindex: 0, "aria-label": "threshold of drift, nats a token", "aria-orientation": "vertical", "aria-valuemin": 0, "aria-valuemax": top, "aria-valuenow": value, "aria-valuetext": `${nats(value)} nats a token`,
    style: `top:${place(Math.min(value, top)) - 9}px;width:${width}px`, title: "drag me: turns of the student above this line count as drift" }, h("span", { class: "grip" }, nats(value)));
  const at = e => { const box = line.parentElement.getBoundingClientRect(), s = clamp((y + height - (e.clientY - box.top)) / height, 0, 1); return +(s * s * top).toPrecision(2); };
  line.addEventListener("pointerdown", e => { line.setPointerCapture(e.pointerId); line.focus({ preventScroll: true }); e.preventDefault(); });
  line.addEventListener("pointermove", e => { if (line.hasPointerCapture(e.pointerId)) { const v = at(e); line.style.top = `${place(v) - 9}px`; line.firstChild.textContent = nats(v); } });
  line.addEventListener("pointerup", e => { if (line.hasPointerCapture(e.pointerId)) { line.releasePointerCapture(e.pointerId); set(at(e)); } });
  line.addEventListener("keydown", e => {
    const by = { ArrowUp: 1, ArrowDown: -1, PageUp: 5, PageDown: -5 }[e.key];
    if (!by) return;
    e.preventDefault(); e.stopPropagation();
    set(clamp(+(value + by * top / 50).toPrecision(3), 0, top));
  });
  return line;
}
