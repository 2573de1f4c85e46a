"""How much the stepper carries: 10 000 trajectories of 30 turns, 200 in one file, and what LiveRun costs a training.

python benchmarks/viewer.py [--trajectories 10000] [--pairs 8]

The trajectories are copies of a few real episodes of the pocket models, scored with topk=3, each under another task id. The browser part needs chromium and playwright.
"""
import argparse, json, os, resource, shutil, sys, tempfile, time
from itertools import islice
from pathlib import Path

import torch

from guided_opd.envs.base import make_env
from guided_opd.pocket import load_pocket
from guided_opd.rollout import RolloutMixer
from guided_opd.scoring import score
from guided_opd.trainer import GuidedOPD
from guided_opd.trajectory import Trajectory, mean_se
from guided_opd.view import index_row, page, write_page
from guided_opd.widgets import LiveRun, TrajectoryStepper


def megabytes(): return int(open("/proc/self/statm").read().split()[1])*resource.getpagesize()/1e6

def episodes():
    student, teacher, env = load_pocket("student"), load_pocket("teacher"), make_env("alfworld", max_turns=30)
    student.temperature = 0.
    ts = RolloutMixer(student, None, env)(env.tasks("test", 12))
    return score(student, teacher, [t for t in ts if len(t.turns) == 30][:6], topk=3), student.tokenizer

def write(path, ts, n):
    lines = [json.loads(t.to_json()) for t in ts]
    with open(path, "w") as f:
        for i in range(n): f.write(json.dumps(lines[i % len(lines)] | dict(task=f"compact/test/{i}", step=i//40)) + "\n")

def browser(path):
    "Milliseconds until the page is parsed, painted and stands, to scroll the table from end to end, to search and to open a row; megabytes of the page."
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        b = p.chromium.launch(executable_path=shutil.which("chromium") or shutil.which("google-chrome"), args=["--no-sandbox", "--disable-dev-shm-usage", "--enable-precise-memory-info"])
        page = b.new_page(viewport=dict(width=1280, height=900))
        start = time.perf_counter()
        page.goto(path.as_uri(), wait_until="commit"); page.wait_for_selector(".turn")
        opened = time.perf_counter() - start
        times = page.evaluate("""async () => {
            const frame = () => new Promise(requestAnimationFrame), clock = async f => { const t = performance.now(); await f(); await frame(); return performance.now() - t; };
            const view = document.querySelector('.window');
            let worst = 0;
            for (let i = 0; i <= 40; i++) { const ms = await clock(() => { view.scrollTop = view.scrollHeight*i/40; }); worst = Math.max(worst, ms); }
            const sort = await clock(() => document.querySelector('[role=columnheader].max button').click());
            const step = await clock(() => document.dispatchEvent(new KeyboardEvent('keydown', { key: 'j', bubbles: true })));
            const paint = performance.getEntriesByName('first-contentful-paint')[0]?.startTime, parsed = performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd;
            const result = { worst, sort, step, rows: document.querySelectorAll('.rows .row').length, mb: performance.memory.usedJSHeapSize/1e6 };
            const input = document.querySelector('.find input');
            input.value = 'cabinet 1';
            const found = document.querySelector('.find summary .soft'), asked = performance.now();
            input.dispatchEvent(new Event('input'));
            while (!/ of /.test(found.textContent) || found.textContent.startsWith('0 ')) { await frame(); if (performance.now() - asked > 5000) break; }
            const search = performance.now() - asked;
            return { paint, parsed, search, ...result };
        }""")
        b.close()
    return dict(opened=1000*opened, **times)

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--trajectories", type=int, default=10_000, help="0 leaves the stepper out")
    p.add_argument("--pairs", type=int, default=8, help="trainings with and without LiveRun; 0 leaves them out")
    n, pairs = vars(p.parse_args()).values()
    torch.set_num_threads(1)
    if n > 0: stepping(n)
    if pairs > 0: live_run(pairs)

def stepping(n):
    "Tables of what n trajectories cost in a notebook and in a browser."
    ts, tokenizer = episodes()
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        path = d/"trajectories.jsonl"
        write(path, ts, n)
        size, before, t = path.stat().st_size/1e6, megabytes(), time.perf_counter()
        stepper = TrajectoryStepper(path, tokenizer=tokenizer)
        took, grew = time.perf_counter() - t, megabytes() - before
        with open(path, "rb") as f: lines = list(islice(f, 500))
        def cpu(parse):
            t = time.process_time()
            for line in lines: index_row(parse(line))
            return time.process_time() - t
        glance, whole = map(sum, zip(*((cpu(Trajectory.glance), cpu(lambda line: Trajectory.from_json(line.decode()))) for _ in range(3))))
        t = time.perf_counter(); loaded = json.dumps(stepper._load(n//2)); load = time.perf_counter() - t
        t = time.perf_counter(); hits = stepper.shelf.search("cabinet 1"); find = time.perf_counter() - t
        index = len(json.dumps(dict(stepper.index)))
        print(f"| {n} trajectories of 30 turns | |\n|---|--:|\n| file on disk | {size:.0f} MB |\n| reading it once, for the index | {took:.1f} s |\n| a row of the index, at a glance and from the whole line | {1000*glance/3/len(lines):.2f} ms, {1000*whole/3/len(lines):.2f} ms of the CPU: {whole/glance:.1f} times |\n| memory that the notebook holds | {grew:.0f} MB, {grew/size:.2f} of the file |\n"
              f"| index sent to the front end | {index/1e6:.1f} MB |\n| opening one trajectory | {1000*load:.0f} ms, {len(loaded)/1e3:.0f} kB |\n| searching all ({len(hits)} hits) | {1000*find:.0f} ms |", flush=True)
        def in_browser(name, keep):
            out = stepper.to_html(d/"view.html", keep)
            r = browser(out)
            print(f"\n| {name} ({out.stat().st_size/1e6:.1f} MB) | |\n|---|--:|\n| opened: parsed, first painted (chromium's timings) | {r['parsed']:.0f} ms, {r['paint']:.0f} ms |\n| opened, until a turn is drawn (wall clock of the driver) | {r['opened']:.0f} ms |\n| worst frame while scrolling the whole table | {r['worst']:.0f} ms, {r['rows']} rows in the page |\n| sorting | {r['sort']:.0f} ms |\n| searching all that was said, the first time | {r['search']:.0f} ms |\n| one step | {r['step']:.0f} ms |\n| JavaScript heap | {r['mb']:.0f} MB |", flush=True)
        if shutil.which("chromium") or shutil.which("google-chrome"):
            in_browser("200 trajectories in one file", range(200))
            # the table of all: the rows of 10 000, the text of the first few
            out = write_page(d/"all.html", page("all", dict(view="stepper", index=stepper.index, state=stepper.state, can={}), [stepper.shelf.view(i) for i in range(3)]))
            r = browser(out)
            print(f"\n| the table of {n} | |\n|---|--:|\n| opened | {r['opened']:.0f} ms |\n| worst frame while scrolling the whole table | {r['worst']:.0f} ms, {r['rows']} rows in the page |\n| sorting | {r['sort']:.0f} ms |\n| JavaScript heap | {r['mb']:.0f} MB |", flush=True)

def live_run(pairs, steps=6):
    "The same training with and without LiveRun in its process, alternating: ratio of the seconds, and of those of the CPU, which other processes disturb less."
    def seconds(d, live):
        training = GuidedOPD(load_pocket("student_small"), load_pocket("teacher"), make_env("alfworld", max_turns=15), d, method="guided", steps=steps, rollouts_per_step=16, max_turns=15, eval_every=0, seed=0)
        watch = LiveRun(d, every=.5, tokenizer=training.student.tokenizer) if live else None
        clocks = time.perf_counter, time.process_time
        before = [c() for c in clocks]
        training.fit(progress=False)
        took = [c() - b for c, b in zip(clocks, before)]
        if watch: watch.stop()
        return took
    with tempfile.TemporaryDirectory() as d:
        seconds(Path(d)/"warm", False)
        times = [[seconds(Path(d)/f"{i}{live}", live) for live in ((False, True) if i % 2 else (True, False))][::1 if i % 2 else -1] for i in range(pairs)]
    print(f"\nLiveRun, looking every half second (by default every two), in a training of {steps} steps; {pairs} alternating {'pair' if pairs == 1 else 'pairs'}:\n| | without it | with it | ratio |\n|---|--:|--:|--:|")
    for k, name in enumerate(("seconds", "seconds of the CPU")):
        without, with_it = [a[k] for a, _ in times], [b[k] for _, b in times]
        ratio, se = mean_se([b/a for a, b in zip(without, with_it)])
        print(f"| {name} | {mean_se(without)[0]:.2f} | {mean_se(with_it)[0]:.2f} | {ratio:.3f}{'' if se is None else f' ± {se:.3f}'} |")

if __name__ == "__main__": main()
