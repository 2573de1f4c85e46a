"""Drift against turn index, early, midway and late in training: a table and a picture for each measure.

Simplified: what the runs wrote down (a sample of each step's roll-outs, with the student of that step), so solved
episodes are gone from the later turns, and under guidance a student's turn may follow a teacher's. Student turns only.

    guided-opd demo                               two runs, about 20 minutes
    python benchmarks/drift.py [runs/demo] [--measures reverse_kl teacher_entropy] [--turns 1 5 10 15] [--methods opd guided] [--out runs/demo]
"""
import argparse, sys
from pathlib import Path
from reproduce import draw
from guided_opd.drift import drift_of_runs
from guided_opd.losses import MEASURES
from guided_opd.plots import stages_figure
from guided_opd.schedule import METHODS

p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
p.add_argument("runs", nargs="?", type=Path, default=Path("runs/demo"), help="folder of METHOD/seed_N, as demo, compare and reproduce.py write it; the seeds of a method are pooled")
p.add_argument("--methods", nargs="+", metavar="METHOD", help="only these, in this order; all that are there unless given")
p.add_argument("--measures", nargs="+", default=("reverse_kl", "teacher_entropy"), choices=MEASURES); p.add_argument("--turns", type=int, nargs="+", default=(1, 5, 10, 15)); p.add_argument("--out", type=Path, help="folder of the pictures; the runs' own unless given")
args = p.parse_args()
runs = {}
for method in args.methods or ["*"]:
    found = sorted(args.runs.glob(f"{method}/seed_*/trajectories.jsonl"), reverse=True)
    if not found: sys.exit(f"{args.runs} holds no {method}/seed_N/trajectories.jsonl: give the folder of a comparison, as `guided-opd demo` writes it.")
    for f in found: runs.setdefault(f.parents[1].name, []).append(f.parent)

stages = drift_of_runs(runs)
for measure in args.measures:
    print(f"| {measure}, nats a token | method | " + " | ".join(f"turn {k}" for k in args.turns) + " |\n|---|---|" + "--:|"*len(args.turns))
    for stage, methods in stages.items():
        for method, rows in methods.items():
            at = {r["turn"] + 1: r for r in rows}
            print(f"| {stage} | {method} | " + " | ".join(f"{r[measure]:.2f} ± {r[measure + '_se']:.2f} ({r['n']})" if (r := at.get(k)) and measure in r else "–" for k in args.turns) + " |")
    print()
named = {stage: {METHODS.get(m, m): rows for m, rows in methods.items()} for stage, methods in stages.items()}
draw({f"drift_{m}": stages_figure(named, m) for m in args.measures}, args.out or args.runs, {"_light": "#1b1f24", "_dark": "#e6e8ea"})
