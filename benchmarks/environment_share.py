"""How much of a training step is spent waiting for the environment. Prints a table.

Each turn is a model's in time and the scripted expert's in words: the model samples as many tokens as the expert's action has,
and the expert's action is played, so that the world does what it does in a good episode. Waiting is what the roll-out loses in
`step` and `reset`, not the sum over engines that run at once. What the expert thinks is left out of all times. Simplified: random weights, vanilla OPD, no evaluation, the
tokenizer made from the environment's own text.

    python benchmarks/environment_share.py                                  # a small model on a CPU
    python benchmarks/environment_share.py --device cuda --shape qwen3-0.6b --episodes 16
"""
import argparse, os, tempfile, time
from pathlib import Path
import torch
from talk import SHAPES, random_policy, where
from guided_opd.envs.base import make_env
from guided_opd.policy import ExpertPolicy, HFPolicy
from guided_opd.presets import tiny_models
from guided_opd.trainer import GuidedOPD
from transformers import AutoTokenizer

p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
p.add_argument("--device", default="cpu"); p.add_argument("--shape", default="small", choices=SHAPES); p.add_argument("--envs", type=lambda s: s.split(","), default=["alfworld", "scienceworld", "webshop"])
p.add_argument("--episodes", type=int, default=4); p.add_argument("--turns", type=int, default=20, help="at most"); p.add_argument("--steps", type=int, default=2, help="timed")
args = p.parse_args()
if args.device == "cpu": torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))
dtype = torch.bfloat16 if args.device.startswith("cuda") else torch.float32

class Told(HFPolicy):
    "Samples as long as the expert speaks, then says what the expert says."
    def act(self, histories):
        began = time.perf_counter(); said = self.expert.act(histories); self.thought += time.perf_counter() - began
        self.max_new_tokens = max(len(r.ids) for r in said)
        super().act(histories)
        return said

class Waiting:
    "Adds up the seconds that a mixer loses in calls of the environment."
    def __init__(self, mixer): self.seconds, self.start = 0., mixer._start; mixer._start = self
    def __call__(self, f, *x):
        get = self.timed(self.start, f, *x)
        return lambda: self.timed(get)
    def timed(self, f, *x):
        began = time.perf_counter()
        try: return f(*x)
        finally: self.seconds += time.perf_counter() - began

print(f"{where(args.device)} · student and teacher {args.shape} · {args.episodes} episodes of at most {args.turns} turns\n\n"
      "| environment | turns | tokens | roll-out, s | of it waiting for the environment, s | score and update, s | environment's share of the step |\n|---|--:|--:|--:|--:|--:|--:|", flush=True)
for name in args.envs:
    env, folder = make_env(name), Path(tempfile.mkdtemp())
    tok = AutoTokenizer.from_pretrained(tiny_models(env, folder)["student"])
    student, teacher = (random_policy(args.shape, who, seed, args.device, dtype, cls=Told if who == "student" else HFPolicy, tok=tok) for seed, who in enumerate(("student", "teacher")))
    student.expert, student.thought = ExpertPolicy(env, tok), 0.
    t = GuidedOPD(student, teacher, env, folder/"run", method="opd", rollouts_per_step=args.episodes, batch_size=args.episodes, max_turns=args.turns, max_tokens=4096, eval_every=0, steps=100)
    t.update(t.roll_out(0), 0)                                              # engines start, caches fill
    waiting, rolled, updated, turns, tokens, student.thought = Waiting(t.mixer), 0., 0., 0, 0, 0.
    for step in range(1, args.steps + 1):
        began = time.perf_counter(); ts = t.roll_out(step)
        between = time.perf_counter(); t.update(ts, step)
        rolled, updated = rolled + between - began, updated + time.perf_counter() - between
        turns, tokens = turns + sum(len(x.turns) for x in ts), tokens + sum(len(x.ids()) for x in ts)
    rolled -= student.thought
    print(f"| {name} | {turns} | {tokens} | {rolled:.2f} | {waiting.seconds:.2f} | {updated:.2f} | {waiting.seconds/(rolled + updated):.1%} |", flush=True)
