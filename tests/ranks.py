"A small training, to be started once or by several processes at once: ranks.py FOLDER STEPS LORA_RANK"
import os, sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1])); sys.path.insert(0, str(Path(__file__).parent))
from helpers import Corridor, policy

from guided_opd.trainer import GuidedOPD

SETTINGS = dict(steps=4, rollouts_per_step=5, lr=1e-2, warmup_steps=1, eval_every=2, eval_episodes=3, save_every=2, keep_trajectories=5, batch_size=3, max_tokens=600, normalisation="turn")

def train(run, steps=None, lora_rank=0):
    t = GuidedOPD(policy(0, eos=None, max_new_tokens=4), policy(1, "teacher", eos=None, max_new_tokens=4), Corridor(max_turns=4), run, lora_rank=lora_rank, **SETTINGS)
    return t.fit(steps, progress=False)

if __name__ == "__main__":
    sys.setswitchinterval(1000)         # a group that outlives training aborts one exit in a hundred; so, every second one
    t = train(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    assert t.ranks.size == 2, t.ranks
    if "ACCELERATE_USE_FSDP" in os.environ:      # half of every matrix of a layer lies here, and of what AdamW keeps of it
        sharded = [(n, q) for n, q in t.student.model.named_parameters() if ".layers." in n and q.ndim == 2]
        assert sharded and all(2*q.to_local().numel() == q.numel() for _, q in sharded)
        kept = [v for q in t.parameters for v in t.optimiser.state[q].values() if v.ndim == 2 and hasattr(v, "to_local")]
        assert kept and all(2*v.to_local().numel() == v.numel() for v in kept)
