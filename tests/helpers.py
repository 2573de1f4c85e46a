"Small worlds for the tests: a deterministic environment, random tiny models, a process that may be killed."
import os, signal, sys, time, traceback
from pathlib import Path

import gymnasium as gym
import pytest
import torch

from guided_opd.chat import word_tokenizer
from guided_opd.policy import HFPolicy

torch.set_num_threads(1)
SAID = "go stop left right ▁to ▁the ▁door ▁2 ▁room".split(" ")           # what a random model tends to say
WORDS = SAID + "\n user assistant system You ▁are ▁in ▁a ▁corridor ▁Find ▁It ▁is ▁rooms ▁away ▁hear ▁0 ▁1 ▁3 ▁4 ▁5 ▁6 ▁7 Say ▁go".split(" ")


class Corridor(gym.Env):
    """A plain Gymnasium environment: no `copy`, no base class of ours. Where you walk depends on every letter you say, so
    that episodes differ in length, and nothing depends on chance. Task "train/5": the door is 5 rooms away."""
    instructions = "You are in a corridor. Say: go"
    def __init__(self, max_turns=6): self.max_turns, self.task = max_turns, None
    def tasks(self, split, n=None): return [f"{split}/{3 + i % 5 + 10*(i//5)}" for i in range(n or dict(train=10, valid=4, test=6)[split])]
    def info(self, valid=True): return dict(score=min(1., self.at/self.rooms), success=self.at >= self.rooms, valid=valid, admissible=["go", "stop"])
    def expert(self): return Walker()
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        split, _, rooms = options["task"].partition("/")
        if split not in ("train", "valid", "test") or not rooms.isdigit(): raise ValueError(f"There is no task {options['task']!r}.")
        self.rooms, self.at, self.turn = int(rooms) % 10, 0, 0
        return f"You are in room 0. Find the door.\nIt is {self.rooms} rooms away.", self.info()
    def step(self, action):
        self.turn += 1
        self.at += 1 if action == "go" else sum(action.encode()) % 3
        info = self.info(valid=action in ("go", "stop"))
        return f"You are in room {self.at}." + " You hear a <|im_end|>." * (self.at % 2), float(info["success"]), info["success"], not info["success"] and self.turn >= self.max_turns, info

class Walker:
    def act(self, observation): return "go"


def tokenizer(): return word_tokenizer(WORDS)
TOK = tokenizer()


def policy(seed=0, name="student", tok=None, eos=2., vocab=None, layers=2, hidden=32, positions=2048, head_dim=8, **settings):
    "A tiny random Qwen3. `eos` is the bias towards ending a reply; words are likelier than bytes; None leaves the model as transformers makes it."
    from transformers import Qwen3Config, Qwen3ForCausalLM
    tok = tok or TOK
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(Qwen3Config(vocab_size=vocab or len(tok), hidden_size=hidden, intermediate_size=2*hidden, num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=2, head_dim=head_dim,
        max_position_embeddings=positions, tie_word_embeddings=eos is None, initializer_range=.3 if eos is not None else .02, bos_token_id=None, eos_token_id=tok.eos_token_id, pad_token_id=tok.pad_token_id))
    if eos is not None:
        head = torch.nn.Linear(hidden, model.config.vocab_size)
        head.weight.data.copy_(model.lm_head.weight); head.bias.data.fill_(-8)
        head.bias.data[[tok.get_vocab()[w] for w in SAID if w in tok.get_vocab()]] = 0
        head.bias.data[tok.eos_token_id] = eos
        model.lm_head = head
    return HFPolicy(model.eval(), tok, name=name, **dict(dict(max_new_tokens=5), **settings))


class Child:
    "Runs a function in a forked process with its output in a file, so that it can be interrupted, limited or killed like a user's own."
    def __init__(self, f, log:Path):
        if torch.cuda.is_available(): pytest.skip("needs a machine without a GPU: a forked process cannot train beside the threads of one")
        self.log = Path(log)
        sys.stdout.flush(); sys.stderr.flush()
        self.pid = os.fork()
        if self.pid: return
        code = 70
        try:
            fd = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(fd, 1); os.dup2(fd, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1, closefd=False), os.fdopen(2, "w", buffering=1, closefd=False)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            f(); code = 0
        except KeyboardInterrupt: code = 130
        except SystemExit as e: code = e.code if isinstance(e.code, int) else 0 if e.code is None else (print(e.code), 1)[1]
        except BaseException: traceback.print_exc(); code = 71
        finally:
            try: sys.stdout.flush(); sys.stderr.flush()
            finally: os._exit(code)

    @property
    def text(self): return self.log.read_text(errors="replace") if self.log.exists() else ""
    def kill(self, sig=signal.SIGKILL): os.kill(self.pid, sig)
    def wait_for(self, text, seconds=60):
        end = time.monotonic() + seconds
        while text not in self.text:
            assert time.monotonic() < end, f"{text!r} never came:\n{self.text}"
            time.sleep(.005)
    def wait(self, seconds=120):
        "Exit code; minus the signal's number where a signal ended it."
        end = time.monotonic() + seconds
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid: return os.waitstatus_to_exitcode(status)
            if time.monotonic() > end: self.kill(); os.waitpid(self.pid, 0); raise AssertionError(f"still running:\n{self.text}")
            time.sleep(.005)

def needs_scienceworld():
    "Skip a test where ScienceWorld or its Java is absent."
    pytest.importorskip("scienceworld")
    from guided_opd.envs.scienceworld_worker import find_java
    try: find_java()
    except RuntimeError: pytest.skip("needs java, version 8 or newer")
