"""The contract of a policy that is a language model, run over one implementation: python contract.py hf|unsloth|vllm FOLDER
A process of its own, because Unsloth replaces parts of transformers, and vLLM takes the process over."""
import sys, warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1])); sys.path.insert(0, str(Path(__file__).parent))
kind, folder = sys.argv[1], Path(sys.argv[2])
if kind == "unsloth": import unsloth
import numpy as np
import torch
from helpers import TOK, Corridor, policy
from guided_opd.policy import HFPolicy
from guided_opd.rollout import RolloutMixer
from guided_opd.losses import STUDENT
from guided_opd.scoring import collate, divergence, rows
from guided_opd.trainer import GuidedOPD, checkpoints
from guided_opd.trajectory import read_trajectories

ENV, CACHE = Corridor(max_turns=4), .01

def load(lora=0, **settings):
    settings = dict(dict(max_new_tokens=5), **settings)
    if kind == "unsloth":
        from guided_opd.unsloth import UnslothPolicy
        return UnslothPolicy.from_pretrained(folder, lora_rank=lora, four_bit=False, dtype=torch.float32, max_context=1024, **settings)
    cls = HFPolicy
    if kind == "vllm": from guided_opd.vllm import VLLMPolicy as cls
    p = cls.from_pretrained(folder, dtype=torch.float32, max_context=1024, **settings)
    p.cache_gib = CACHE
    return p.add_lora(lora) if lora else p

device = "cuda" if torch.cuda.is_available() else "cpu"
def policy(*args, _make=policy, **kw): p = _make(*args, **kw); p.model.to(device); p.reset(); return p

plain = policy(0, eos=None, max_new_tokens=5, max_context=1024, head_dim=32)     # transformers as it is
plain.model.save_pretrained(folder); TOK.save_pretrained(folder)
teacher = policy(1, "teacher", hidden=64, layers=3, vocab=len(TOK) + 40)
tasks = ENV.tasks("train", 5)
replies = lambda ts: [[u.reply_ids for u in t.turns] for t in ts]

# turns: those of transformers, keys and values kept from turn to turn, greedy and sampled
p = load()
assert isinstance(p, HFPolicy) and p.tokenizer.get_vocab() == TOK.get_vocab()
for temperature, p.steps_in_place in ((0., None),) if kind == "vllm" else ((1., False), (0., True), (1., True)):      # vLLM draws by generators of its own; on a GPU steps in place are captured as graphs
    p.temperature = plain.temperature = temperature
    a, b = (RolloutMixer(x, teacher, ENV, beta=.3, batch_size=3, seed=1)(tasks) for x in (p, plain))
    assert replies(a) == replies(b), "the same tokens as plain transformers"
    for t, u in zip(a, b):
        for x, y in zip(t.turns, u.turns): np.testing.assert_allclose(x.logprobs, y.logprobs, atol=1e-4)
p.temperature = plain.temperature = 1.
a, b = (RolloutMixer(p, teacher, ENV, beta=.3, batch_size=3, seed=1)(tasks) for _ in range(2))
assert replies(a) == replies(b) != replies(RolloutMixer(p, teacher, ENV, beta=.3, batch_size=3, seed=2)(tasks)), "one seed, one result"
p.temperature = 0
turn = RolloutMixer(p, None, ENV, batch_size=3)(tasks[:1])[0].turns[0]
ids = torch.tensor([turn.prompt_ids], device=device)
p.training(False)
out = p.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=5)[0, ids.shape[1]:].tolist()
assert out[:len(turn.reply_ids)] == turn.reply_ids, "the same tokens as its own generate"

# scores: those of transformers, in any batch
batch = collate(rows(a))
for x in (divergence(p, teacher, batch).values_N, torch.cat([divergence(p, teacher, collate([r])).values_N for r in rows(a)])):
    torch.testing.assert_close(x.detach(), divergence(plain, teacher, batch).values_N.detach(), atol=1e-4, rtol=1e-3)

said, kept = divergence(plain, teacher, batch), [x for t in batch.turns for x in t.logprobs]
own = said.actors_N == STUDENT
torch.testing.assert_close(said.measures["student_logprob"][own], torch.tensor(kept, device=device)[own], atol=1e-4, rtol=1e-3, msg="the log-probs that turns keep are those of the model that scores them")

# updates: only adapters move, the loss falls, a run resumes, a checkpoint is a plain adapter
def train(run, steps=None):
    student = load(lora=4, temperature=1.)
    t = GuidedOPD(student, teacher, ENV, run, method="sft", steps=6, rollouts_per_step=4, batch_size=4, lr=1e-2, warmup_steps=1, eval_every=0, save_every=2)     # the teacher acts throughout, so that losses can be compared
    before = {n: q.clone() for n, q in student.model.named_parameters() if "lora_" not in n}
    t.fit(steps, progress=False)
    assert all(torch.equal(q, before[n]) for n, q in student.model.named_parameters() if n in before) and all("lora_" in n for n, q in student.model.named_parameters() if q.requires_grad)
    return t
whole = train(folder/"a")
train(folder/"b", 4); again = train(folder/"b")
for (n, x), y in zip(whole.student.model.named_parameters(), again.student.model.parameters()): torch.testing.assert_close(x, y, msg=n)
import json
losses = [json.loads(l)["loss"] for l in (folder/"a"/"metrics.jsonl").read_text().splitlines() if "loss" in l]
assert losses[-1] < losses[0], losses
from peft import PeftModel
reloaded = PeftModel.from_pretrained(policy(0, eos=None, head_dim=32).model, checkpoints(folder/"a")[-1]/"student")
ids = torch.arange(24, device=device).view(2, 12) + 5
with torch.no_grad(): torch.testing.assert_close(reloaded(ids).logits, whole.student.head(whole.student.hidden(ids)), atol=1e-4, rtol=1e-3)

# vLLM's own: it samples with the weights of now, adapters and whole models
if kind == "vllm":
    for lora in (4, 0):
        t = GuidedOPD(load(lora=lora), teacher, ENV, folder/f"swap{lora}", steps=3, rollouts_per_step=4, batch_size=4, lr=2e-2, warmup_steps=1, eval_every=3, eval_episodes=2, save_every=3, cache_gib=CACHE).fit(progress=False)
        s = t.student
        assert s.swaps >= 4 and any(u.actor == "student" for x in read_trajectories(t.run/"trajectories.jsonl") for u in x.turns)
        s.temperature = plain.temperature = 0
        same = HFPolicy(s.model, TOK, temperature=0, max_new_tokens=5, max_context=1024)
        a, b, before = (RolloutMixer(x, None, ENV, batch_size=3)(tasks) for x in (s, same, plain))
        assert replies(a) == replies(b) != replies(before), "the trained weights act"
        for x, y in zip(a, b):
            for u, v in zip(x.turns, y.turns): np.testing.assert_allclose(u.logprobs, v.logprobs, atol=1e-4)
        print(f"{'adapter' if lora else 'all weights'}: {s.swaps} swaps, greedy turns of vLLM and transformers equal")
print("contract holds")
