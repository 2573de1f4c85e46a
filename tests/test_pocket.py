"The models that come with the package, the command that makes them, and the demo that uses them."
import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from helpers import needs_scienceworld
from safetensors.torch import load_file

from guided_opd import pocket
from guided_opd.envs.base import make_env
from guided_opd.evaluate import evaluate
from guided_opd.pocket import POCKET, POCKET_MODELS, build, load_pocket

NAMES = "teacher", "student", "student_small"


@pytest.fixture(scope="module")
def env(): return make_env("alfworld")


def success(which, env, episodes=32):
    return evaluate(load_pocket(which), env, env.tasks("test", episodes), batch_size=32)[0].success


def test_the_teacher_solves_unseen_games_and_the_students_are_poor_but_not_dead(env):
    assert success("teacher", env) >= .85
    assert success("student", env) <= .5
    built = json.loads((POCKET_MODELS / "alfworld" / "build.json").read_text())["models"]
    assert built["teacher"]["greedy"]["success"] >= .9 and built["teacher"]["greedy"]["episodes"] >= 256
    for name in NAMES[1:]: assert .05 <= built[name]["greedy"]["success"] <= .35


@pytest.mark.parametrize("env", POCKET)
def test_models_are_qwen3_with_one_tokenizer_and_a_few_megabytes(env):
    size, vocabularies = 0, []
    for name in NAMES:
        folder = POCKET_MODELS / env / name
        assert json.loads((folder / "config.json").read_text())["architectures"] == ["Qwen3ForCausalLM"]
        size += (folder / "model.safetensors").stat().st_size
        vocabularies.append(load_pocket(name, env).tokenizer.get_vocab())
        assert {t.dtype for t in load_file(folder / "model.safetensors").values()} == {torch.bfloat16}
    assert size < 6e6 and vocabularies[0] == vocabularies[1] == vocabularies[2]
    built = json.loads((POCKET_MODELS / env / "build.json").read_text())["models"]
    assert all(built[name][d]["episodes"] >= 256 for name in NAMES for d in ("greedy", "sampled"))


@pytest.mark.parametrize("name", ["scienceworld", "webshop"])
def test_the_other_teachers_are_ahead_of_their_students_on_unseen_tasks(name):
    if name == "scienceworld": needs_scienceworld()
    env = make_env(name, **POCKET[name].settings)
    teacher, student = (evaluate(load_pocket(which, name), env, env.tasks("test", 28), batch_size=4 if name == "scienceworld" else 28)[0].success for which in ("teacher", "student_small"))
    assert teacher > student + .2


def test_everything_an_unseen_game_says_is_in_the_vocabulary(env):
    tokenizer = load_pocket("teacher").tokenizer
    for task in env.tasks("test", 20):
        text = env.reset(options=dict(task=task))[0]
        assert not [t for t in tokenizer.tokenize(text) if t.startswith("<0x")]
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_build_makes_everything_from_nothing_and_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    tiny = dict(hidden=32, layers=1, heads=1, kv_heads=1, mlp=32, demonstrations=12, updates=3, tokens=1024, lr=1e-3)
    recipe = POCKET["alfworld"]
    monkeypatch.setitem(pocket.POCKET, "alfworld", replace(recipe, vocabulary=[({}, 60)], sizes=dict(student=replace(recipe.sizes["student"], **tiny), teacher=replace(recipe.sizes["teacher"], **tiny, recovery=2))))
    first = build(folder=tmp_path, test_episodes=2, compiled=False)
    assert set(first["models"]) == {"teacher", "student"}
    weights = (tmp_path / "teacher" / "model.safetensors").read_bytes()
    partial = dict(first, models={"student": first["models"]["student"]})
    (tmp_path / "build.json").write_text(json.dumps(partial))           # as if it had been stopped before the teacher was done
    again = build(folder=tmp_path, test_episodes=2, compiled=False)
    assert again["models"]["teacher"]["final_loss"] == first["models"]["teacher"]["final_loss"]
    assert (tmp_path / "teacher" / "model.safetensors").read_bytes() == weights
    load_pocket("student", folder=tmp_path)


def test_a_build_that_was_stopped_within_a_training_goes_on_there(tmp_path, monkeypatch):
    "Stopped between two updates of the second training: the models are those of a build that was never stopped, and nothing is done twice."
    tiny = dict(hidden=32, layers=1, heads=1, kv_heads=1, mlp=32, demonstrations=12, updates=50, recovery=60, tokens=512, lr=1e-3)
    recipe = POCKET["alfworld"]
    monkeypatch.setitem(pocket.POCKET, "alfworld", replace(recipe, vocabulary=[({}, 60)], sizes=dict(teacher=replace(recipe.sizes["teacher"], **tiny))))
    whole, stopped = tmp_path/"whole", tmp_path/"stopped"
    build(folder=whole, test_episodes=2, compiled=False)
    step, count = pocket.MuonAdamW.step, [0]
    def interrupted(self):
        count[0] += 1
        if count[0] == 105: raise KeyboardInterrupt          # 50 updates of the first training, 54 of the second
        step(self)
    monkeypatch.setattr(pocket.MuonAdamW, "step", interrupted)
    with pytest.raises(KeyboardInterrupt): build(folder=stopped, test_episodes=2, compiled=False)
    for name in ("demonstrations", "disturbed_demonstrations"): monkeypatch.setattr(pocket, name, None)      # they lie there
    build(folder=stopped, test_episodes=2, compiled=False)
    assert count[0] == 105 + 10
    assert (stopped/"teacher"/"model.safetensors").read_bytes() == (whole/"teacher"/"model.safetensors").read_bytes()
    assert {p.name for p in stopped.iterdir()} == {p.name for p in whole.iterdir()} == {"build.json", "teacher"}


def test_a_model_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="choose one of student, student_small, teacher"): load_pocket("professor")
    with pytest.raises(ValueError, match="guided-opd pocket build --env scienceworld"): load_pocket("teacher", "scienceworld", tmp_path)


def test_demo_runs_and_writes_its_report(tmp_path):
    run = tmp_path / "demo"
    command = [sys.executable, "-m", "guided_opd.cli", "demo", "--run", str(run), "--steps", "2", "--episodes", "4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "| guided | greedy |" in done.stdout and str(run / "report.html") in done.stdout
    assert (run / "report.html").stat().st_size > 100_000
    table = json.loads((run / "comparison.json").read_text())["table"]
    assert {r["method"] for r in table} == {"teacher", "cold start", "opd", "guided"}
    again = subprocess.run(command, capture_output=True, text=True, timeout=300)     # everything is done already
    assert again.returncode == 0 and done.stdout.split("| method")[1].split("\n\n")[0] == again.stdout.split("| method")[1].split("\n\n")[0]


def test_a_shop_is_learned_in_several_catalogues_and_its_ids_are_words(tmp_path, monkeypatch):
    recipe, seen = POCKET["webshop"], []
    tiny = dict(hidden=32, layers=1, heads=1, kv_heads=1, mlp=32, updates=2, tokens=1024, lr=1e-3, recovery=0)
    home = dict(size=30, per_page=2)
    there = len(make_env("webshop", **home).tasks("train"))
    monkeypatch.setitem(pocket.POCKET, "webshop", replace(recipe, settings=home, elsewhere=(dict(seed=1),), vocabulary=[(dict(home, seed=s), 20) for s in (0, 1)],
        sizes=dict(teacher=replace(recipe.sizes["teacher"], **tiny, demonstrations=there + 3))))
    real = pocket.imitate
    monkeypatch.setattr(pocket, "imitate", lambda model, demos, *a, **kw: seen.extend(demos) or real(model, demos, *a, **kw))
    build("webshop", tmp_path, test_episodes=2, compiled=False)
    assert len(seen) == there + 3 and all(t.success for t in seen)
    shown = lambda t: {w for u in t.turns for w in u.observation.split() if w.startswith("GEN")}
    tokenizer = load_pocket("teacher", "webshop", tmp_path).tokenizer
    text = "Page 1 (Total results: 24) [SEP] GEN0000020 [SEP] click[gen0000020]"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert {"▁[SEP]", *(f"▁{w}" for w in shown(seen[0]))} <= set(tokenizer.get_vocab()) and shown(seen[0])


def test_reading_trains_on_what_the_environment_says(env):
    "With `reading` the loss on observations falls too; without it the same updates leave it high."
    words = pocket.pocket_tokenizer(pocket.environment_texts(env, env.tasks("train", 4)))
    demos = pocket.demonstrations(env, words, env.tasks("train", 4))
    def surprise(reading):
        size = pocket.PocketSize(32, 1, 1, 1, 64, demonstrations=4, updates=25, tokens=1024, lr=1e-2, reading=reading)
        model = pocket.pocket_model(size, words)
        said = pocket.imitate(model, demos, size)[-1]
        ids = torch.tensor([words.encode(demos[0].turns[0].observation)])
        with torch.no_grad(): return said, torch.nn.functional.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:]).item()
    (with_, read), (without, unread) = surprise(.5), surprise(0.)
    assert read < .7*unread and with_ < 4 and without < 4, (with_, read, without, unread)
