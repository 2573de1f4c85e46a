"""Scoring and update: whole trajectories packed end to end, against one row per turn with its whole prefix. Prints a table.

Simplified: random weights and replies; every turn is the student's. Both sides use the same loss and train the same tokens
(the losses are printed); the second pads its rows to a batch, as TCOD's and FutureBridge-OPD's code does.

    python benchmarks/scoring.py                                            # a small model on a CPU
    python benchmarks/scoring.py --device cuda --shape qwen3-0.6b --teacher qwen3-1.7b --episodes 8
"""
import argparse, os
import torch
from talk import SHAPES, Talk, clock, packed_update, prefix_rows, random_policy, where
from guided_opd.losses import STUDENT, guided_divergence
from guided_opd.rollout import RolloutMixer
from guided_opd.scoring import rows

p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
p.add_argument("--device", default="cpu"); p.add_argument("--shape", default="small", choices=SHAPES); p.add_argument("--teacher", choices=SHAPES); p.add_argument("--episodes", type=int, default=3)
p.add_argument("--turns", type=lambda s: [int(x) for x in s.split(",")], default=[10, 30, 50]); p.add_argument("--observation", type=int, default=60, help="words"); p.add_argument("--reply", type=int, default=12, help="tokens")
p.add_argument("--max-tokens", type=int, default=16384, help="of a forward and backward, on both sides")
args = p.parse_args()
if args.device == "cpu": torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))
dtype = torch.bfloat16 if args.device.startswith("cuda") else torch.float32
make = lambda shape, seed: random_policy(shape, seed=seed, device=args.device, dtype=dtype, reply=args.reply)
student, teacher = make(args.shape, 0), make(args.teacher or args.shape, 1)
student.model.train(); student.model.gradient_checkpointing_enable() if args.device.startswith("cuda") else None

def padded(parts, limit):
    batch = []
    for r in sorted(parts, key=lambda r: len(r.ids)):
        if batch and (len(batch) + 1)*len(r.ids) > limit: yield batch; batch = []
        batch.append(r)
    yield batch

def per_turn(ts):
    loss, n = 0, sum(t.tokens() for t in ts)
    for part in padded(prefix_rows(ts), args.max_tokens):
        T = max(len(r.ids) for r in part)
        ids, actors = torch.zeros(len(part), T, dtype=torch.long), torch.zeros(len(part), T, dtype=torch.long)
        for b, r in enumerate(part):
            ids[b, :len(r.ids)] = torch.tensor(r.ids)
            for _, start, end in r.replies: actors[b, start-1:end-1] = STUDENT
        with torch.no_grad(): hidden = teacher.hidden(ids)
        out = guided_divergence(student.hidden(ids), student.head, hidden, teacher.head, actors.to(args.device), weights=torch.full((int((actors > 0).sum()),), 1/n))
        out.loss.backward(); loss += out.loss.item()
    return loss

print(f"{where(args.device)} · student {args.shape}, teacher {args.teacher or args.shape} · {args.episodes} trajectories · observations of {args.observation} words, replies of {args.reply} tokens\n\n"
      "| turns | tokens of an episode | way | tokens forward | time, s | speed-up | loss |\n|--:|--:|---|--:|--:|--:|--:|", flush=True)
for turns in args.turns:
    env = Talk(turns, args.observation)
    ts = RolloutMixer(student, None, env, batch_size=args.episodes)(env.tasks("train", args.episodes))
    student.reset()
    result = []
    for name, f, parts in (("one row per turn", per_turn, prefix_rows(ts)), ("packed trajectories", lambda ts: packed_update(student, teacher, rows(ts), args.max_tokens), rows(ts))):
        if turns == args.turns[0]: f(ts[:1])
        student.model.zero_grad()
        seconds, loss = clock(lambda: f(ts), args.device)
        result.append(seconds)
        print(f"| {turns} | {len(ts[0].ids())} | {name} | {sum(len(r.ids) for r in parts)} | {seconds:.2f} | {result[0]/seconds:.1f}× | {loss:.4f} |", flush=True)
