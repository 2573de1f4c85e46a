"The comparison goes on cell by cell; the command line answers in one line and with the right exit code."
import json, math, os, re, runpy, shutil, signal, subprocess, sys, time

import pytest
import torch
from helpers import Child, Corridor, policy

from guided_opd.cli import main
from guided_opd.compare import Work, compare, evaluate_cell, markdown_table, run_at_once, summarise_rows
from guided_opd.pocket import pocket_tokenizer
from guided_opd.trainer import checkpoints, read_jsonl
from guided_opd.trajectory import read_trajectories
from guided_opd.view import Shelf, by_kind

SETTINGS = dict(steps=2, rollouts_per_step=2, warmup_steps=1, eval_every=1, eval_episodes=2, save_every=1, batch_size=2)
ENV = Corridor(max_turns=3)
def lm(seed=0, name="student"): return policy(seed, name, eos=None, max_new_tokens=3)

def run(folder, methods=("opd", "guided"), seeds=(0, 1), **kw):
    return compare(lm, lm(1, "teacher"), ENV, folder, list(methods), list(seeds), **{**dict(test_tasks=ENV.tasks("test"), settings=SETTINGS), **kw})

def timeless(result): return [{k: v for k, v in r.items() if k != "seconds"} for r in result["rows"]]

def stamps(folder): return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and p.parent != folder}

def test_a_comparison_goes_on_cell_by_cell(tmp_path):
    whole = run(tmp_path/"whole")
    assert [(r["method"], r.get("seed"), r["decoding"]) for r in whole["rows"]] == [(m, s, d) for m, s in [("cold start", 0), ("teacher", 0), ("opd", 0), ("guided", 0), ("opd", 1), ("guided", 1)] for d in ("greedy", "sampled")]
    assert {r["episodes"] for r in whole["rows"]} == {6}
    for folder in (tmp_path/"whole").glob("*/seed_*"): assert checkpoints(folder)[-1].name == "step_000002"
    tokens = {m: [next(r for r in whole["rows"] if r["method"] == m)[k] for k in ("student_tokens", "teacher_tokens")] for m in ("opd", "guided")}
    assert tokens["opd"][1] == 0 < tokens["opd"][0] and tokens["guided"][1] > 0

    parts = tmp_path/"parts"
    run(parts, ["opd"], [0])                      # one cell
    first = stamps(parts)
    def dying():                                  # killed in the second cell
        import guided_opd.compare as module
        real = module.evaluate_cell
        module.evaluate_cell = lambda *a, **kw: os.kill(os.getpid(), 9) if kw["method"] == "guided" else real(*a, **kw)
        run(parts)
    child = Child(dying, tmp_path/"log")
    assert child.wait() == -9, child.text
    trained = stamps(parts/"guided"/"seed_0")
    again = run(parts)
    assert timeless(again) == timeless(whole)
    assert first.items() <= stamps(parts).items(), "a cell that is done is not done again"
    assert {k: v for k, v in trained.items() if "checkpoints" in k or "jsonl" in k}.items() <= stamps(parts/"guided"/"seed_0").items(), "a trained cell is only evaluated"
    before = stamps(parts)
    assert run(parts)["table"] == again["table"] and stamps(parts) == before
    assert json.loads((parts/"comparison.json").read_text())["table"] == again["table"] and (parts/"table.md").read_text(encoding="utf-8").count("\n| guided |") == 2
    for kw, why in ((dict(settings={**SETTINGS, "lr": .5}), "settings"), (dict(test_tasks=ENV.tasks("test", 3)), "test_tasks"), (dict(settings_of=dict(opd=dict(lr=.1))), "settings_of")):
        with pytest.raises(ValueError, match=f"other {why};.*another folder"): run(parts, **kw)
    for models, why in (((lm, policy(1, "teacher", eos=None, hidden=64)), "teacher"), ((lambda: lm(2), lm(1, "teacher")), "student")):
        with pytest.raises(ValueError, match=f"other {why};.*another folder"): compare(*models, ENV, parts, ["opd"], [0], ENV.tasks("test"), SETTINGS)
    assert stamps(parts) == before

class Failing(Corridor):
    "Fails in the first step, in whatever process it is."
    def step(self, action): raise OSError("the door is stuck")

def test_cells_at_once_give_what_one_after_the_other_gives(tmp_path):
    assert timeless(run(tmp_path/"two", seeds=[0], jobs=2)) == timeless(run(tmp_path/"one", seeds=[0]))
    assert "opd" in (tmp_path/"two"/"opd"/"seed_0"/"log.txt").read_text()
    before = stamps(tmp_path/"two")
    run(tmp_path/"two", seeds=[0], jobs=2)
    assert stamps(tmp_path/"two") == before, "what is done is not done again"
    with pytest.raises(RuntimeError, match="ended with exit status 1: OSError: the door is stuck"):
        compare(lm, lm(1, "teacher"), Failing(max_turns=3), tmp_path/"fails", ["opd"], [0], ENV.tasks("test"), SETTINGS, jobs=2)

def test_cells_at_once_save_when_they_are_stopped(tmp_path):
    def training(): run(tmp_path, seeds=[0], settings={**SETTINGS, "steps": 10_000, "save_every": 10_000}, jobs=3)
    child = Child(training, tmp_path/"log.txt")
    logs = [tmp_path/m/"seed_0"/"metrics.jsonl" for m in ("opd", "guided")]
    end = time.monotonic() + 240
    while not all(len(read_jsonl(l)) > 2 for l in logs): assert time.monotonic() < end, child.text; time.sleep(.1)
    child.kill(signal.SIGINT)
    assert child.wait() == 130
    assert "opd, seed 0 and guided, seed 0: each finishes its step and saves." in child.text
    assert all(checkpoints(l.parent) for l in logs)

def _say_who_and_sleep(path): path.write_text(str(os.getpid())); time.sleep(300)

def test_work_that_is_stopped_while_it_begins_says_so_in_its_log(tmp_path):
    def comparison(): run_at_once([Work("asleep", tmp_path/"log.txt", _say_who_and_sleep, (tmp_path/"pid",))], 1)
    parent = Child(comparison, tmp_path/"said")
    parent.wait_for("asleep")        # on the progress bar: its process imports torch now
    parent.kill(signal.SIGINT)
    assert parent.wait(60) == 130
    assert "Traceback" not in parent.text and "KeyboardInterrupt" in (tmp_path/"log.txt").read_text() and not (tmp_path/"pid").exists()

def test_work_ends_with_a_parent_that_is_killed(tmp_path):
    def background(): signal.signal(signal.SIGINT, signal.SIG_IGN); run_at_once([Work("asleep", tmp_path/"log.txt", _say_who_and_sleep, (tmp_path/"pid",))], 1)
    parent = Child(background, tmp_path/"said")
    def wait_until(done):
        end = time.monotonic() + 60
        while not done(): assert time.monotonic() < end, parent.text; time.sleep(.1)
    wait_until(lambda: (tmp_path/"pid").exists() and (tmp_path/"pid").read_text())
    pid = int((tmp_path/"pid").read_text())
    parent.kill(); parent.wait()
    def gone():
        try: os.kill(pid, 0)
        except ProcessLookupError: return True
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] == "Z"
    wait_until(gone)

def test_settings_of_a_method_reach_only_that_method(tmp_path):
    rows = run(tmp_path, seeds=[0], settings_of=dict(guided=dict(lr=.25)))["rows"]
    assert {r["method"]: r.get("lr") for r in rows} == {"cold start": None, "teacher": None, "opd": 1e-3, "guided": .25}

def test_a_setting_that_is_refused_leaves_no_trace(tmp_path):
    with pytest.raises(ValueError, match="lr is -1"): run(tmp_path/"run", seeds=[0], settings={**SETTINGS, "lr": -1.})
    assert not (tmp_path/"run").exists()

def test_testing_on_training_tasks_is_refused(tmp_path):
    with pytest.raises(ValueError, match="1 of the test tasks are training tasks"): run(tmp_path, test_tasks=[*ENV.tasks("test"), "train/3"])
    with pytest.raises(ValueError, match="no method 'dpo'"): run(tmp_path, methods=["dpo"])
    with pytest.raises(ValueError, match="1 episode or more"): run(tmp_path, test_tasks=[])

def test_the_table_has_means_errors_and_gains():
    row = lambda m, s, d, success: dict(method=m, seed=s, decoding=d, episodes=10, success=success, score=success + .1, turns=5., student_tokens=1000, teacher_tokens=0, seconds=60.)
    rows = [row(m, s, d, x) for m, xs in (("opd", (.2, .3, .4)), ("guided", (.3, .5, .4))) for s, x in enumerate(xs) for d in ("greedy", "sampled")]
    rows += [{k: v for k, v in row("teacher", 0, "greedy", .9).items() if "tokens" not in k and k != "seconds"}]
    table = {(r["method"], r["decoding"]): r for r in summarise_rows(rows)}
    g = table["guided", "greedy"]
    assert (g["seeds"], g["episodes"]) == (3, 30) and g["success"] == pytest.approx(.4) and g["success_se"] == pytest.approx(.1/math.sqrt(3)) and g["success_gain"] == pytest.approx(100/3) and g["score_gain"] == pytest.approx(25)
    assert table["opd", "greedy"]["success_gain"] is None and table["teacher", "greedy"]["success_gain"] is None and table["teacher", "greedy"]["success_se"] is None
    text = markdown_table(list(table.values()))
    assert len({l.count("|") for l in text.splitlines()}) == 1 and "| 40.0% ± 5.8% |" in text and "+33.3 %" in text and "| 90.0% |" in text
    nothing = summarise_rows([row("opd", 0, "greedy", 0.) | dict(score=0.), row("guided", 0, "greedy", .5)])
    assert nothing[1]["success_gain"] is None and markdown_table(nothing), "no gain over nothing"


# --- the command line

def command(tmp_path, *args):
    "The entry point in a process of its own (forked: the imports are there already); exit code and all that it said."
    def main():
        sys.argv = ["guided-opd", *map(str, args)]
        runpy.run_module("guided_opd.cli", run_name="__main__", alter_sys=True)
    child = Child(main, tmp_path/"said")
    return child.wait(), child.text

@pytest.fixture(scope="module")
def models(tmp_path_factory):
    "A student's and a teacher's folder; every third token or so ends the reply."
    folder = tmp_path_factory.mktemp("models")
    words = pocket_tokenizer(["go to drawer 1 open you see the look around is and in a on quickly"]*2)
    for seed, name in enumerate(("student", "teacher")):
        p = policy(seed, name, tok=words)
        p.model.model.embed_tokens.weight.data[:, 0] = 9.
        p.model.lm_head = torch.nn.Linear(32, len(words), bias=False)
        p.model.lm_head.weight.data[:, 0], p.model.lm_head.weight.data[words.eos_token_id, 0] = 0, .9
        p.model.save_pretrained(folder/name); words.save_pretrained(folder/name)
    return folder

def test_help_reads_well_and_needs_no_torch():
    code = "import sys, guided_opd.cli as c\nfor a in sys.argv[1:]:\n  try: c.main([*a.split(), '--help'])\n  except SystemExit as e: assert not e.code\n  print('=====')\nassert 'torch' not in sys.modules"
    commands = ["", "demo", "plan", "train", "evaluate", "compare", "report", "envs", "pocket", "doctor"]
    done = subprocess.run([sys.executable, "-c", code, *commands], capture_output=True, text=True, env=dict(os.environ, COLUMNS="100"))
    assert done.returncode == 0, done.stderr
    pages = dict(zip(commands, done.stdout.split("=====\n")))
    for c in commands[1:]:
        assert c in pages[""] and "usage: " in pages[c] and "==SUPPRESS==" not in pages[c] and len(pages[c].splitlines()[2]) > 20, pages[c]
    assert "guided-opd demo" in pages[""]
    flat = " ".join(pages["train"].split())
    from dataclasses import fields
    from guided_opd.trainer import GuidedOPDConfig
    for f in fields(GuidedOPDConfig): assert f"--{f.name.replace('_', '-')} " in flat and f"(default: {f.default})" in flat

def test_the_module_is_the_command():
    run = lambda *args: subprocess.run([sys.executable, "-m", "guided_opd.cli", *args], capture_output=True, text=True)
    done = run("--version")
    assert done.returncode == 0 and done.stdout.strip().count(".") == 2
    for args in (["dance"], [], ["train", "--steps", "many"], ["evaluate", "a", "b"], ["evaluate", "a", "--episodes", "0"], ["compare", "--jobs", "-1"]):
        done = run(*args)
        assert done.returncode == 2 and done.stdout == "" and "usage:" in done.stderr and "Traceback" not in done.stderr
        if args[-1:] in (["0"], ["-1"]): assert f"{args[-1]} is too few; give 1 or more" in done.stderr
    done = run("train", "--method", "dpo")
    assert done.returncode == 1 and done.stderr == "guided-opd: There is no method 'dpo'; choose one of opd, guided, sft, tcod_f2b, tcod_b2f.\n", done.stderr

def test_errors_are_one_line_that_says_what_to_do(tmp_path, models):
    empty, torn = tmp_path/"empty", tmp_path/"torn"
    empty.mkdir()
    import shutil; shutil.copytree(models/"student", torn); f = torn/"model.safetensors"; f.write_bytes(f.read_bytes()[:999])
    good = ["--student", models/"student", "--teacher", models/"teacher", "--run", tmp_path/"run"]
    for args, why in ((["train", *good, "--env", "nosuch"], "Unknown environment 'nosuch': use one of alfworld"),
                      (["train", *good, "--student", tmp_path/"none"], "There is no model folder"),
                      (["train", *good, "--student", "pocket:giant"], "giant"),
                      (["train", *good, "--teacher", empty], "empty"),
                      (["evaluate", torn], "torn"),
                      (["train", *good, "--lr", "-1"], "lr is -1.0; it must be above 0"),
                      (["evaluate", models/"student", "--split", "holiday"], "Unknown split 'holiday'"),
                      (["evaluate", models/"student", "--temperature", "-1"], "temperature is -1.0"),
                      (["evaluate", models/"student", "--out", empty], "Is a directory"),
                      (["evaluate", "pocket:student", "--preset", "t4-qwen3-0.6b", "--dry-run"], "no model of a preset"),
                      (["compare", *good, "--methods", "opd,magic"], "There is no method 'magic'; choose one of opd, guided"),
                      (["report", tmp_path/"none"], "none"),
                      (["envs", "webshop", "--export", tmp_path], "guided-opd envs alfworld --export")):
        code, said = command(tmp_path, *args)
        lines = [l for l in said.splitlines() if l.strip()]
        assert code == 1 and lines and lines[-1].startswith("guided-opd: ") and why in lines[-1] and "Traceback" not in said, (args, said)
    assert not (tmp_path/"run").exists(), "nothing was begun"

def test_train_evaluate_and_report_from_the_command_line(tmp_path, models):
    run, small = tmp_path/"run", ["--rollouts-per-step", 2, "--max-turns", 2, "--eval-every", 2, "--eval-episodes", 1, "--save-every", 1, "--warmup-steps", 1, "--keep-trajectories", 1, "--schedule", "linear"]
    args = [sys.executable, "-m", "guided_opd.cli", "train", "--student", models/"student", "--teacher", models/"teacher", "--run", run, "--steps", 2, *small]
    done = subprocess.run(list(map(str, args)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"Report: {run}/report.html" in done.stdout and (run/"report.html").stat().st_size > 10_000
    rows = read_jsonl(run/"metrics.jsonl")
    assert [r["step"] for r in rows] == [0, 1, 2] and all(math.isfinite(r["loss"]) for r in rows[1:]) and "eval_success" in rows[2]
    assert max(len(t.turns) for t in read_trajectories(run/"trajectories.jsonl")) == 2 < rows[2]["eval_turns"], "--max-turns is of the training rollouts"
    assert json.loads((run/"config.json").read_text())["schedule"]["name"] == "linear"
    turns = [Shelf(path).view(0)["turns"] for path in (run, run/"trajectories.jsonl")]
    assert turns[0] == turns[1] and all(turn["tokens"] for turn in turns[0]), "the file finds the run's tokenizer, as the folder does"
    before = (run/"metrics.jsonl").read_bytes()
    code, said = command(tmp_path, *args[3:])                       # again: there is nothing left to do
    assert code == 0 and (run/"metrics.jsonl").read_bytes() == before, said
    code, said = command(tmp_path, *args[3:], "--lr", .5)
    assert code == 1 and said.splitlines()[-1].startswith("guided-opd: ") and "lr: 0.001 there, 0.5 here" in said
    out = tmp_path/"played.jsonl"
    code, said = command(tmp_path, "evaluate", checkpoints(run)[-1]/"student", "--episodes", 1, "--temperature", 1, "--out", out)
    assert code == 0 and "1 episodes · temperature 1" in said, said
    [t] = read_trajectories(out)
    assert len(t.turns) > 5 and "eos" in {turn.stop for turn in t.turns}
    code, said = command(tmp_path, "evaluate", checkpoints(run)[-1]/"student", "--episodes", 8, "--out", tmp_path/"greedy.jsonl")
    total, *kinds = [re.match(r"(.*?) *success ([\d.]+)%.* (\d+) episodes · greedy", l).groups() for l in said.splitlines() if "success" in l]
    played = by_kind(read_trajectories(tmp_path/"greedy.jsonl"))
    assert code == 0 and total[2] == "8" and [k.strip() for k, *_ in kinds] == list(played) and len(played) > 1, said
    assert [int(n) for *_, n in kinds] == [len(ts) for ts in played.values()] and all(float(p) == round(100*sum(t.success for t in played[k.strip()])/int(n), 1) for k, p, n in kinds), said


def test_a_student_out_of_a_run_is_evaluated_as_it_was_trained(tmp_path):
    from guided_opd.envs.base import make_env
    from guided_opd.pocket import POCKET, load_pocket
    from guided_opd.trainer import GuidedOPD, GuidedOPDConfig
    env, student, run = make_env("webshop", **POCKET["webshop"].settings), load_pocket("student_small", "webshop"), tmp_path/"run"
    config = GuidedOPDConfig(steps=1, rollouts_per_step=2, max_turns=4, history="window", window=1, optimiser="muon", lr=5e-3, eval_every=0, seed=3)
    GuidedOPD(student, load_pocket("teacher", "webshop"), env, run, config=config).fit(progress=False)
    rows = evaluate_cell(student, env, env.tasks("test", 12), config)
    play = lambda which, *more: command(tmp_path, "evaluate", which, "--episodes", 12, *more)
    for which in (run, checkpoints(run)[-1]/"student"):
        for row, more in zip(rows, ((), ("--temperature", 1, "--seed", 3))):
            code, said = play(which, *more)
            assert code == 0 and "WebShop(" in said and "per_page=4" in said and f"success {row['success']:.1%} ± {row['success_se']:.1%} · Score {row['score']:.3f}" in said and f"{row['turns']:.1f} turns · {row['invalid']:.1%} invalid" in said, said
    code, said = play(run, "--env", "alfworld")
    assert code == 0 and "in ALFWorld(" in said, "somewhere else if it is asked for"
    shutil.rmtree(run/"checkpoints")
    code, said = play(run)
    assert code == 1 and "has no checkpoint yet" in said

def test_only_a_pocket_student_takes_the_rates_that_were_tuned_for_it(tmp_path):
    from guided_opd.compare import POCKET_SETTINGS
    from guided_opd.pocket import POCKET_MODELS
    for i, (student, own) in enumerate((("pocket:student", POCKET_SETTINGS["alfworld"]["settings_of"]["student"]), (POCKET_MODELS/"alfworld"/"student", {}))):
        run = tmp_path/str(i)
        code, said = command(tmp_path, "compare", "--student", student, "--methods", "opd", "--seeds", 1, "--steps", 1, "--rollouts-per-step", 1, "--episodes", 1, "--run", run)
        assert code == 0, said
        assert json.loads((run/"protocol.json").read_text())["settings_of"] == own and read_jsonl(run/"opd"/"seed_0"/"metrics.jsonl")

def test_another_tokenizer_is_seen_before_anything_is_played(tmp_path, models):
    code, said = command(tmp_path, "compare", "--student", models/"student", "--teacher", "pocket:teacher", "--run", tmp_path/"run")
    assert code == 1 and "different tokenizers" in said.splitlines()[-1] and "test, greedy" not in said, said

def test_pocket_models_play_what_they_were_made_for(models):
    pytest.importorskip("scienceworld")
    from guided_opd.cli import _env, _parser
    types = lambda *args: _env(_parser().parse_args([*map(str, args), "--env", "scienceworld"])).settings["task_types"]
    assert types("compare") == types("train") == types("evaluate", "pocket:teacher") == types("evaluate", models/"student", "--task-types", "pocket") == "pocket"
    assert types("evaluate", models/"student") is None and types("compare", "--task-types", "boil,melt") == ["boil", "melt"]
    with pytest.raises(ValueError, match="--task-types is an option of scienceworld, not of webshop"): _env(_parser().parse_args(["train", "--env", "webshop", "--task-types", "boil"]))


def test_evaluate_plays_as_many_tasks_as_it_is_told(models, monkeypatch, capsys):
    import guided_opd.evaluate
    from guided_opd.cli import main
    played = []
    monkeypatch.setattr(guided_opd.evaluate, "evaluate", lambda policy, env, tasks, *a, **kw: (played.append(tasks) or "", []))
    for env, n in (("alfworld", 200), ("webshop", 2000)): main(["evaluate", str(models/"student"), "--env", env, "--episodes", str(n)])
    assert len(set(played[0])) == 200 and 0 < len(played[1]) < 2000
    assert capsys.readouterr().out.split("\n")[1] == f"test has {len(played[1])} tasks, so {len(played[1])} are played."

def test_train_with_the_base_as_teacher_and_what_it_needs(tmp_path):
    run = ["train", "--env", "alfworld", "--size", "compact", "--games", "generated", "--teacher", "base", "--run", str(tmp_path/"run"), "--steps", "1", "--rollouts-per-step", "2", "--max-turns", "2", "--eval-every", "0"]
    with pytest.raises(SystemExit, match="lora-rank"): main(run)
    main(run + ["--lora-rank", "2"])
    assert json.loads((tmp_path/"run"/"config.json").read_text())["teacher"]["shared"] is True
    with pytest.raises(SystemExit, match="which model the server serves"): main(run[:8] + ["http://localhost:1/v1"] + run[9:])
