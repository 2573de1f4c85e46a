"Two processes train as one does: the same episodes, the same curve, one run folder."
import json, os, subprocess, sys
from pathlib import Path

import pytest
import torch
from ranks import train
from safetensors.torch import load_file

from guided_opd.trainer import checkpoints, read_jsonl
from guided_opd.trajectory import read_trajectories

LAUNCHERS = dict(accelerate=["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--main_process_port", "0", "--mixed_precision", "no", "--dynamo_backend", "no"],
                 fsdp=["-m", "accelerate.commands.launch", "--use_fsdp", "--fsdp_version", "2", "--num_processes", "2", "--num_machines", "1", "--main_process_port", "0", "--mixed_precision", "no", "--dynamo_backend", "no"],
                 torchrun=["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"])

def launch(launcher, run, steps, lora_rank=0):
    done = subprocess.run([sys.executable, *LAUNCHERS[launcher], Path(__file__).with_name("ranks.py"), run, str(steps), str(lora_rank)], capture_output=True, text=True, timeout=600, env=os.environ | dict(CUDA_VISIBLE_DEVICES="", PYTHONFAULTHANDLER="1"))
    assert done.returncode == 0, done.stderr[-8000:]
    assert checkpoints(Path(run))[-1].name == f"step_{steps:06d}"

def said(run): return [(t.step, t.task, t.score, [(u.actor, u.prompt_ids, u.reply_ids) for u in t.turns]) for t in read_trajectories(run/"trajectories.jsonl")]

def same(a, b):
    assert said(a) == said(b)
    curves = [[{k: v for k, v in m.items() if not k.startswith(("seconds", "cache"))} for m in read_jsonl(r/"metrics.jsonl")] for r in (a, b)]
    for x, y in zip(*curves, strict=True):
        assert x.keys() == y.keys()
        for k in x: assert x[k] == (y[k] if y[k] is None else pytest.approx(y[k], rel=2e-4, abs=1e-6)), (x["step"], k)
    for t, u in zip(*(read_trajectories(r/"trajectories.jsonl") for r in (a, b))):
        for x, y in zip(t.turns, u.turns):
            for k, v in x.measures.items(): assert v == pytest.approx(y.measures[k], abs=1e-4)
    assert [p.name for p in checkpoints(a)] == [p.name for p in checkpoints(b)]
    p, q = (load_file(next((checkpoints(r)[-1]/"student").glob("*.safetensors"))) for r in (a, b))
    for k in p: torch.testing.assert_close(p[k], q[k], atol=2e-5, rtol=2e-3, msg=k)

@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    run = tmp_path_factory.mktemp("alone")
    train(run)
    return run

def test_two_processes_give_the_curve_and_the_episodes_of_one(alone, tmp_path):
    launch("accelerate", tmp_path, 4)
    same(alone, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in alone.iterdir()}

def test_a_run_goes_on_with_another_number_of_processes(alone, tmp_path):
    launch("torchrun", tmp_path, 2)
    assert json.loads((checkpoints(tmp_path)[-1]/"state.json").read_text())["step"] == 2
    train(tmp_path)
    same(alone, tmp_path)

@pytest.mark.parametrize("lora_rank", [0, 4])
def test_fsdp_is_the_same_training_and_its_checkpoints_are_whole(alone, tmp_path, lora_rank):
    "Layers, gradients and moments in two parts; one process goes on from what two wrote, and two from what one wrote."
    if lora_rank: train(alone := tmp_path/"alone", lora_rank=lora_rank)
    launch("fsdp", tmp_path/"a", 2, lora_rank)
    train(tmp_path/"a", lora_rank=lora_rank)
    same(alone, tmp_path/"a")
    train(tmp_path/"b", 2, lora_rank)
    launch("fsdp", tmp_path/"b", 4, lora_rank)
    same(alone, tmp_path/"b")
