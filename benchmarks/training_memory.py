"""What a training holds beside the student's weights, counted, against what `guided-opd plan` reckons. Prints a table.

Counted are the bytes of all gradients and of all that the optimiser keeps after one update. Simplified: random weights in
float32, a teacher of the same shape, an environment that talks. What a GPU's allocator adds is not counted.

    python benchmarks/training_memory.py
    python benchmarks/training_memory.py --device cuda --shape qwen3-0.6b
"""
import argparse, tempfile
import torch
from talk import SHAPES, Talk, random_policy, where
from guided_opd.plan import moments
from guided_opd.trainer import GuidedOPD

p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
p.add_argument("--device", default="cpu"); p.add_argument("--shape", default="medium", choices=SHAPES); p.add_argument("--rank", type=int, default=16)
args = p.parse_args()
torch.set_num_threads(1)
shape, env = SHAPES[args.shape], Talk(2, 10)
size = lambda xs: sum(x.numel()*x.element_size() for x in xs)

print(f"{where(args.device)} · {args.shape}, {shape.parameters/1e6:.2f} M parameters in float32\n\n"
      "| trained | optimiser | weights, MB | gradients, MB | on paper | optimiser's state, MB | on paper |\n|---|---|--:|--:|--:|--:|--:|", flush=True)
for rank in (0, args.rank):
    for optimiser in ("adamw", "muon"):
        student, teacher = (random_policy(args.shape, n, s, args.device) for s, n in enumerate(("student", "teacher")))
        t = GuidedOPD(student, teacher, env, tempfile.mkdtemp(), method="opd", steps=1, rollouts_per_step=2, batch_size=2, eval_every=0, lora_rank=rank, optimiser=optimiser)
        t.update(t.roll_out(0), 0)
        parts = t.optimiser.parts.values() if optimiser == "muon" else [t.optimiser]
        state = [v for o in parts for s in o.state.values() for v in s.values() if v.ndim]
        trained = shape.lora(rank) if rank else shape.parameters
        print(f"| {f'adapters of rank {rank}' if rank else 'all weights'} | {optimiser} | {size(student.model.parameters())/1e6:.2f} | {size(q.grad for q in t.parameters)/1e6:.2f} | {trained*4/1e6:.2f} | {size(state)/1e6:.2f} | {moments(shape, optimiser, rank)*4/1e6:.2f} |", flush=True)
