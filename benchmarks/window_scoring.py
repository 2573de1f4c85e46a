"""Scoring and update under a window history: the common beginning of an episode's prompts once, against every prompt whole. Prints a table.

Sixteen episodes of a pocket student on each environment, packed both times; the losses are printed. Under the published
prompts (`--protocol paper`) observations and lists of actions fill the prompts, and less of them is shared.

    python benchmarks/window_scoring.py
    python benchmarks/window_scoring.py --protocol paper
"""
import argparse, os
import torch
from talk import clock, packed_update, where
import guided_opd.policy as policy
from guided_opd.envs.base import make_env
from guided_opd.pocket import load_pocket
from guided_opd.protocol import PROTOCOLS, protocol
from guided_opd.rollout import RolloutMixer
from guided_opd.scoring import rows

p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
p.add_argument("--protocol", default="transcript", choices=PROTOCOLS); p.add_argument("--episodes", type=int, default=16); p.add_argument("--max-turns", type=int, default=10); p.add_argument("--max-tokens", type=int, default=16384)
args = p.parse_args()
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))
share = policy.share_prefixes

print(f"{where('cpu')} · pocket student and teacher, {args.protocol} prompts, a window of 2 turns · {args.episodes} episodes of {args.max_turns} turns at most\n\n"
      "| environment | tokens of a prompt | way | tokens forward | time, s | speed-up | loss |\n|---|--:|---|--:|--:|--:|--:|", flush=True)
for name in ("alfworld", "scienceworld", "webshop"):
    env = make_env(name, max_turns=args.max_turns, **(dict(objects=True) if name == "scienceworld" and args.protocol == "paper" else {}))
    student, teacher = load_pocket("student", env=name), load_pocket("teacher", env=name)
    student.max_context = teacher.max_context = 1 << 20      # the published prompts are longer than what these models were made for; here they need not play well
    ts = RolloutMixer(student, None, env, chat=protocol(args.protocol).chat(student.tokenizer, env, "window"))(env.tasks("train", args.episodes))
    student.reset(); student.model.train()
    seen, result = [], []
    student.lm.model.register_forward_pre_hook(lambda m, a, kw: seen.append(kw["input_ids"].numel()), with_kwargs=True)
    for i, r in enumerate(whole := rows(ts)): r.episode = i                # sorted by length alone
    for way, turns, function in (("every prompt whole", whole, lambda sequences: None), ("common beginning once", rows(ts), share)):
        policy.share_prefixes = function
        packed_update(student, teacher, turns[:2], args.max_tokens); seen.clear(); student.model.zero_grad()
        seconds, loss = clock(lambda: packed_update(student, teacher, turns, args.max_tokens), "cpu")
        result.append(seconds)
        print(f"| {name} | {sum(len(t.prompt_ids) for r in turns for t, *_ in r.replies)/len(turns):.0f} | {way} | {sum(seen)} | {seconds:.2f} | {result[0]/seconds:.1f}× | {loss:.4f} |", flush=True)
    policy.share_prefixes = share
    env.close()
