"What leaves a training, and students in 4 bits: a merged model says what student and adapter said; 4-bit weights are those that they stand for, in turns and in gradients."
import importlib.util

import pytest
import torch
from helpers import TOK, Corridor, policy

from guided_opd.policy import HFPolicy
from guided_opd.trainer import GuidedOPD

ENV, IDS = Corridor(max_turns=4), torch.arange(24).view(2, 12) + 5

@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    policy(0, eos=None, head_dim=32, hidden=128).model.save_pretrained(folder); TOK.save_pretrained(folder)
    return folder

def load(folder, dtype=torch.float32, **kw): return HFPolicy.from_pretrained(folder, dtype=dtype, max_new_tokens=5, **kw)

def training(student, run, **kw): return GuidedOPD(student, policy(1, "teacher", eos=None, max_new_tokens=5), ENV, run, **dict(dict(steps=3, lora_rank=4, rollouts_per_step=4, batch_size=4, lr=2e-2, warmup_steps=1, eval_every=0), **kw))

@torch.no_grad()
def logits(p): return p.head(p.hidden(IDS)).float()

def test_a_merged_model_says_what_student_and_adapter_said(base, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer
    student = training(load(base), tmp_path/"run").fit(progress=False).student
    want = logits(student)
    assert not torch.allclose(want, logits(load(base)), atol=1e-3)
    student.save_merged(tmp_path/"exact", torch.float32)
    torch.testing.assert_close(logits(load(tmp_path/"exact")), want, atol=1e-4, rtol=1e-4)
    student.save_merged(tmp_path/"half")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path/"half")
    assert plain.dtype == torch.bfloat16 and not hasattr(plain, "peft_config") and AutoTokenizer.from_pretrained(tmp_path/"half").get_vocab() == TOK.get_vocab()
    with torch.no_grad(): said = plain(IDS).logits.float()
    assert (said.argmax(-1) == want.argmax(-1)).float().mean() > .9 and (said - want).abs().max() < .02*want.abs().max()
    torch.testing.assert_close(logits(student), want, msg="the student itself stays as it was")

@pytest.mark.skipif(not importlib.util.find_spec("bitsandbytes"), reason="needs bitsandbytes")
def test_four_bits_are_the_weights_that_they_stand_for(base, tmp_path):
    from bitsandbytes.functional import dequantize_4bit
    from transformers import BitsAndBytesConfig
    small, same = load(base, load=dict(quantization_config=BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.float32))), load(base)
    of = {n: m for n, m in small.lm.named_modules() if type(m).__name__ == "Linear4bit"}
    assert len(of) == 14 and all(m.weight.dtype == torch.uint8 for m in of.values())
    for n, m in of.items(): same.lm.get_submodule(n).weight.data = dequantize_4bit(m.weight.data, m.weight.quant_state).float()
    torch.testing.assert_close(logits(small), logits(same))
    with pytest.raises(ValueError, match="quantised.*lora_rank=16"): training(small, tmp_path/"bare", lora_rank=0)
    runs = [training(s, tmp_path/n, method="opd") for n, s in (("small", small), ("same", same))]
    for step in range(2):
        ts = runs[0].roll_out(step); runs[1].roll_out(step)      # both have acted before they learn
        a, b = ([t.update(ts, step)["loss"], torch.cat([p.grad.flatten() for p in t.parameters])] for t in runs)
        assert a[0] == pytest.approx(b[0], rel=1e-4)
        torch.testing.assert_close(a[1], b[1], atol=1e-6, rtol=1e-3)
        assert b[1].any()
    want = logits(small)
    small.save_merged(tmp_path/"merged", torch.float32)
    got = logits(load(tmp_path/"merged"))
    assert torch.nn.functional.cosine_similarity(got.flatten(), want.flatten(), dim=0) > .9, "merged into the weights that were not rounded to 4 bits"
