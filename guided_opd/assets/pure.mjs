// Pure functions of the front end: no document, no model. tests/js tests them with `node --test`.

export const STATE_VERSION = 1;
export const MARK = { student: "●", teacher: "▲", expert: "■", typed: "✎" };
export const MEASURES = {
  reverse_kl: { name: "reverse KL", about: "KL(student‖teacher): the student does what the teacher would not" },
  forward_kl: { name: "forward KL", about: "KL(teacher‖student): the student does not do what the teacher would" },
  gap: { name: "log-prob gap", about: "log-prob of what was said, student's minus teacher's" },
};
export const NAMES = { reverse_kl: "reverse KL", forward_kl: "forward KL", gap: "log-prob gap", student_entropy: "student's entropy", teacher_entropy: "teacher's entropy",
                       student_logprob: "student's log-prob", teacher_logprob: "teacher's log-prob" };

export const known = x => typeof x === "number" && isFinite(x);
export const mean = xs => xs.reduce((a, x) => a + x, 0) / xs.length;
export const clamp = (x, low, high) => Math.max(low, Math.min(high, x));
export const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
export const nats = x => !known(x) ? "–" : Math.abs(x) < 0.005 ? "0.00" : x.toFixed(2).replace("-", "−");
export const percent = p => !known(p) ? "–" : p >= 0.9995 ? "100%" : p >= 0.0995 ? `${Math.round(100 * p)}%` : p >= 0.001 ? `${(100 * p).toFixed(1)}%` : "<0.1%";

// --- measures

// Per-token values of a turn; the gap is made of the two log-probs.
export function tokenValues(turn, measure) {
  const m = turn.measures ?? {};
  if (measure !== "gap") return m[measure] ?? [];
  const s = m.student_logprob ?? [], t = m.teacher_logprob ?? [];
  return s.map((x, i) => known(x) && known(t[i]) ? x - t[i] : null);
}

// Mean of a measure over the turn, nats a token; null when it was not scored.
export function turnValue(turn, measure) {
  const m = turn.means ?? {};
  if (measure === "gap") return known(m.student_logprob) && known(m.teacher_logprob) ? m.student_logprob - m.teacher_logprob : null;
  return known(m[measure]) ? m[measure] : null;
}

// [{text, at, n, value}] of each piece of text; a piece of several tokens has their mean.
export function pieces(turn, measure) {
  const values = tokenValues(turn, measure);
  let at = 0;
  return (turn.tokens ?? []).map(([text, n]) => {
    const own = values.slice(at, at + n).filter(known), piece = { text, at, n, value: own.length ? mean(own) : null };
    at += n;
    return piece;
  });
}

// Share 0..1 of the scale; most values are far below the worst, so a square root.
export const share = (x, most) => known(x) && most > 0 ? Math.sqrt(clamp(Math.abs(x) / most, 0, 1)) : 0;

// The upper end of the scale of a strip: of the turn itself, or of all turns of the trajectory.
export function scale(turns, measure) {
  const values = turns.flatMap(u => tokenValues(u, measure)).filter(known).map(Math.abs);
  return values.length ? Math.max(0.1, ...values) : 1;
}

// A round number not below x: the end of an axis.
export function roundUp(x) {
  if (!(x > 0)) return 1;
  const ten = 10 ** Math.floor(Math.log10(x));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map(k => +(k * ten).toPrecision(3)).find(v => v >= x * 0.9999);
}

// Ticks 0..most at round places, at most about n.
export function ticks(low, high, n = 4) {
  if (!(high > low)) return [low];
  const raw = (high - low) / n, ten = 10 ** Math.floor(Math.log10(raw)), step = [1, 2, 2.5, 5, 10].map(k => k * ten).find(s => s >= raw);
  const out = [];
  for (let x = Math.ceil(low / step - 1e-9) * step; x <= high + step * 1e-9; x += step) out.push(Math.abs(x) < step * 1e-9 ? 0 : +x.toPrecision(12));
  return out;
}

// Index of the first student turn past the threshold, -1 when there is none. `actors` are first letters, as in the index.
export const firstPast = (values, actors, threshold) => values.findIndex((x, i) => actors[i] === "s" && known(x) && x > threshold);

// Index of the first turn in which two trajectories differ in action or actor's words, null when they do not.
export function firstDifference(a, b) {
  for (let i = 0; i < Math.max(a.length, b.length); i++) if (i >= a.length || i >= b.length || a[i].action !== b[i].action) return i;
  return null;
}

// [{text, thought}] of a reply: what stands in <think> is folded away.
export function parts(reply) {
  const open = reply.indexOf("<think>"), close = reply.indexOf("</think>", open);
  if (open < 0) return [{ text: reply, thought: false }];
  const end = close < 0 ? reply.length : close + 8;
  return [{ text: reply.slice(0, open), thought: false }, { text: reply.slice(open, end), thought: true }, { text: reply.slice(end), thought: false }].filter(p => p.text);
}

// Indices [start, end) of the pieces that lie in <think>…</think>; null when there are none.
export function thoughtRange(tokens) {
  let text = "";
  const ends = tokens.map(([t]) => (text += t).length), open = text.indexOf("<think>");
  if (open < 0) return null;
  const close = text.indexOf("</think>", open), until = close < 0 ? text.length : close + 8;
  return [ends.findIndex(e => e > open), ends.findIndex(e => e >= until) + 1];
}

// --- state

// A whole state from what a notebook or a file holds; of another version only what fits survives.
export function cleanState(state, index) {
  const n = index?.rows?.length ?? 0, s = state?.version === STATE_VERSION ? state : {};
  const whole = (x, top) => Number.isInteger(x) && x >= 0 && x < top ? x : 0;
  const trajectory = whole(s.trajectory, n);
  return { version: STATE_VERSION, trajectory, turn: whole(s.turn, Math.max(1, index?.rows?.[trajectory]?.[9] ?? 1)), measure: Object.hasOwn(MEASURES, s.measure ?? "") ? s.measure : "reverse_kl", shared: s.shared !== false,
           threshold: known(s.threshold) && s.threshold >= 0 ? s.threshold : index?.threshold ?? 0.5, beside: Number.isInteger(s.beside) && s.beside >= 0 && s.beside < n && s.beside !== trajectory ? s.beside : null };
}

// What a key does to a turn index; null when it does nothing.
export function keyStep(key, turn, n) {
  const to = { ArrowRight: turn + 1, j: turn + 1, ArrowLeft: turn - 1, k: turn - 1, Home: 0, End: n - 1 }[key];
  return to === undefined ? null : clamp(to, 0, Math.max(0, n - 1));
}

// --- the table

const column = (index, name) => index.columns.indexOf(name);

// Rows of the index as objects that the table shows; drift is reverse KL of the student's turns.
export function tableRow(index, i, threshold) {
  const r = index.rows[i], get = name => r[column(index, name)], actors = get("actors"), drift = get("drift");
  const own = drift.filter((x, k) => actors[k] === "s" && known(x)), first = firstPast(drift, actors, threshold);
  return { i, task: get("task"), kind: get("kind"), goal: get("goal"), label: get("label"), note: get("note"), step: get("step"), beta: get("beta"), success: get("success"), score: get("score"), turns: get("turns"),
           actors, drift, fork: get("fork"), mean: own.length ? mean(own) : null, max: own.length ? Math.max(...own) : null, first: first < 0 ? null : first + 1 };
}

const alphabet = new Intl.Collator(undefined, { numeric: true });

// Order of two cells: numbers by size, texts by alphabet, what is missing last whichever way.
export function compareCells(a, b, down) {
  const none = x => x == null || x === "";
  if (none(a) || none(b)) return none(a) - none(b);
  const order = typeof a === "string" ? alphabet.compare(a, b) : a - b;
  return down ? -order : order;
}

export function sortRows(rows, key, down = false) { return rows.slice().sort((a, b) => compareCells(a[key], b[key], down) || a.i - b.i); }

// Rows that pass: success "all" | "yes" | "no", a label or "", a kind or "", and a text in task, goal, kind or label, or among what a search found.
export function filterRows(rows, { text = "", success = "all", label = "", kind = "", found = null } = {}) {
  const want = text.trim().toLowerCase();
  return rows.filter(r => (success === "all" || (success === "yes") === r.success) && (!label || r.label === label) && (!kind || r.kind === kind) &&
    (!want || found?.has(r.i) || [r.task, r.goal, r.kind, r.label, r.note].some(x => x?.toLowerCase().includes(want))));
}

// First and last+1 row in sight of a list that scrolls, with some to spare.
export function inSight(top, height, row, n, spare = 6) {
  return [clamp(Math.floor(top / row) - spare, 0, n), clamp(Math.ceil((top + height) / row) + spare, 0, n)];
}

// Everything of a trajectory that a search looks through, in lower case.
export const searched = t => [t.task, t.goal, ...t.turns.flatMap(u => [u.observation, u.reply, u.action]), t.final].join("\n").toLowerCase();

// Indices of other trajectories of the same task, branches of this one first.
export function companions(index, i) {
  const task = column(index, "task"), fork = column(index, "fork");
  const same = index.rows.flatMap((r, k) => k !== i && r[task] === index.rows[i]?.[task] ? [k] : []);
  const near = k => index.rows[k][fork]?.[0] === i || index.rows[i][fork]?.[0] === k;
  return same.sort((a, b) => near(b) - near(a) || a - b);
}

// --- the host's theme: JupyterLab, VS Code and Colab say what they show; else the system's

export function themeOf({ jupyter, vscode, colab, system }) {
  if (jupyter != null) return jupyter === "false" ? "dark" : "light";
  if (vscode) return /dark|high-contrast(?!-light)/.test(vscode) ? "dark" : "light";
  if (colab) return colab === "dark" ? "dark" : "light";
  return system ? "dark" : "light";
}

// --- schedules: the same numbers as guided_opd.schedule, checked against it in the tests

export const SHAPES = ["cosine", "linear", "exponential", "staircase", "constant"];

export function betaAt(s, step) {
  if (s.shape === "constant") return s.start;
  const length = s.ratio * s.steps;
  if (step >= length) return s.end;
  const t = Math.max(step, 0) / length;
  const y = s.shape === "cosine" ? (1 + Math.cos(Math.PI * t)) / 2 : s.shape === "linear" ? 1 - t
    : s.shape === "exponential" ? (Math.exp(-5 * t) - Math.exp(-5)) / (1 - Math.exp(-5)) : 1 - Math.floor(s.stairs * t) / s.stairs;
  return s.end + (s.start - s.end) * y;
}

// Numbers in 0..1 that depend on the seed alone.
export function random(seed) {
  let a = seed >>> 0;
  return () => {
    a = a + 0x6D2B79F5 | 0;
    let t = Math.imul(a ^ a >>> 15, 1 | a);
    t = t + Math.imul(t ^ t >>> 7, 61 | t) ^ t;
    return ((t ^ t >>> 14) >>> 0) / 4294967296;
  };
}

// Who acts, "t" or "s", in each turn of one trajectory at each of these steps.
export function ribbon(schedule, steps, turns, seed = 0) {
  const next = random(seed + 1);
  return steps.map(step => Array.from({ length: turns }, () => next() < betaAt(schedule, step) ? "t" : "s").join(""));
}

// Mean of a metric over the values around each: what is seen of a noisy curve.
export function smooth(ys, k) {
  return ys.map((y, i) => { const near = ys.slice(Math.max(0, i - k), i + k + 1).filter(known); return known(y) && near.length ? mean(near) : null; });
}
