"Training that is killed, cut off, interrupted or fed nonsense: what was saved stays whole, and going on gives the same numbers."
import json, os, resource, signal, time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import TOK, Child, Corridor, policy

from guided_opd import runfolder as module
from guided_opd.compare import evaluate_cell
from guided_opd.envs.base import WorkerDied
from guided_opd.losses import token_weights
from guided_opd.schedule import METHODS, adaptive, constant
from guided_opd.trainer import GuidedOPD, GuidedOPDConfig, NaNLossError, atomic_folder, checkpoints, read_jsonl
from guided_opd.trajectory import read_trajectories

SMALL = dict(steps=6, rollouts_per_step=4, lr=1e-2, warmup_steps=2, eval_every=3, eval_episodes=2, save_every=2, keep_trajectories=4, batch_size=3, max_tokens=600)

def lm(seed=0, name="student", **kw): return policy(seed, name, eos=None, **dict(dict(max_new_tokens=4), **kw))

def training(run, student=None, teacher=None, env=None, schedule=None, **settings):
    return GuidedOPD(student or lm(), teacher or lm(1, "teacher"), env or Corridor(max_turns=4), run, schedule=schedule, **{**SMALL, **settings})

def fit(run, steps=None, **kw): t = training(run, **kw); t.fit(steps, progress=False); return t

def curve(run): return [{k: v for k, v in m.items() if not k.startswith(("seconds", "cache"))} for m in read_jsonl(run/"metrics.jsonl")]

def weights(t): return {k: v.clone() for k, v in t.student.model.state_dict().items()}

def same_weights(a, b): return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)

def files(run): return {str(p.relative_to(run)): p.read_bytes() for p in sorted((run/"checkpoints").rglob("*")) if p.is_file()}

def same_run(a, b):
    "Same curve, trajectories, and newest checkpoint to the bit."
    assert curve(a) == curve(b)
    assert (a/"trajectories.jsonl").read_bytes() == (b/"trajectories.jsonl").read_bytes()
    x, y = checkpoints(a)[-1], checkpoints(b)[-1]
    assert x.name == y.name and [p.name for p in checkpoints(a)] == [p.name for p in checkpoints(b)]
    for f in sorted((x/"student").iterdir()): assert f.read_bytes() == (y/"student"/f.name).read_bytes(), f.name
    assert (x/"state.json").read_text() == (y/"state.json").read_text()
    p, q = (torch.load(d/"optimiser.pt", weights_only=True)["optimiser"] for d in (x, y))
    for part in [()] if "state" in p else [(k,) for k in p]:      # Muon and its AdamW have a state each
        a, b = (o[part[0]]["state"] if part else o["state"] for o in (p, q))
        assert a and all(torch.equal(v[n], b[k][n]) for k, v in a.items() for n in v)

@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    "A run that nothing happened to."
    run = tmp_path_factory.mktemp("straight")
    start = time.monotonic()
    fit(run)
    return SimpleNamespace(run=run, seconds=time.monotonic() - start)

def dying(where, name, at):
    "kill -9 at the `at`-th call of a function."
    real, calls = getattr(where, name), []
    def f(*a, **kw):
        calls.append(1)
        if len(calls) == at: os.kill(os.getpid(), signal.SIGKILL)
        return real(*a, **kw)
    setattr(where, name, f)

def test_a_run_leaves_what_it_says(straight):
    run = straight.run
    rows = read_jsonl(run/"metrics.jsonl")
    assert [r["step"] for r in rows] == list(range(7)) and "loss" not in rows[0]
    assert [r["step"] for r in rows if "eval_success" in r] == [0, 3, 6]
    for r in rows[1:]:
        assert {"loss", "beta", "kl_student", "kl_teacher", "success", "score", "turns", "invalid", "student_tokens", "teacher_tokens", "grad_norm", "lr", "seconds_rollout", "seconds_score", "seconds_update"} <= r.keys()
    assert [r["beta"] for r in rows[1:]] == sorted([r["beta"] for r in rows[1:]], reverse=True) and rows[1]["beta"] == 1 and rows[-1]["beta"] == 0
    assert [p.name for p in checkpoints(run)] == ["step_000004", "step_000006"], "the two newest are kept"
    config = json.loads((run/"config.json").read_text())
    assert config["config"]["lr"] == SMALL["lr"] and config["schedule"]["name"] == "cosine" and config["env"]["name"] == "Corridor" and config["versions"]["torch"]
    ts = list(read_trajectories(run/"trajectories.jsonl"))
    assert [t.step for t in ts] == [i for i in range(6) for _ in range(4)] and all(turn.measures for t in ts for turn in t.turns)

def test_killed_again_and_again_it_gives_the_same_numbers(straight, tmp_path):
    rng, run = np.random.default_rng(int(time.time())), tmp_path/"run"
    dooms = [(os, "replace", 1), (module, "_fsync", 2), (torch, "save", 1), (os, "rename", 1), (os, "rename", 2), (torch, "save", 2), (module.shutil, "rmtree", 5), None, None]
    for doom in dooms:
        def work():
            if doom: dying(*doom)
            fit(run)
        child = Child(work, tmp_path/"log")
        if not doom: time.sleep(rng.uniform(.05, straight.seconds)); child.kill()
        assert child.wait() in ((-9,) if doom else (-9, 0)) or doom == (module.shutil, "rmtree", 5), (doom, child.text)
        for c in checkpoints(run): assert {"student", "optimiser.pt", "state.json"} <= {p.name for p in c.iterdir()} or c != checkpoints(run)[-1], "the newest checkpoint is whole"
        if (run/"metrics.jsonl").exists():     # and the line that was being written is torn
            for name, torn in (("metrics.jsonl", b'{"step": 3, "be'), ("trajectories.jsonl", '{"version":1,"task":"ö'.encode()[:-1])):
                with open(run/name, "ab") as f: f.write(torn)
    assert Child(lambda: fit(run), tmp_path/"log").wait() == 0
    same_run(run, straight.run)

def test_killed_while_the_first_numbers_are_written(straight, tmp_path):
    assert Child(lambda: (dying(json, "dumps", 3), fit(tmp_path)), tmp_path/"log").wait() == -9
    (tmp_path/"metrics.jsonl").write_text('{"step": 0, "eval_succ')
    fit(tmp_path)
    same_run(tmp_path, straight.run)

def test_stopping_and_going_on_in_one_process_is_the_same_too(straight, tmp_path):
    t = training(tmp_path)
    for steps in (0, 1, 3, None): t.fit(steps, progress=False); assert t.step == (6 if steps is None else steps)
    same_run(tmp_path, straight.run)
    t.fit(progress=False)       # a finished run has nothing to do
    assert fit(tmp_path).step == 6
    same_run(tmp_path, straight.run)

@pytest.mark.parametrize("broken", ["append_trajectories", "summarise"])
def test_a_step_that_broke_off_is_done_anew_in_the_same_process(straight, tmp_path, monkeypatch, broken):
    "Its update may have been made, its numbers written, or not: going on begins at the checkpoint, as a new process would."
    import guided_opd.trainer as trainer
    run, real, calls = tmp_path/"run", getattr(trainer, broken), []
    def full(*a):
        calls.append(1)
        if len(calls) in (1, 5): raise OSError("No space left on device")
        return real(*a)
    t = training(run)
    t._open_run(); t._log(dict(step=0, **t._evaluate()))
    monkeypatch.setattr(trainer, broken, full)
    with pytest.raises(OSError): t.fit(progress=False)
    with pytest.raises(RuntimeError, match="broken off halfway.*load the student anew"): t.fit(progress=False)
    t = training(run)
    with pytest.raises(OSError): t.fit(progress=False)
    assert 0 < t.step < 6
    t.fit(progress=False)
    same_run(run, straight.run)

def test_a_part_of_a_run_is_saved_at_its_end(tmp_path):
    fit(tmp_path, 3, save_every=5)
    assert [p.name for p in checkpoints(tmp_path)] == ["step_000003"]
    assert fit(tmp_path, 4, save_every=5).step == 4 and [r["step"] for r in read_jsonl(tmp_path/"metrics.jsonl")] == [0, 1, 2, 3, 4]

def test_a_run_with_muon_goes_on_from_its_checkpoint(tmp_path):
    "As the pocket recipes train: stopped after half, the rest in a new process' trainer, bit by bit the run that never stopped."
    whole = training(tmp_path/"whole", optimiser="muon"); whole.fit(progress=False)
    training(tmp_path/"parts", optimiser="muon").fit(3, progress=False)
    rest = training(tmp_path/"parts", optimiser="muon"); rest.fit(progress=False)
    assert same_weights(weights(whole), weights(rest))
    same_run(tmp_path/"parts", tmp_path/"whole")

@pytest.mark.parametrize("room", ["weights", "optimiser"])
def test_a_full_disk_leaves_the_last_checkpoint_whole(straight, tmp_path, room):
    run = tmp_path/"run"
    def work():
        t = training(run)
        t.fit(3, progress=False)
        newest = checkpoints(run)[-1]
        size = (newest/"student"/"model.safetensors").stat().st_size
        assert (newest/"optimiser.pt").stat().st_size > 1.5*size
        limit = size//2 if room == "weights" else size + 5000
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))   # from here on every larger file fails in the kernel
        try: t.fit(progress=False)
        except OSError as e: print("ERROR", e); raise SystemExit(3)
    child = Child(work, tmp_path/"log")
    assert child.wait() == 3, child.text
    error = next(l for l in child.text.splitlines() if l.startswith("ERROR"))
    assert "step_000004" in error and "File too large" in error and "step_000003" in error and "goes on" in error and len(error) < 400
    assert sorted(p.name for p in (run/"checkpoints").iterdir()) == ["step_000002", "step_000003"], "nothing half-written is left"
    t = training(run); t._open_run()
    assert t.step == 3
    fit(run)
    same_run(run, straight.run)

@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_nan_stops_the_run_and_saves_nothing(tmp_path, what):
    t = training(tmp_path, save_every=1)
    def poison(metrics):
        if metrics["step"] != 2: return
        p = t.parameters[0]
        if what == "loss": p.data[:] = float("nan")
        else: p.register_hook(lambda g: g*float("nan"))
        seen.update(files=files(tmp_path), metrics=(tmp_path/"metrics.jsonl").read_bytes(), weights=weights(t))
    seen = {}
    with pytest.raises(NaNLossError, match=f"The {what} of step 2 is not a finite number.*last checkpoint.*Lower lr"): t.fit(progress=False, on_step=poison)
    assert files(tmp_path) == seen["files"] and (tmp_path/"metrics.jsonl").read_bytes() == seen["metrics"] and t.step == 2
    if what == "gradient": assert same_weights(weights(t), seen["weights"]), "no update was made"
    again = training(tmp_path, save_every=1); again.fit(3, progress=False)
    assert again.step == 3 and all(torch.isfinite(p).all() for p in again.parameters)

class Slow(Corridor):
    name = "Corridor"
    def step(self, action): time.sleep(.02); return super().step(action)

def test_ctrl_c_finishes_the_step_saves_and_says_how_to_go_on(straight, tmp_path):
    run = tmp_path/"run"
    child = Child(lambda: training(run, env=Slow(max_turns=4)).fit(on_step=lambda m: print("did", m["step"])), tmp_path/"log")
    child.wait_for("did 3"); child.kill(signal.SIGINT)
    assert child.wait() == 0, child.text
    done = read_jsonl(run/"metrics.jsonl")[-1]["step"]
    assert checkpoints(run)[-1].name == f"step_{done:06d}" and done in (3, 4, 5)
    assert "Finishing this step, then saving" in child.text and f"Stopped after step {done}; the same command goes on" in child.text and "Traceback" not in child.text
    fit(run)
    assert curve(run) == curve(straight.run) and checkpoints(run)[-1].name == "step_000006"

def test_a_second_ctrl_c_stops_at_once(tmp_path):
    run = tmp_path/"run"
    class Slower(Corridor):
        name = "Corridor"
        def step(self, action): print("a turn"); time.sleep(1); return super().step(action)
    child = Child(lambda: training(run, env=Slower(max_turns=4), eval_every=0, save_every=1).fit(on_step=lambda m: print("did", m["step"])), tmp_path/"log")
    child.wait_for("a turn"); child.kill(signal.SIGINT); child.wait_for("Finishing this step")
    before, start = files(run), time.monotonic()
    child.kill(signal.SIGINT)
    assert child.wait() == 130 and time.monotonic() - start < 8 and files(run) == before

def test_a_stopped_step_is_saved_once(tmp_path):
    "Ctrl-C just after a checkpoint must not put that checkpoint at risk."
    t = fit(tmp_path, 2)
    newest = checkpoints(tmp_path)[-1]
    inode = newest.stat().st_ino
    t.save()
    assert newest.stat().st_ino == inode and [p.name for p in checkpoints(tmp_path)] == ["step_000002"]

def test_another_setting_in_the_same_folder_is_refused(straight):
    before = {p: p.stat().st_mtime_ns for p in straight.run.rglob("*")}
    class Other(Corridor): name, settings = "Corridor", dict(doors=2)
    for kw, why in ((dict(lr=2e-2), "another config .lr: 0.01 there, 0.02 here"), (dict(method="opd"), "method: 'guided' there, 'opd' here"), (dict(schedule=constant(.5)), "another schedule"), (dict(env=Other(max_turns=4)), "another env .*doors"),
                    (dict(student=lm(hidden=64)), "another student"), (dict(student=lm(max_new_tokens=5)), "another student .max_new_tokens: 4 there, 5 here"), (dict(teacher=lm(1, "teacher", layers=3)), "another teacher")):
        with pytest.raises(ValueError, match=f"{why}.*another folder"): fit(straight.run, **kw)
    assert {p: p.stat().st_mtime_ns for p in straight.run.rglob("*")} == before

def test_a_run_that_did_not_write_down_what_is_written_now_goes_on(straight, tmp_path):
    fit(tmp_path, 2)
    told = json.loads((tmp_path/"config.json").read_text())
    del told["config"]["mixing"], told["student"]["max_new_tokens"], told["student"]["max_context"]
    (tmp_path/"config.json").write_text(json.dumps(told))
    fit(tmp_path)
    assert curve(tmp_path) == curve(straight.run)

@pytest.mark.parametrize("wrapped", [False, True])
def test_lora_trains_the_adapters_only_and_resumes(tmp_path, wrapped):
    from peft import LoraConfig, PeftModel, get_peft_model
    def start(run):
        student = lm()
        if wrapped: torch.manual_seed(0); student.model = get_peft_model(student.model, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
        return training(run, student=student, steps=4, save_every=1, eval_every=0, lora_rank=0 if wrapped else 2)
    base, teacher = weights(SimpleNamespace(student=lm())), weights(SimpleNamespace(student=lm(1)))
    t = start(tmp_path/"a"); t.fit(progress=False)
    start(tmp_path/"b").fit(2, progress=False); resumed = start(tmp_path/"b"); resumed.fit(progress=False)
    same_run(tmp_path/"a", tmp_path/"b")
    assert same_weights(weights(t), weights(resumed))
    after = {k.removeprefix("base_model.model.").replace(".base_layer", ""): v for k, v in weights(t).items() if "lora_" not in k}
    assert same_weights(after, base), "LoRA leaves the base weights alone"
    assert any(v.any() for k, v in weights(t).items() if "lora_B" in k) and same_weights(t.teacher.model.state_dict(), teacher)
    assert not any(p.requires_grad or p.grad is not None for p in t.teacher.model.parameters())
    loaded = PeftModel.from_pretrained(lm().model, checkpoints(tmp_path/"a")[-1]/"student")
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad(): assert torch.equal(loaded(ids).logits, t.student.model(ids).logits)

def test_a_run_begun_before_a_setting_existed_goes_on(straight, tmp_path):
    fit(tmp_path, 4)
    config = json.loads((tmp_path/"config.json").read_text())
    for k in ("mixing", "target_drift", "cache_gib"): del config["config"][k]
    (tmp_path/"config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="another config .mixing: 'turn' there, 'trajectory' here"): fit(tmp_path, mixing="trajectory")
    fit(tmp_path)
    same_run(tmp_path, straight.run)

def test_a_checkpoint_that_a_gpu_wrote_goes_on_here(straight, tmp_path, monkeypatch):
    "Its tensors say that they lay on a GPU, as torch writes it there; read as they are, they are refused on a machine without one."
    tags = []
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: tags.append("cuda:0") or tags[-1])
    fit(tmp_path, 4)
    monkeypatch.undo()
    assert tags
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="map_location"): torch.load(checkpoints(tmp_path)[-1]/"optimiser.pt", weights_only=True)
    again = fit(tmp_path)
    assert {v.device.type for s in again.optimiser.state.values() for v in s.values()} == {"cpu"}
    same_run(tmp_path, straight.run)

def half(run, **kw):
    "A float16 student with float32 adapters, one step of 4 rollouts; the teacher acts, so that every kind of student sees the same tokens."
    student = lm(); student.model.to(torch.float16)
    return training(run, student=student, method="sft", lora_rank=2, eval_every=0, **kw)

def test_float16_keeps_small_gradients_by_a_scale_and_its_adapters_in_float32(tmp_path):
    t = half(tmp_path/"half", steps=3)
    ts = t.roll_out(0)
    assert {p.dtype for p in t.parameters} == {torch.float32} and t.student.lm.dtype == torch.float16
    exact = training(tmp_path/"full", method="sft", lora_rank=2)
    def grads(t, scale=None):
        if scale: t.scaler.update(scale)
        for g in t.optimiser.param_groups: g["lr"] = 0.
        t.lr_at = lambda step: 0.
        t.update([ts[0]], 0)
        return torch.cat([p.grad.flatten() for p in t.parameters])
    weights = t.config.normalisation
    want, scaled, bare = grads(exact), grads(t), grads(t, 2.**-10)
    near = lambda x: torch.nn.functional.cosine_similarity(x, want, dim=0)
    assert near(scaled) > .999 and (bare == 0).sum() > (scaled == 0).sum() and near(scaled) > near(bare)

def test_a_scale_that_overflows_is_halved_and_no_update_is_lost(tmp_path):
    t = half(tmp_path/"a", steps=2); t.scaler.update(2.**60); t.fit(progress=False)
    u = half(tmp_path/"b", steps=2); u.fit(progress=False)
    assert 1 < t.scaler.get_scale() < 2.**60
    for x, y in zip(curve(tmp_path/"a")[1:], curve(tmp_path/"b")[1:], strict=True): assert x["loss"] == pytest.approx(y["loss"], rel=1e-2) and x["grad_norm"] == pytest.approx(y["grad_norm"], rel=5e-2)
    v = half(tmp_path/"a", steps=2); v._open_run()
    assert v.step == 2 and v.scaler.get_scale() == t.scaler.get_scale(), "the scale is part of a checkpoint"
    with pytest.raises(ValueError, match="float16.*lora_rank=16"): student = lm(); student.model.half(); training(tmp_path/"c", student=student)

def test_a_checkpoint_is_a_plain_transformers_model(straight):
    from transformers import AutoModelForCausalLM, AutoTokenizer
    t = training(straight.run); t._open_run()
    folder = checkpoints(straight.run)[-1]/"student"
    model, tok = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad(): assert torch.equal(model.eval()(ids).logits, t.student.model(ids).logits)
    assert tok.get_vocab() == TOK.get_vocab() and tok.chat_template == TOK.chat_template and tok.eos_token_id == TOK.eos_token_id
    assert not same_weights(weights(t), weights(SimpleNamespace(student=lm()))) and same_weights(t.teacher.model.state_dict(), weights(SimpleNamespace(student=lm(1))))

@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_its_actors_and_its_turns(tmp_path, method):
    t = training(tmp_path, method=method, steps=5, eval_every=0, env=Corridor(max_turns=6), batch_size=4)
    t.fit(progress=False)
    ts, rows = list(read_trajectories(tmp_path/"trajectories.jsonl")), read_jsonl(tmp_path/"metrics.jsonl")[1:]
    who = lambda t: {turn.actor for turn in t.turns}
    if method == "sft": assert all(who(x) == {"teacher"} for x in ts) and all(r["student_tokens"] == 0 and r["kl_student"] is None and r["beta"] == 1 for r in rows)
    if method == "opd": assert all(who(x) == {"student"} for x in ts) and all(r["teacher_tokens"] == 0 and r["kl_teacher"] is None and r["beta"] == 0 for r in rows)
    if method == "guided":
        assert all(who(x) == {"teacher"} for x in ts if x.step == 0) and all(who(x) == {"student"} for x in ts if x.step >= 4) and {a for x in ts for a in who(x)} == {"student", "teacher"}
    if method == "tcod_f2b":
        ks = [t.config.growing_turns(s, 6) for s in range(5)]
        assert ks == [1, 2, 3, 4, 6] and all(who(x) == {"student"} and len(x.turns) <= ks[x.step] and (len(x.turns) == ks[x.step] or x.ended == "environment") for x in ts)
    if method == "tcod_b2f":
        for x in ts:
            rooms, k = int(x.task.split("/")[1]) % 10, t.config.growing_turns(x.step, 6)
            n = max(0, min(rooms, 6) - k)
            assert [turn.actor for turn in x.turns] == ["expert"]*n + ["student"]*(len(x.turns) - n) and len(x.turns) > n
        assert {"expert", "student"} == {a for x in ts for a in who(x)}
        fit(tmp_path/"short", method=method, max_turns=3, eval_every=0, env=Corridor(max_turns=9))
        assert {a for x in read_trajectories(tmp_path/"short"/"trajectories.jsonl") if x.step == 5 for a in who(x)} == {"student"}, "the whole episode is the student's at last, also where the expert needs more turns"
    for r in rows:
        mine = [x for x in ts if x.step == r["step"] - 1]
        assert (r["student_tokens"], r["teacher_tokens"]) == (sum(x.tokens("student") for x in mine), sum(x.tokens("teacher") for x in mine)), "expert tokens are never trained"
        of = lambda actor, k: [v for x in mine for turn in x.turns if turn.actor == actor for v in turn.measures[k]]
        tokens = of("student", "reverse_kl") + of("teacher", "forward_kl")
        assert r["loss"] == pytest.approx(np.mean(tokens), abs=2e-5), "the loss is what the viewer shows"

def grads(run, ts, **kw):
    t = training(run, **kw)
    metrics = t.update(ts, 0)
    return metrics, [p.grad.clone() for p in t.parameters]

@pytest.mark.parametrize("kw", [{}, dict(history="window", window=1), dict(normalisation="turn"), dict(student_turns="jsd", teacher_turns="none")], ids=str)
def test_accumulating_gradients_is_the_same_update(tmp_path, kw):
    ts = training(tmp_path, schedule=constant(.5), **kw).roll_out(0)
    (one, a), (many, b) = (grads(tmp_path, ts, max_tokens=m, **kw) for m in (10**6, 1))
    for x, y in zip(a, b): torch.testing.assert_close(x, y, atol=2e-6, rtol=1e-3)
    assert one["loss"] == pytest.approx(many["loss"], rel=1e-4) and one["student_tokens"] == many["student_tokens"] and any(x.any() for x in a)
    if kw.get("normalisation") == "turn":
        turns = [turn for t in ts for turn in t.turns]
        per_turn = [np.mean(turn.measures["reverse_kl" if turn.actor == "student" else "forward_kl"]) for turn in turns]
        assert one["loss"] == pytest.approx(np.mean(per_turn), abs=2e-5)

def test_a_step_with_nothing_to_train_on_is_no_update(tmp_path):
    t = training(tmp_path, student=lm(max_context=10), eval_every=0)      # no task fits this context
    before = weights(t)
    t.fit(2, progress=False)
    rows = read_jsonl(tmp_path/"metrics.jsonl")
    assert [r["loss"] for r in rows[1:]] == [0, 0] and rows[1]["kl_student"] is None and same_weights(before, weights(t))

def test_memory_that_runs_out_halves_the_micro_batch_and_loses_nothing(tmp_path, capfd):
    "A student whose memory holds 250 tokens or 2 episodes at a time (its model raises the error of a full GPU) trains as one with plenty."
    def small_memory(t):
        def check(module, args, kw):
            ids = kw["input_ids"]
            if len(ids) > 2 or (t.student.model.training and ids.numel() > 250): raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has 15 GiB.")
        t.student.lm.get_decoder().register_forward_pre_hook(check, with_kwargs=True)
        late = []
        def backward_too(module, args, out):                    # and once in the middle of a backward pass
            if t.student.model.training and not late: late.append(1); out.last_hidden_state.register_hook(lambda g: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory")))
        t.student.lm.get_decoder().register_forward_hook(backward_too)
    plenty, scarce = (training(tmp_path/n, batch_size=4, max_tokens=4000, steps=3) for n in ("plenty", "scarce"))
    small_memory(scarce)
    for t in (plenty, scarce): t.fit(progress=False)
    said = "".join(capfd.readouterr())
    assert "Out of memory in the roll-out: batch_size is 2 from here on instead of 4" in said or "Out of memory in the evaluation: batch_size is 2" in said
    assert "Out of memory in the update: max_tokens is " in said and "nothing was lost" in said and scarce.max_tokens <= 250 and scarce.batch_size <= 2
    for a, b in zip(curve(tmp_path/"plenty"), curve(tmp_path/"scarce")):
        for k in a: assert a[k] == (b[k] if a[k] is None else pytest.approx(b[k], rel=1e-3, abs=1e-5)), k
    t = training(tmp_path/"never")
    t.student.lm.get_decoder().register_forward_pre_hook(lambda *a: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory")))
    with pytest.raises(RuntimeError, match="batch_size cannot go below 1.*max_turns.*4 bits"): t.fit(progress=False)

def test_the_cache_keeps_within_its_bound_and_the_curve_is_the_same(tmp_path, capfd):
    plenty, scarce = (training(tmp_path/str(g), batch_size=4, steps=2, eval_every=0, cache_gib=g) for g in (0., 400*256/2**30))    # 400 tokens of 256 bytes
    assert scarce.student.token_bytes == 256
    for t in (plenty, scarce): t.fit(progress=False)
    a, b = (read_jsonl(t.run/"metrics.jsonl")[1:] for t in (plenty, scarce))
    assert scarce.batch_size < 4 and max(r["cache_gib"] for r in b) <= 2*scarce.config.cache_gib < max(r["cache_gib"] for r in a), "of student and teacher"
    assert "Out of memory in the roll-out: batch_size is" in "".join(capfd.readouterr())
    for x, y in zip(a, b): assert x["loss"] == pytest.approx(y["loss"], rel=1e-3) and x["student_tokens"] == y["student_tokens"]
    training(tmp_path/"0.0", batch_size=2, steps=2, eval_every=0)._open_run()         # memory's settings may differ when a run goes on

def test_an_adaptive_schedule_goes_on_where_it_was(tmp_path):
    make = lambda: adaptive(target_success=.3, start=.9, gain=.5, smoothing=.5)
    env = lambda: Corridor(max_turns=3)
    fit(tmp_path/"a", schedule=make(), env=env())
    fit(tmp_path/"b", 4, schedule=make(), env=env())
    again = training(tmp_path/"b", schedule=make(), env=env()); again._open_run()
    assert again.step == 4 and again.schedule.current != .9
    again.fit(progress=False)
    same_run(tmp_path/"a", tmp_path/"b")
    assert len({r["beta"] for r in curve(tmp_path/"a")[1:]}) > 3

class Mortal(Corridor):
    "An engine that dies in the twelfth step that it takes in all, in training."
    steps = 0
    def step(self, action):
        Mortal.steps += 1
        if Mortal.steps == 12: raise WorkerDied("The engine is gone.")
        return super().step(action)

def test_an_engine_that_dies_is_counted_and_changes_nothing_else(straight, tmp_path):
    Mortal.steps = 0
    with pytest.warns(UserWarning, match="the episode is begun anew"): fit(tmp_path, env=Mortal(max_turns=4))
    a, b = curve(straight.run), curve(tmp_path)
    counted = lambda rows: [m.pop("restarts") for m in rows if "loss" in m]
    assert counted(b) == [1, 0, 0, 0, 0, 0] and counted(a) == [0]*6
    assert a == b and (tmp_path/"trajectories.jsonl").read_text().replace("Mortal", "Corridor") == (straight.run/"trajectories.jsonl").read_text()

def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        with atomic_folder(tmp_path/"x") as f: (f/"a").write_text("half"); raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    (tmp_path/"x.tmp").mkdir(); (tmp_path/"x.tmp"/"old").write_text("from a kill")
    with atomic_folder(tmp_path/"x") as f: (f/"sub").mkdir(); (f/"sub"/"a").write_text("whole"); assert not (tmp_path/"x").exists()
    assert [str(p.relative_to(tmp_path)) for p in sorted(tmp_path.rglob("*"))] == ["x", "x/sub", "x/sub/a"]

def test_a_damaged_configuration_is_named(straight, tmp_path):
    (tmp_path/"config.json").write_text('{"config": {')
    with pytest.raises(ValueError, match="config.json is not whole JSON.*another folder"): fit(tmp_path)

def test_a_damaged_metrics_file_is_named_by_line(tmp_path):
    f = tmp_path/"m.jsonl"
    f.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(ValueError, match="m.jsonl, line 2"): read_jsonl(f)
    f.write_text('{"step": 1}\n{"st')
    assert read_jsonl(f) == [{"step": 1}] and read_jsonl(tmp_path/"none") == []

@pytest.mark.parametrize("wrong, why", [(dict(method="dpo"), "opd, guided, sft, tcod_f2b, tcod_b2f"), (dict(student_turns="l2"), "student_turns is 'l2'"), (dict(student_turns="cross_entropy"), "student_turns='cross_entropy' does not bring.*reverse_kl"), (dict(teacher_turns="k1"), "teacher_turns='k1' does not bring.*forward_kl"), (dict(steps=0), "steps is 0"), (dict(lr=0.), "lr is 0.0"), (dict(lr=float("nan")), "lr is nan"),
    (dict(temperature=0.), "reverse KL is an expectation"), (dict(normalisation="mean"), "'token' or 'turn'"), (dict(history="chat"), "'transcript' or 'window'"), (dict(max_turns=0), "max_turns is 0"), (dict(ratio=1.5), "ratio is 1.5"),
    (dict(lora_rank=-1), "lora_rank is -1"), (dict(eval_every=-1), "eval_every is -1"), (dict(window=-1), "window is -1"), (dict(final_lr=2.), "final_lr is 2"), (dict(keep_trajectories=-1), "keep_trajectories is -1")], ids=str)
def test_wrong_settings_are_refused_with_a_reason(wrong, why):
    with pytest.raises(ValueError, match=why): GuidedOPDConfig(**wrong)

def test_weights_of_bfloat16_are_warned_of_and_missing_tasks_refused(tmp_path):
    student = lm(); student.model.bfloat16()
    with pytest.warns(UserWarning, match="bfloat16, in which small updates are rounded away.*float32"): training(tmp_path, student)
    class Bare(Corridor):
        def tasks(self, split, n=None): return [] if split == self.bare else super().tasks(split, n)
    for bare, kw in (("train", dict(eval_every=0)), ("valid", {})):
        env = Bare(); env.bare = bare
        with pytest.raises(ValueError, match=f"no {bare} tasks"): training(tmp_path, env=env, **kw)
    training(tmp_path, env=env, eval_every=0)

def test_different_tokenizers_are_refused(tmp_path):
    from guided_opd.chat import word_tokenizer
    with pytest.raises(ValueError, match="different tokenizers"): training(tmp_path, teacher=lm(1, "teacher", tok=word_tokenizer(["stop", "go"])))
    with pytest.raises(ValueError, match="not both"): GuidedOPD(lm(), lm(1), Corridor(), tmp_path, config=GuidedOPDConfig(), lr=1.)

def test_the_paper_protocol_prompts_anew_each_turn_and_keeps_the_published_limits(tmp_path):
    from guided_opd.envs.base import make_env
    from guided_opd.protocol import protocol
    webshop = make_env("webshop", max_turns=40)
    student, teacher = (policy(s, n, max_context=100_000, eos=None) for s, n in ((0, "student"), (1, "teacher")))
    run = GuidedOPD(student, teacher, webshop, tmp_path, protocol="paper", steps=1, rollouts_per_step=2, eval_every=0)
    t = run.roll_out(0)[0]
    assert t.history == "window" and len(t.turns) == 15, "WebShop's episodes have 15 turns"
    text = student.tokenizer.decode(t.turns[3].prompt_ids)
    assert text.count("expert autonomous agent") == 1 and "Observation 3: " in text and "Observation 1: " not in text and "at step 4 " in text
    assert run.eval_temperature == protocol("paper").eval_temperature == 0.4
    assert torch.isfinite(torch.tensor(run.update([t], 0)["loss"]))
    assert run.examiner.max_turns == 15 and [r["turns"] for r in evaluate_cell(student, webshop, webshop.tasks("test", 2), run.config)] == [15, 15]

def test_a_run_has_one_writer_until_it_ends_or_is_killed(straight, tmp_path):
    refused = lambda: pytest.raises(RuntimeError, match="being trained already.*choose another folder")
    def second(metrics):
        with refused(): fit(tmp_path)
    training(tmp_path).fit(1, progress=False, on_step=second)      # in one process
    slow = Child(lambda: training(tmp_path).fit(progress=False, on_step=lambda m: (print("a step"), time.sleep(60))), tmp_path/"log")
    slow.wait_for("a step")
    with refused(): fit(tmp_path)
    slow.kill(); slow.wait()
    fit(tmp_path)      # the lock went with its process
    same_run(tmp_path, straight.run)
