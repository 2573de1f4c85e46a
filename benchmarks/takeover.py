"""How reliable is the teacher after k turns of a student? Prints a table and keeps its rows for the study's figure.

Simplified: one student (the cold-started pocket student), greedy decoding for both, pocket scale. The teacher always has
20 turns of its own, however late it takes over, so that a late take-over is not a matter of lacking time.

    python benchmarks/takeover.py [--env alfworld] [--episodes 128] [--student student] [--results benchmarks/results]
"""
import argparse, os
from pathlib import Path
import torch
from tqdm import tqdm
from guided_opd.drift import takeover_curve
from guided_opd.envs.base import make_env
from guided_opd.pocket import POCKET, load_pocket
from guided_opd.runfolder import write_json

TEACHER_TURNS = 20
p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
p.add_argument("--env", default="alfworld", choices=list(POCKET)); p.add_argument("--episodes", type=int, default=128); p.add_argument("--student", default="student")
p.add_argument("--ks", type=int, nargs="+", default=(0, 1, 2, 4, 6, 8, 12), help="student turns before the teacher's"); p.add_argument("--results", type=Path, default=Path(__file__).parent/"results", help="folder that gets ENV/takeover.json")
args = p.parse_args()
if (os.cpu_count() or 1) <= 4: torch.set_num_threads(1)

env = make_env(args.env, **POCKET[args.env].settings, max_turns=max(args.ks) + TEACHER_TURNS)
student, teacher = load_pocket(args.student, args.env), load_pocket("teacher", args.env)
student.temperature = teacher.temperature = 0.
print(f"{args.episodes} unseen tasks for each k; the student plays k turns, then the teacher up to {TEACHER_TURNS}. Some 3 minutes.", flush=True)
rows = [r for k in tqdm(args.ks, desc="student turns") for r in takeover_curve(student, teacher, env, env.tasks("test", args.episodes), ks=(k,), teacher_turns=TEACHER_TURNS) if r["n"] > 1]
print("| student turns k | episodes | teacher's success | teacher's entropy, nats a token |\n|--:|--:|--:|--:|")
for r in rows: print(f"| {r['k']} | {r['n']} | {r['success']:.1%} ± {r['success_se']:.1%} | {r['entropy']:.3f} ± {r['entropy_se']:.3f} |")
(args.results/args.env).mkdir(parents=True, exist_ok=True)
write_json(args.results/args.env/"takeover.json", rows)
