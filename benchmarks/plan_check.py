"""A preset's training at full size, measured beside what `guided-opd plan` says of it: memory at the peaks of roll-out and update, and the time of a step.

The models have the preset's shapes and random weights; they are loaded, adapted, rolled out and trained as the preset says:
two steps in the middle of the curriculum, the second is reported. Simplified: an environment that talks and costs no time,
in episodes of about the preset's lengths (the plan is made for the lengths that came out); replies never end by themselves.

    python benchmarks/plan_check.py                                       # t4-qwen3-0.6b on whatever GPU is there; writes 9 GB of weights
    python benchmarks/plan_check.py --by hf                               # the same without Unsloth
    python benchmarks/plan_check.py --student small --teacher medium --bits 32 --by hf      # small models, to try the script
"""
import argparse, tempfile, time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
import torch
p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
p.add_argument("--preset", default="t4-qwen3-0.6b"); p.add_argument("--by", choices=("hf", "unsloth"), help="instead of the preset's way to load"); p.add_argument("--bits", type=int, choices=(4, 16, 32), help="instead of the preset's")
p.add_argument("--student", help="shape of `talk.SHAPES` instead of the preset's"); p.add_argument("--teacher", help="likewise"); p.add_argument("--folder", type=Path, help="keeps the random weights here; else a temporary folder"); p.add_argument("--max-tokens", type=int)
p.add_argument("--eager", action="store_true", help="launch the kernels of decoding steps one by one")
args = p.parse_args()
if torch.cuda.is_available() and args.by != "hf":
    try: import unsloth                                              # before transformers
    except ImportError: pass
from talk import SHAPES, Talk, endless, random_model, where
from transformers import AutoTokenizer
from guided_opd.plan import EPISODES, GiB, Device, Episodes, make_plan, this_gpu
from guided_opd.presets import Models, preset, tiny_models
from guided_opd.trainer import GuidedOPD

gpu = torch.cuda.is_available()
device = "cuda" if gpu else "cpu"
P = preset(args.preset)
c, e = P.config(), EPISODES[P.env, P.config().protocol]
env = Talk(min(e.turns, c.max_turns or e.turns), max(1, e.later - 12))
lms = {role: replace(lm, by=args.by or lm.by, bits=args.bits or lm.bits) for role, lm in (("student", P.student), ("teacher", P.teacher))}
shapes = {role: SHAPES[name] if (name := getattr(args, role)) else lms[role].shape for role in lms}
with (nullcontext(args.folder) if args.folder else tempfile.TemporaryDirectory()) as top:
    folders = {role: Path(top)/f"{role}-{shapes[role].hidden}x{shapes[role].layers}" for role in lms}
    if not all((f/"config.json").exists() for f in folders.values()):
        for role, f in tiny_models(env, Path(top)).items(): f.rename(folders[role])
        for seed, (role, f) in enumerate(folders.items()): random_model(shapes[role], AutoTokenizer.from_pretrained(f), seed, device, torch.bfloat16 if gpu else torch.float32).save_pretrained(f)
    P = replace(P, student=replace(lms["student"], name=str(folders["student"])), teacher=replace(lms["teacher"], name=str(folders["teacher"])), settings=P.settings | dict(protocol="transcript", eval_every=0) | (dict(max_tokens=args.max_tokens) if args.max_tokens else {}))
    if gpu: torch.cuda.empty_cache(); context = torch.cuda.mem_get_info()[1] - torch.cuda.mem_get_info()[0] - torch.cuda.memory_reserved()     # right if nobody else uses the GPU
    models, c = Models(P), P.config()
    student = models.student(); teacher = models.teacher(student)
    weights = torch.cuda.memory_allocated() if gpu else float("nan")
    for policy in (student, teacher):
        endless(policy, e.reply)
        if args.eager: policy.steps_in_place = False
    t = GuidedOPD(student, teacher, env, tempfile.mkdtemp(), config=c)
    middle, reserved = int(c.steps*c.ratio/2), []

    def measured(f):
        "What `f` returned, its seconds, and its peak of allocated bytes."
        if gpu: torch.cuda.synchronize(); torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter(); out = f()
        if gpu: torch.cuda.synchronize(); reserved.append(torch.cuda.max_memory_reserved())
        return out, time.perf_counter() - start, torch.cuda.max_memory_allocated() if gpu else float("nan")

    for _ in range(2):
        ts, rolled, peak_roll = measured(lambda: t.roll_out(middle))
        m, updated, peak_update = measured(lambda: t.update(ts, middle))
    whole = context + max(reserved) if gpu else float("nan")
    turns = [u for x in ts for u in x.turns]
    seen = Episodes(len(ts[0].turns), len(ts[0].turns[0].prompt_ids), round(sum(len(u.prompt_ids) for x in ts for u in x.turns[1:])/(len(turns) - len(ts))), round(sum(len(u.reply_ids) for u in turns)/len(turns)), len(ts[0].turns[0].prompt_ids), False)
    plan = make_plan("", P.student, P.teacher, c, seen, this_gpu() or Device("CPU", 0., 1e11, 1e10), P.checkpointing, e.reply)

g = lambda x: f"{x/GiB:.2f}"
print(f"{where(device)} · {P.name}: student of {shapes['student'].parameters/1e6:.0f} M in {P.student.bits} bits by {P.student.by}, teacher of {shapes['teacher'].parameters/1e6:.0f} M in {P.teacher.bits} bits by {P.teacher.by} · {len(ts)} trajectories of {seen.turns} turns, {sum(len(x.ids()) for x in ts)} tokens, "
      f"{sum(x.actor == 'teacher' for x in turns)/len(turns):.0%} of turns the teacher's · loss {m['loss']:.3f}, batch size {t.batch_size}, max_tokens {t.max_tokens}\n\n| | plan | measured |\n|---|--:|--:|")
for name, a, b in (("weights and adapters, GiB", sum(v for k, v in plan.memory.items() if "weights" in k or "adapters" in k), weights), ("peak of the roll-out, GiB", plan.phases["roll-out"], peak_roll),
                   ("peak of the update, GiB", plan.phases["update"], peak_update), ("of the process, context and fragmentation, GiB", plan.peak, whole)): print(f"| {name} | {g(a)} | {g(b)} |")
print(f"| roll-out, s | {plan.seconds['roll-out']:.1f} | {rolled:.1f} |\n| scoring and update, s | {plan.seconds['scoring'] + plan.seconds['update']:.1f} | {updated:.1f} |")
