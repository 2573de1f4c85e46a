import { searched, themeOf } from "./pure.mjs";

// h("p", {class: "x", onclick: f, "aria-label": "…"}, child, "text"): an element. Strings become text nodes, never HTML.
export function h(tag, props, ...children) { return fill(document.createElement(tag), props, children); }
export function svg(tag, props, ...children) { return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), props, children); }

function fill(el, props, children) {
  for (const [k, v] of Object.entries(props ?? {})) {
    if (v == null || v === false) continue;
    if (typeof v === "function") el.addEventListener(k.slice(2), v); else el.setAttribute(k, v === true ? "" : v);
  }
  el.append(...children.flat(3).filter(c => c != null && c !== false && c !== ""));
  return el;
}

const PATHS = { first: "M3 3h2v10H3zM13 3v10L6 8z", back: "M11 3v10L4 8z", play: "M4 3l9 5-9 5z", pause: "M4 3h3v10H4zM9 3h3v10H9z", next: "M5 3l7 5-7 5z", last: "M11 3h2v10h-2zM3 3l7 5-7 5z",
                fork: "M5 2.5a1.5 1.5 0 1 1-.75 2.8v5.4a1.5 1.5 0 1 1 1.5 0V9c3 0 4.5-1 4.5-3.2a1.5 1.5 0 1 1 1.5 0C11.75 9 9.5 10.4 5.75 10.5z" };
export const icon = name => svg("svg", { viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true", fill: "currentColor" }, svg("path", { d: PATHS[name] }));

export const button = (label, onclick, props, ...children) => h("button", { type: "button", onclick, "aria-label": children.length ? label : null, title: children.length ? label : null, ...props }, children.length ? children : label);

// Keep `data-theme` of the root as the host shows it; returns what stops watching.
export function followTheme(root) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const set = () => { root.dataset.theme = themeOf({ jupyter: document.body.dataset.jpThemeLight, vscode: document.body.dataset.vscodeThemeKind, colab: document.documentElement.getAttribute("theme"), system: system.matches }); };
  const watch = new MutationObserver(set);
  for (const el of [document.documentElement, document.body]) watch.observe(el, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-vscode-theme-kind", "theme"] });
  system.addEventListener("change", set);
  set();
  return () => { watch.disconnect(); system.removeEventListener("change", set); };
}

// Ask the other side of the model; resolves with its answer, rejects with its sentence.
export function requester(model) {
  const waiting = new Map();
  let last = 0;
  const mine = Math.random().toString(36).slice(2);   // several views share one model
  const hear = m => {
    const w = m?.view === mine && waiting.get(m.id);
    if (!w) return;
    waiting.delete(m.id);
    m.error ? w.reject(new Error(m.error)) : w.resolve(m.answer);
  };
  model.on("msg:custom", hear);
  const ask = (kind, data) => new Promise((resolve, reject) => { waiting.set(++last, { resolve, reject }); model.send({ kind, view: mine, id: last, ...data }); });
  ask.stop = () => model.off("msg:custom", hear);
  return ask;
}

// A model for a page without a kernel: its data lie in script elements; a trajectory (zlib, base64) is unpacked when it is asked for.
export function fileModel() {
  const text = id => document.getElementById(id).textContent;
  const traits = JSON.parse(text("guided-opd-data")), hears = new Map(), seen = new Map(), words = new Map();
  const once = (kept, i, make) => { if (!kept.has(i)) kept.set(i, make()); return kept.get(i); };
  const unpack = async i => new Response(new Blob([Uint8Array.from(atob(text(`guided-opd-${i}`)), c => c.charCodeAt(0))]).stream().pipeThrough(new DecompressionStream("deflate"))).json();
  const view = i => once(seen, i, () => unpack(i));
  const holds = want => async (_, i) => (await once(words, i, async () => searched(await (seen.get(i) ?? unpack(i))))).includes(want);
  const tell = (name, ...args) => (hears.get(name) ?? []).slice().forEach(f => f(...args));
  const answer = async m => {
    if (m.kind === "load") return view(m.index);
    if (m.kind === "search") return (await Promise.all(traits.index.rows.map(holds(m.text.toLowerCase())))).flatMap((found, i) => found ? [i] : []);
    throw new Error("This needs a notebook with the models at hand.");
  };
  return {
    get: name => traits[name],
    set(name, value) { traits[name] = value; tell(`change:${name}`); },
    save_changes() {},
    on(name, f) { hears.set(name, [...(hears.get(name) ?? []), f]); },
    off(name, f) { hears.set(name, (hears.get(name) ?? []).filter(g => g !== f)); },
    async send(m) { const out = await answer(m).then(a => ({ answer: a }), e => ({ error: e.message })); tell("msg:custom", { id: m.id, view: m.view, ...out }); },
  };
}
