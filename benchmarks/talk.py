"What the benchmarks of this folder share: episodes of a fixed length in tokens, random Qwen3 models, the published way to score a turn."
import sys, time
from pathlib import Path
import gymnasium as gym
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from guided_opd.chat import word_tokenizer
from guided_opd.plan import SHAPES as QWEN, Shape
from guided_opd.policy import HFPolicy
from guided_opd.scoring import Row, batches, collate, divergence

SHAPES = dict(small=Shape(128, 3, 4, 2, 384, True, 32, 4000), medium=Shape(256, 6, 8, 4, 768, True, 32, 16000), **{f"qwen3-{size.lower()}": QWEN[f"Qwen/Qwen3-{size}"] for size in ("0.6B", "1.7B", "4B")})

class Talk(gym.Env):
    "Says `words` words in each of `turns` turns, whatever it hears."
    def __init__(self, turns, words): self.turns, self.words = turns, words
    def tasks(self, split, n=None): return [f"{split}/{i}" for i in range(n or 64)]
    def say(self): return " ".join("you see a door to the room".split()[(self.at*7 + i*i) % 7] for i in range(self.words))
    def info(self): return dict(score=0., success=False, valid=True)
    def reset(self, *, seed=None, options=None): self.at = 0; return self.say(), self.info()
    def step(self, action): self.at += 1; return self.say(), 0., False, self.at >= self.turns, self.info()

TOK = word_tokenizer("you ▁you ▁see ▁a ▁door ▁to ▁the ▁room \n user assistant".split())

def random_model(shape:Shape, tok, seed=0, device="cpu", dtype=torch.float32):
    "A Qwen3 of this shape with random weights."
    from transformers import Qwen3Config, Qwen3ForCausalLM
    torch.manual_seed(seed)
    with torch.device(device):
        torch.set_default_dtype(dtype)
        model = Qwen3ForCausalLM(Qwen3Config(vocab_size=shape.vocab, hidden_size=shape.hidden, intermediate_size=shape.mlp, num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads, head_dim=shape.head_dim,
            max_position_embeddings=40960, tie_word_embeddings=shape.tied, bos_token_id=None, eos_token_id=tok.eos_token_id, pad_token_id=tok.pad_token_id)).eval()
        torch.set_default_dtype(torch.float32)
    return model

def endless(policy, reply):
    "Let it reply with `reply` tokens, always: it never ends a turn by itself, so that every run has the same number of tokens."
    class Endless(type(policy)):
        def _forward(self, *a, **kw):
            logits = super()._forward(*a, **kw); logits[:, self.eos] = -float("inf")
            return logits
    policy.__class__, policy.max_new_tokens = Endless, reply
    return policy

def random_policy(shape, name="student", seed=0, device="cpu", dtype=torch.float32, reply=12, cls=HFPolicy, tok=TOK):
    "A random model of a shape in `SHAPES` that always replies with `reply` tokens."
    return endless(cls(random_model(SHAPES[shape], tok, seed, device, dtype), tok, name=name), reply)

class Eager(HFPolicy):
    "Launches the kernels of each decoding step one by one, on a GPU too."
    steps_in_place = False

class Forgetful(Eager):
    "Prefills the whole history in each turn, as loops around `generate` do."
    def act(self, histories): self.reset(); return super().act(histories)

def prefix_rows(trajectories):
    "One row a turn with its whole prefix, as published loops train multi-turn agents."
    out = []
    for t in trajectories:
        ids = []
        for turn in t.turns:
            start = len(ids) + len(turn.prompt_ids)
            ids = ids + turn.prompt_ids + turn.reply_ids
            out.append(Row(ids, [(turn, start, len(ids))]))
    return out

def packed_update(student, teacher, rows, max_tokens):
    "Forward and backward of `rows` packed end to end, each reply token counting alike; returns the loss."
    loss, n = 0, sum(len(turn.reply_ids) for r in rows for turn, *_ in r.replies)
    for part in batches(rows, max_tokens):
        batch = collate(part)
        out = divergence(student, teacher, batch, weights=torch.full((sum(batch.lengths),), 1/n))
        out.loss.backward(); loss += out.loss.item()
    return loss

def clock(f, device, repeats=1):
    "Best time of `f`, seconds, and what it returned."
    best, sync = 1e9, (torch.cuda.synchronize if device.startswith("cuda") else lambda: None)
    for _ in range(repeats):
        sync(); start = time.perf_counter(); out = f(); sync()
        best = min(best, time.perf_counter() - start)
    return best, out

def where(device): return torch.cuda.get_device_name() if device.startswith("cuda") else f"CPU, {torch.get_num_threads()} thread(s)"
