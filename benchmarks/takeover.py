"""How reliable is the teacher after k turns of a student? Prints a table and writes a figure.

Simplified: one student (the cold-started pocket student), greedy decoding for both, pocket scale. The teacher always has
20 turns of its own, however late it takes over, so that a late take-over is not a matter of lacking time.

    python benchmarks/takeover.py [--episodes 192] [--student student] [--out runs/takeover]
"""
import argparse, json, os
from pathlib import Path
import torch
from guided_opd.drift import takeover_curve
from guided_opd.envs.base import make_env
from guided_opd.plots import takeover_figure
from guided_opd.pocket import load_pocket

p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
p.add_argument("--episodes", type=int, default=192); p.add_argument("--student", default="student"); p.add_argument("--out", type=Path, default=Path("runs/takeover"))
args = p.parse_args()
if (os.cpu_count() or 1) <= 4: torch.set_num_threads(1)

env = make_env("alfworld", max_turns=40)
student, teacher = load_pocket(args.student), load_pocket("teacher")
student.temperature = teacher.temperature = 0.
print(f"{args.episodes} unseen games for each k; the student plays k turns, then the teacher up to 20. About 3 minutes.", flush=True)
rows = takeover_curve(student, teacher, env, env.tasks("test", args.episodes), ks=(0, 1, 2, 4, 6, 8, 12), teacher_turns=20)
print("| student turns k | episodes | teacher's success | teacher's entropy, nats a token |\n|--:|--:|--:|--:|")
for r in rows: print(f"| {r['k']} | {r['n']} | {r['success']:.1%} ± {r['success_se']:.1%} | {r['entropy']:.3f} ± {r['entropy_se']:.3f} |")
args.out.mkdir(parents=True, exist_ok=True)
(args.out/"takeover.json").write_text(json.dumps(rows, indent=1))
takeover_figure(rows).write_html(args.out/"takeover.html", include_plotlyjs=True)
print(f"Figure: {args.out/'takeover.html'}")
