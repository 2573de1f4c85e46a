"""One whole training step (roll out, score, update) against a plain loop written in the published way. Prints a table.

The plain loop: `model.generate`-like decoding that prefills the whole history in each turn; one padded row per turn with its
whole prefix; full logits of both models at all positions; KL by log_softmax. Simplified: random weights, an environment that
costs no time, every turn the student's, no evaluation, AdamW on all weights. Both sides see the same number of tokens.

    python benchmarks/step.py                                               # a small model on a CPU
    python benchmarks/step.py --device cuda --shape qwen3-0.6b --teacher qwen3-1.7b --episodes 8 --max-tokens 8192
"""
import argparse, os, tempfile
import torch
from talk import SHAPES, Forgetful, Talk, clock, prefix_rows, random_policy, where
from guided_opd.policy import HFPolicy
from guided_opd.rollout import RolloutMixer
from guided_opd.trainer import GuidedOPD

p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
p.add_argument("--device", default="cpu"); p.add_argument("--shape", default="small", choices=SHAPES); p.add_argument("--teacher", choices=SHAPES); p.add_argument("--episodes", type=int, default=3)
p.add_argument("--turns", type=int, default=30); p.add_argument("--observation", type=int, default=60, help="words"); p.add_argument("--reply", type=int, default=12, help="tokens"); p.add_argument("--max-tokens", type=int, default=4096, help="of a forward and backward, on both sides")
args = p.parse_args()
if args.device == "cpu": torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))
gpu = args.device.startswith("cuda")
dtype = torch.bfloat16 if gpu else torch.float32
env = Talk(args.turns, args.observation)

def models(cls):
    student, teacher = (random_policy(s, n, seed, args.device, dtype, args.reply, cls) for s, n, seed in ((args.shape, "student", 0), (args.teacher or args.shape, "teacher", 1)))
    if gpu: student.model.gradient_checkpointing_enable()
    return student, teacher

def ours():
    student, teacher = models(HFPolicy)
    t = GuidedOPD(student, teacher, env, tempfile.mkdtemp(), method="opd", rollouts_per_step=args.episodes, batch_size=args.episodes, max_tokens=args.max_tokens, eval_every=0, steps=100)
    def step():
        import time
        a = time.perf_counter(); ts = t.roll_out(t.step); b = time.perf_counter(); m = t.update(ts, t.step); t.step += 1
        return b - a, time.perf_counter() - b, sum(x.tokens() for x in ts), m["loss"]
    return step

def plain():
    student, teacher = models(Forgetful)
    optimiser, n = torch.optim.AdamW(student.model.parameters(), lr=1e-4), [0]
    def step():
        import time
        a = time.perf_counter()
        ts = RolloutMixer(student, None, env, batch_size=args.episodes)(env.tasks("train", args.episodes), step=n[0]); n[0] += 1; student.reset()
        b, loss, tokens = time.perf_counter(), 0., sum(t.tokens() for t in ts)
        student.model.train(); optimiser.zero_grad()
        parts, batch = [], []
        for r in sorted(prefix_rows(ts), key=lambda r: len(r.ids)):
            if batch and (len(batch) + 1)*len(r.ids) > args.max_tokens: parts.append(batch); batch = []
            batch.append(r)
        for part in parts + [batch]:
            T = max(len(r.ids) for r in part)
            ids, mask = torch.zeros(len(part), T, dtype=torch.long, device=args.device), torch.zeros(len(part), T, device=args.device)
            for i, r in enumerate(part):
                ids[i, :len(r.ids)] = torch.tensor(r.ids)
                for _, start, end in r.replies: mask[i, start-1:end-1] = 1
            with torch.no_grad(): logq = teacher.model(ids, use_cache=False).logits.float().log_softmax(-1)
            logp = student.model(ids, use_cache=False).logits.float().log_softmax(-1)
            part_loss = (((logp.exp()*(logp - logq)).sum(-1)*mask).sum())/tokens
            part_loss.backward(); loss += part_loss.item()
        torch.nn.utils.clip_grad_norm_(student.model.parameters(), 1.); optimiser.step(); student.model.eval()
        return b - a, time.perf_counter() - b, tokens, loss
    return step

print(f"{where(args.device)} · student {args.shape}, teacher {args.teacher or args.shape} · {args.episodes} trajectories of {args.turns} turns · observations of {args.observation} words, replies of {args.reply} tokens\n\n"
      "| way | roll-out, s | score and update, s | step, s | trained tokens | loss of step 2 | peak GPU memory, GB | speed-up |\n|---|--:|--:|--:|--:|--:|--:|--:|", flush=True)
base = None
for name, make in (("plain loop", plain), ("guided_opd", ours)):
    step = make(); step()                                                 # the first step is a warm-up
    if gpu: torch.cuda.reset_peak_memory_stats()
    try: seconds, (rolled, updated, tokens, loss) = clock(step, args.device)
    except torch.OutOfMemoryError: print(f"| {name} | out of memory: lower --max-tokens |"); continue
    base = base or seconds
    print(f"| {name} | {rolled:.2f} | {updated:.2f} | {seconds:.2f} | {tokens} | {loss:.4f} | {torch.cuda.max_memory_allocated()/1e9 if gpu else float('nan'):.1f} | {base/seconds:.1f}× |", flush=True)
    del step
    if gpu: torch.cuda.empty_cache()
