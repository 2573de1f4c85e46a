"""Roll-outs: keys and values kept from turn to turn, against a fresh prefill of the whole history in each turn; on a GPU also with decoding steps captured as CUDA graphs. Prints a table.

Simplified: random weights, an environment that talks and costs no time, replies of a fixed length. All sides are the same
code and draw the same tokens (checked); the first forgets its cache before each turn, as loops around `generate` do.

    python benchmarks/rollout.py                                            # a small model on a CPU
    python benchmarks/rollout.py --device cuda --shape qwen3-0.6b --episodes 32
"""
import argparse, os
import torch
from talk import SHAPES, Eager, Forgetful, Talk, clock, random_policy, where
from guided_opd.policy import HFPolicy
from guided_opd.rollout import RolloutMixer

p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
p.add_argument("--device", default="cpu"); p.add_argument("--shape", default="small", choices=SHAPES); p.add_argument("--episodes", type=int, default=4)
p.add_argument("--turns", type=lambda s: [int(x) for x in s.split(",")], default=[10, 30, 50]); p.add_argument("--observation", type=int, default=60, help="words"); p.add_argument("--reply", type=int, default=12, help="tokens")
args = p.parse_args()
if args.device == "cpu": torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))
dtype = torch.bfloat16 if args.device.startswith("cuda") else torch.float32

ways = {"prefill each turn": Forgetful, "cache kept": Eager} | ({"cache kept, steps captured": HFPolicy} if args.device.startswith("cuda") else {})

print(f"{where(args.device)} · {args.shape} · {args.episodes} episodes at once · observations of {args.observation} words, replies of {args.reply} tokens\n\n"
      "| turns | tokens of an episode | way | time, s | reply tokens/s | cache, MB | speed-up |\n|--:|--:|---|--:|--:|--:|--:|", flush=True)
policies = {name: random_policy(args.shape, device=args.device, dtype=dtype, reply=args.reply, cls=c) for name, c in ways.items()}
for turns in args.turns:
    env, result = Talk(turns, args.observation), []
    for name, policy in policies.items():
        mixer = RolloutMixer(policy, None, env, batch_size=args.episodes)
        if turns == args.turns[0]: RolloutMixer(policy, None, Talk(2, args.observation), batch_size=args.episodes)(env.tasks("train", args.episodes))   # warm-up
        seconds, ts = clock(lambda: mixer(env.tasks("train", args.episodes)), args.device)
        result.append((name, seconds, ts, policy.cache.bytes()))
    drawn = [[[u.reply_ids for u in t.turns] for t in r[2]] for r in result]
    for name, seconds, ts, cache in result:
        print(f"| {turns} | {len(ts[0].ids())} | {name} | {seconds:.2f} | {sum(t.tokens() for t in ts)/seconds:.0f} | {cache/1e6:.0f} | {result[0][1]/seconds:.1f}× |", flush=True)
    if any(d != drawn[0] for d in drawn): print(f"(at {turns} turns not all drew the same tokens: {dtype} rounds a long prefill and single steps differently)")
