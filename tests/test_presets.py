"Plans against real tensors; every command of the study with real models, dry, up to its first update."
import json, math
from dataclasses import replace

import pytest
import torch
from helpers import TOK, Corridor, policy
from torch.utils.flop_counter import FlopCounterMode

from guided_opd.cli import main
from guided_opd.optimiser import make_optimiser
from guided_opd.plan import DEVICES, EPISODES, LM, SHAPES, Device, GiB, Shape, advice, forward_flops, layer_activations, make_plan, row_length, shape_of
from guided_opd.presets import PRESETS, Models, preset, prepare, tiny_models, without_thinking
from guided_opd.policy import HFPolicy
from guided_opd.rollout import RolloutMixer
from guided_opd.trainer import GuidedOPD, GuidedOPDConfig, read_jsonl

numel = lambda ps: sum(p.numel() for p in ps)

def qwen(s, device="cpu", dtype=torch.float32):
    from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM
    sizes = dict(vocab_size=s.vocab, hidden_size=s.hidden, num_hidden_layers=s.layers, num_attention_heads=s.heads, num_key_value_heads=s.kv_heads, head_dim=s.head_dim, tie_word_embeddings=s.tied, max_position_embeddings=4096, eos_token_id=TOK.eos_token_id)
    torch.manual_seed(0)
    with torch.device(device):
        if s.experts: return Qwen3MoeForCausalLM(Qwen3MoeConfig(**sizes, intermediate_size=6144, moe_intermediate_size=s.mlp, num_experts=s.experts, num_experts_per_tok=s.active))
        return Qwen3ForCausalLM(Qwen3Config(**sizes, intermediate_size=s.mlp)).to(dtype)

@pytest.mark.parametrize("name", SHAPES)
def test_parameters_are_those_of_transformers_own_models(name):
    model = qwen(SHAPES[name], "meta")
    assert numel(model.parameters()) == SHAPES[name].parameters
    assert LM(name).bytes == 2*numel(model.parameters())
    norms = numel(p for n, p in model.named_parameters() if "norm" in n)
    outside = numel(p for n, p in model.named_parameters() if "embed" in n or "lm_head" in n or n.endswith("mlp.gate.weight"))
    assert SHAPES[name].linear == SHAPES[name].parameters - norms - outside

def test_names_of_quantised_files_and_folders_have_sizes_too(tmp_path):
    assert shape_of("unsloth/Qwen3-4B-unsloth-bnb-4bit") == shape_of("Qwen/Qwen3-4B-Instruct-2507") == SHAPES["Qwen/Qwen3-4B"]
    s = Shape(32, 2, 4, 2, 48, True, head_dim=8, vocab=len(TOK))
    qwen(s).save_pretrained(tmp_path)
    assert shape_of(str(tmp_path)) == s
    with pytest.raises(ValueError, match="sizes of 'meta-llama/x' are not known"): shape_of("meta-llama/x")

SMALL = Shape(64, 3, 4, 2, 160, True, head_dim=16, vocab=len(TOK)), Shape(96, 2, 6, 3, 200, False, head_dim=8, vocab=len(TOK))

@pytest.mark.parametrize("s", SMALL)
@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_plan_counts_what_tensors_hold(s, rank, dtype, tmp_path):
    width = torch.finfo(dtype).bits//8
    p = HFPolicy(qwen(s, dtype=dtype), TOK, max_new_tokens=5)
    assert sum(q.numel()*q.element_size() for q in p.model.parameters()) == s.parameters*width
    if rank: p.add_lora(rank)
    p.training(True)
    # the widths of this model are none of those from which the coefficients were found
    weights, kept, lengths = {q.untyped_storage().data_ptr() for q in p.model.parameters()}, {}, [60, 60]
    def pack(x):
        if (d := x.untyped_storage()).data_ptr() not in weights: kept[d.data_ptr()] = (d.nbytes(), x)
        return x
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x): h = p.hidden(torch.randint(5, 20, (1, 120)), lengths)
    assert sum(n for n, _ in kept.values()) == pytest.approx(s.layers*layer_activations(s, 120, width, rank), rel=.12)
    trained = [q for q in p.model.parameters() if q.requires_grad]
    assert numel(trained) == (s.lora(rank) if rank else s.parameters)
    optimiser = torch.optim.AdamW(trained)
    p.head(h).float().square().mean().backward(); optimiser.step()
    qwen(s).save_pretrained(tmp_path)
    lm = LM(str(tmp_path), 8*width)
    e = make_plan("", lm, lm, GuidedOPDConfig(lora_rank=rank), EPISODES["alfworld", "transcript"], DEVICES["T4"])
    assert sum(q.grad.numel()*q.grad.element_size() for q in trained) == e.memory["gradients"]
    moments = sum(x.numel()*x.element_size() for st in optimiser.state.values() for k, x in st.items() if k.startswith("exp"))
    assert moments == e.memory["optimiser (adamw)"]
    muon = make_optimiser("muon", p.model, 1e-3); muon.step()
    e = make_plan("", lm, lm, GuidedOPDConfig(lora_rank=rank, optimiser="muon"), EPISODES["alfworld", "transcript"], DEVICES["T4"])
    assert sum(x.numel()*x.element_size() for part in muon.parts.values() for st in part.state.values() for x in st.values() if x.ndim) == e.memory["optimiser (muon)"]

@pytest.mark.parametrize("turns", [4, 30])
def test_the_cache_holds_what_a_token_costs_and_is_as_long_as_planned(turns):
    s = SMALL[0]
    p, env = HFPolicy(qwen(s), TOK, max_new_tokens=5), Corridor(max_turns=turns)
    p.steps_in_place = True                    # as on a GPU
    ts = RolloutMixer(p, None, env, batch_size=3)([f"train/{i}" for i in (97, 98, 99)])
    assert p.cache.bytes() == 3*p.cache.end*s.kv(4)
    longest = max(sum(len(u.prompt_ids) + len(u.reply_ids) for u in t.turns) for t in ts)
    assert row_length(longest - 5) <= p.cache.end <= row_length(longest + 5)

def test_arithmetic_is_what_torch_counts():
    s, n = SMALL[0], 50
    model = qwen(s)
    model.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter, torch.no_grad(): model.model(torch.randint(5, 20, (1, n)), use_cache=False)
    assert counter.get_total_flops() == pytest.approx(forward_flops(s, n, n), rel=.01)

@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("env", ["alfworld", "scienceworld", "webshop"])
def test_presets_fit_what_they_are_made_for_or_say_what_makes_them(name, env):
    p = preset(name).changed(env)
    if env == p.env == PRESETS[name].env: assert p.plan().fits
    for memory in (12, 20, 40):
        gpu = Device("it", memory*GiB, 1e14, 1e12)
        if p.plan(gpu).fits: continue
        with pytest.raises(ValueError, match="needs .* GiB of memory and it has"): p.refuse(gpu)
        change = advice(lambda ch: p.changed(**ch).plan(gpu), p.config(), p.teacher)
        if change:
            said = {k.removeprefix("--").replace("-", "_"): int(v) for k, v in (c.split() for c in change)}
            assert p.changed(**said).plan(gpu).fits, "the advice helps"

def run(*args): main(list(map(str, args)))

def test_plan_says_what_does_not_fit_and_needs_no_gpu(capsys):
    run("plan")
    out = capsys.readouterr().out
    assert all(n in out for n in PRESETS)
    run("plan", "served-30b", "--env", "webshop", "--student", "Qwen/Qwen3-4B")
    out = capsys.readouterr().out
    assert "Qwen3-4B learns from Qwen/Qwen3-30B-A3B" in out and "on its server" in out and ("No GPU is seen here" in out) == (not torch.cuda.is_available())
    for args, why in ((["t4-qwen3-0.6b", "--memory", "8GiB"], "It fits with --"), (["t4-qwen3-0.6b", "--memory", "2GiB"], "a smaller --student"), (["gpu"], "no preset 'gpu'"), (["served-30b", "--memory", "lots"], "write it as 15GiB"), (["served-30b", "--student", "gpt2"], "not known here")):
        with pytest.raises(SystemExit, match=why): run("plan", *args)

def test_without_a_gpu_training_says_what_is_missing(tmp_path):
    if torch.cuda.is_available(): pytest.skip("needs a machine without a GPU")
    for name in ("a100-qwen3-1.7b", "served-30b"):
        with pytest.raises(SystemExit, match=f"{name} cannot run here; missing: a GPU.*--dry-run"): run("train", "--preset", name, "--run", tmp_path/"run")
    with pytest.raises(SystemExit, match="vllm serve Qwen/Qwen3-30B-A3B"): run("train", "--preset", "served-30b")
    with pytest.raises(SystemExit, match="--dry-run is for presets"): run("train", "--dry-run")
    assert not (tmp_path/"run").exists()

@pytest.mark.parametrize("env,method", [("alfworld", "guided"), ("alfworld", "tcod_b2f"), ("webshop", "opd"), ("webshop", "tcod_f2b"), ("alfworld", "sft")])
def test_the_studys_trainings_reach_their_first_update(env, method, tmp_path, capsys):
    run("train", "--preset", "served-30b", "--env", env, "--method", method, "--dry-run", "--run", tmp_path)
    assert "Dry run" in capsys.readouterr().out
    rows, config = read_jsonl(tmp_path/"metrics.jsonl"), json.loads((tmp_path/"config.json").read_text())
    assert rows[-1]["step"] == 1 and math.isfinite(rows[-1]["loss"]) and rows[-1]["grad_norm"] > 0
    assert config["config"]["protocol"] == "paper" and config["config"]["lora_rank"] == 64 and config["config"]["method"] == method

def test_the_studys_comparison_and_evaluation_run_dry(tmp_path, capsys):
    run("compare", "--preset", "a100-qwen3-1.7b", "--methods", "opd,guided", "--dry-run", "--run", tmp_path/"compare")
    assert "| guided | greedy | 1 |" in capsys.readouterr().out
    run("evaluate", "--preset", "a100-qwen3-1.7b", "--dry-run")
    assert "1 episodes · temperature 0.4" in capsys.readouterr().out
    run("evaluate", "--preset", "a100-qwen3-1.7b", "--dry-run", "--temperature", "0")
    assert "1 episodes · greedy" in capsys.readouterr().out

def test_a_served_teacher_runs_dry_over_real_http(tmp_path):
    from guided_opd.envs.base import make_env
    from server import Server
    env = make_env("alfworld")
    tiny = tiny_models(env, tmp_path)
    teacher = HFPolicy.from_pretrained(tiny["teacher"], name="teacher", max_new_tokens=8)
    with Server(teacher) as server:
        p = preset("served-30b").changed(teacher=f"{server.url}#lm")
        models = prepare(p, env, dry_run=True)
        models = replace(models, tiny=tiny)
        student = models.student()
        t = GuidedOPD(student, models.teacher(student), env, tmp_path/"run", config=models.preset.config())
        t.fit(progress=False)
        assert t.step == 1 and server.seen, "the teacher was asked over HTTP"

def test_thinking_is_left_out_of_conversations_and_kept_for_the_published_prompts():
    from guided_opd.chat import Chat
    from guided_opd.envs.base import make_env
    env = make_env("alfworld")
    models = prepare(preset("a100-qwen3-1.7b").changed(protocol="transcript"), env, dry_run=True)
    tok = models.student().tokenizer
    assert tok.decode(Chat(tok).ask).endswith("<think>\n\n</think>\n\n") and without_thinking(tok).chat_template.count("set enable_thinking") == 1
    tok = Models(preset("a100-qwen3-1.7b"), models.tiny).student().tokenizer
    assert "think" not in tok.decode(Chat(tok).ask)
