"""The student's base as teacher, under another adapter or under none, against a model of its own. Prints a table.

Held: bytes of all distinct weights of student and teacher. Switch: to the teacher and back, nothing computed between. Copied:
bytes of weights that lie elsewhere, or have been written to, while the teacher has its turn. The last row is what a loop
without named adapters does: put the teacher's adapter in place of the student's, and put that back. Simplified: random weights.

    python benchmarks/adapter_switch.py                                     # a small model on a CPU
    python benchmarks/adapter_switch.py --device cuda --shape qwen3-0.6b
"""
import argparse, os
from contextlib import contextmanager, nullcontext
import torch
from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
from talk import SHAPES, clock, random_policy, where
from guided_opd.policy import SharedTeacher

p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
p.add_argument("--device", default="cpu"); p.add_argument("--shape", default="medium", choices=SHAPES); p.add_argument("--rank", type=int, default=16); p.add_argument("--tokens", type=int, default=1024, help="scored by the teacher"); p.add_argument("--repeats", type=int, default=5)
args = p.parse_args()
if args.device == "cpu": torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))
dtype = torch.bfloat16 if args.device.startswith("cuda") else torch.float32
make = lambda name, seed: random_policy(args.shape, name, seed, args.device, dtype)
ids = torch.randint(0, 270, (1, args.tokens), generator=torch.Generator().manual_seed(0))

def held(*models): return sum({x.data_ptr(): x.numel()*x.element_size() for m in models for x in m.parameters()}.values())
def places(m): return {n: (x.data_ptr(), x._version, x.numel()*x.element_size()) for n, x in m.named_parameters()}

def row(name, student, teacher, switch):
    "One line: memory, a switch there and back, and what it copied."
    before, copied = places(student.model), 0
    with switch(): copied = sum(b[2] for n, b in places(student.model).items() if b[:2] != before[n][:2])
    def there_and_back():
        with switch(): pass
    seconds, _ = clock(there_and_back, args.device, 3*args.repeats)
    def score():
        with torch.no_grad(), (switch() if not isinstance(teacher, SharedTeacher) else nullcontext()): return teacher.hidden(ids)
    scoring, _ = clock(score, args.device, args.repeats)
    print(f"| {name} | {held(student.model, teacher.model)/1e6:.1f} | {seconds*1e3:.2f} | {copied/1e6:.2f} | {scoring*1e3:.0f} | {seconds/scoring:.1%} |", flush=True)

print(f"{where(args.device)} · {args.shape}, adapters of rank {args.rank} · {args.tokens} tokens scored\n\n"
      "| teacher | weights held, MB | a switch and back, ms | copied, MB | scoring with it, ms | switch, of scoring |\n|---|--:|--:|--:|--:|--:|", flush=True)
student = make("student", 0).add_lora(args.rank)
row("a model of its own", student, make("teacher", 0), nullcontext)
del student
student = make("student", 0).add_lora(args.rank)
student.model.add_adapter("tutor", LoraConfig(r=args.rank, lora_alpha=2*args.rank, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False))
student.model.base_model.set_adapter("default")
for name, adapter in (("the student's base, adapters off", None), ("the student's base, another adapter", "tutor")):
    teacher = SharedTeacher(student, adapter)
    row(name, student, teacher, teacher._teaching)
tutor = {k: v.clone() for k, v in get_peft_model_state_dict(student.model, adapter_name="tutor").items()}

@contextmanager
def swapped():
    own = {k: v.clone() for k, v in get_peft_model_state_dict(student.model).items()}
    set_peft_model_state_dict(student.model, tutor)
    try: yield
    finally: set_peft_model_state_dict(student.model, own)
row("the student's base, its adapter overwritten", student, student, swapped)
