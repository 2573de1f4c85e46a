// Pure functions of the front end: node --test tests/js
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import * as p from "../../guided_opd/assets/pure.mjs";

const index = { version: 1, columns: ["task", "kind", "goal", "label", "note", "step", "beta", "success", "score", "turns", "actors", "valid", "drift", "fork"], most: 2, threshold: 0.7, rows: [
  ["t/1", "put", "put a mug", "OPD", "", 3, 0, false, 0.1, 3, "sst", 3, [0.1, 2, null], null],
  ["t/2", "cool", "cool a pan", "OPD", "", 1, 0.5, true, 1, 2, "ts", 2, [1.5, 0.2], null],
  ["t/1", "put", "put a mug", "branch", "", 3, 0, true, 1, 4, "stss", 4, [0.1, 3, 0.5, 0.9], [0, 1]]] };

test("a state of another version, or with nonsense in it, becomes one that can be shown", () => {
  const d = p.cleanState(undefined, index);
  assert.deepEqual(d, { version: 1, trajectory: 0, turn: 0, measure: "reverse_kl", shared: true, threshold: 0.7, beside: null });
  assert.deepEqual(p.cleanState({ version: 99, trajectory: 1, turn: 1 }, index), d);
  assert.deepEqual(p.cleanState({ version: 1, trajectory: 7, turn: -1, measure: "constructor", threshold: NaN, beside: 9 }, index), d);
  const kept = { version: 1, trajectory: 2, turn: 3, measure: "gap", shared: false, threshold: 0, beside: 0 };
  assert.deepEqual(p.cleanState(kept, index), kept);
  assert.equal(p.cleanState({ version: 1, trajectory: 1, turn: 3 }, index).turn, 0, "the trajectory has two turns");
  assert.deepEqual(p.cleanState(kept, { rows: [], columns: index.columns }).trajectory, 0);
});

test("keys step, and stop at both ends", () => {
  assert.deepEqual(["ArrowRight", "j", "ArrowLeft", "k", "Home", "End"].map(k => p.keyStep(k, 2, 4)), [3, 3, 1, 1, 0, 3]);
  assert.deepEqual([p.keyStep("ArrowLeft", 0, 4), p.keyStep("j", 3, 4), p.keyStep("x", 1, 4), p.keyStep("End", 0, 0)], [0, 3, null, 0]);
});

test("a piece of several tokens has their mean, and nothing known is nothing shown", () => {
  const turn = { tokens: [["a", 1], ["é", 2], ["b", 1]], measures: { reverse_kl: [1, 2, 4, null], student_logprob: [-1, -1, -2, -1], teacher_logprob: [-2, -1, null, -5] }, means: { reverse_kl: 1.75, student_logprob: -1.25, teacher_logprob: -3 } };
  assert.deepEqual(p.pieces(turn, "reverse_kl").map(x => [x.at, x.value]), [[0, 1], [1, 3], [3, null]]);
  assert.deepEqual(p.pieces(turn, "gap").map(x => x.value), [1, 0, 4]);
  assert.equal(p.turnValue(turn, "gap"), 1.75);
  assert.equal(p.turnValue({}, "gap"), null);
  assert.deepEqual(p.pieces({ tokens: null }, "gap"), []);
  assert.equal(p.scale([turn], "reverse_kl"), 4);
});

test("the first drift is the student's", () => {
  assert.equal(p.firstPast([5, 0.2, 0.9], "tss", 0.5), 2);
  assert.equal(p.firstPast([null, NaN, 0.5], "sss", 0.5), -1);
});

test("trajectories differ where the actions do, or where one has ended", () => {
  const t = s => [...s].map(action => ({ action }));
  assert.equal(p.firstDifference(t("abc"), t("abd")), 2);
  assert.equal(p.firstDifference(t("ab"), t("abc")), 2);
  assert.equal(p.firstDifference(t("ab"), t("ab")), null);
});

test("thinking is folded, closed or not", () => {
  assert.deepEqual(p.parts("x<think>y</think>z").map(q => [q.text, q.thought]), [["x", false], ["<think>y</think>", true], ["z", false]]);
  assert.deepEqual(p.parts("<think>never ends").map(q => q.thought), [true]);
  assert.deepEqual(p.thoughtRange([["a", 1], ["<thi", 1], ["nk>b", 1], ["</think>", 1], ["c", 1]]), [1, 4]);
  assert.equal(p.thoughtRange([["a", 1]]), null);
});

test("the table sorts with what is missing last, filters and finds", () => {
  const rows = index.rows.map((_, i) => p.tableRow(index, i, 0.7));
  assert.deepEqual(rows.map(r => [r.mean, r.max, r.first]), [[1.05, 2, 2], [0.2, 0.2, null], [0.5, 0.9, 4]]);
  assert.deepEqual(p.sortRows(rows, "first").map(r => r.i), [0, 2, 1]);
  assert.deepEqual(p.sortRows(rows, "first", true).map(r => r.i), [2, 0, 1]);
  assert.deepEqual(p.sortRows(rows, "task").map(r => r.i), [0, 2, 1]);
  assert.deepEqual(p.filterRows(rows, { success: "yes", label: "OPD" }).map(r => r.i), [1]);
  assert.deepEqual(p.filterRows(rows, { kind: "put", success: "no" }).map(r => r.i), [0]);
  assert.deepEqual(p.filterRows(rows, { text: "MUG" }).map(r => r.i), [0, 2]);
  assert.deepEqual(p.filterRows(rows, { text: "xyz", found: new Set([1]) }).map(r => r.i), [1]);
  assert.deepEqual(p.companions(index, 0), [2]);
});

test("only rows in sight are drawn, of however many", () => {
  for (const top of [0, 1234, 340_000]) {
    const [a, b] = p.inSight(top, 220, 34, 10_000);
    assert.ok(b - a < 25 && a * 34 <= top && (b * 34 >= Math.min(top + 220, 340_000)));
  }
});

test("10 000 rows are sorted and filtered at once", () => {
  const many = { ...index, rows: Array.from({ length: 10_000 }, (_, i) => [`t/${i}`, "put", `put mug ${i}`, "OPD", "", i, 0, i % 3 === 0, 0.5, 30, "s".repeat(30), 30, Array.from({ length: 30 }, (_, k) => (i * 31 + k * 17) % 100 / 50), null]) };
  const t = performance.now(), rows = many.rows.map((_, i) => p.tableRow(many, i, 0.7)), made = performance.now();
  p.sortRows(p.filterRows(rows, { text: "mug 7" }), "max", true);
  assert.ok(made - t < 1500 && performance.now() - made < 1500, `${made - t} and ${performance.now() - made} ms`);
});

test("axes end at round numbers", () => {
  assert.deepEqual([0.07, 0.55, 1, 1.01, 2.4, 7, 95].map(p.roundUp), [0.08, 0.6, 1, 1.5, 3, 8, 100]);
  assert.deepEqual(p.ticks(0, 1, 4), [0, 0.25, 0.5, 0.75, 1]);
  assert.ok(p.share(0, 1) === 0 && p.share(5, 1) === 1 && p.share(null, 1) === 0);
});

test("the theme is the host's, else the system's", () => {
  assert.equal(p.themeOf({ jupyter: "false", system: false }), "dark");
  assert.equal(p.themeOf({ jupyter: "true", system: true }), "light");
  assert.equal(p.themeOf({ vscode: "vscode-dark" }), "dark");
  assert.equal(p.themeOf({ vscode: "vscode-high-contrast-light" }), "light");
  assert.equal(p.themeOf({ colab: "dark" }), "dark");
  assert.equal(p.themeOf({ system: true }), "dark");
});

test("probabilities and nats are read at a glance", () => {
  assert.deepEqual([1, 0.953, 0.0562, 0.0004, 0, undefined].map(p.percent), ["100%", "95%", "5.6%", "<0.1%", "<0.1%", "–"]);
  assert.deepEqual([2.744, -0.001, -3, null].map(p.nats), ["2.74", "0.00", "−3.00", "–"]);
});

// Written by the Python test: guided_opd.schedule's numbers.
test("schedules are those of the trainer", { skip: !process.env.SCHEDULES }, () => {
  for (const { settings, betas } of JSON.parse(readFileSync(process.env.SCHEDULES)))
    betas.forEach((b, step) => assert.ok(Math.abs(p.betaAt(settings, step) - b) < 1e-9, `${settings.shape} at ${step}: ${p.betaAt(settings, step)}, not ${b}`));
});

test("a ribbon is drawn with the schedule's probabilities, and again the same", () => {
  const s = { shape: "linear", ratio: 0.8, steps: 100, start: 1, end: 0 }, steps = [0, 40, 80];
  const rows = p.ribbon(s, steps, 2000, 3);
  assert.deepEqual(rows, p.ribbon(s, steps, 2000, 3));
  assert.equal(rows[0], "t".repeat(2000));
  assert.ok(Math.abs([...rows[1]].filter(c => c === "t").length / 2000 - 0.5) < 0.04);
  assert.equal(rows[2], "s".repeat(2000));
});
