"The study's script: cells are kept small and done once; the page says what the files say."
import importlib.util, json, shutil, subprocess, sys
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from guided_opd.compare import POCKET_SETTINGS, bootstrap, summarise_rows
from guided_opd.schedule import METHODS
from guided_opd.study import overview_table, read_results

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT/"benchmarks"/"reproduce.py"
spec = importlib.util.spec_from_file_location("reproduce", SCRIPT)
reproduce = sys.modules["reproduce"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reproduce)


def test_the_page_in_the_docs_is_what_the_files_give(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(reproduce, "draw", lambda figures, folder: drawn.update(figures))
    text = reproduce.report(SimpleNamespace(results=ROOT/"benchmarks"/"results", docs=tmp_path))
    assert (ROOT/"docs"/"study.md").read_text(encoding="utf-8") == text, "run: python benchmarks/reproduce.py --tables-only"
    for name in drawn: assert f"img/study/{name}.png" in text and (ROOT/"docs"/"img"/"study"/f"{name}.png").exists()

def test_the_readme_has_the_newest_overview():
    table = overview_table(read_results(ROOT/"benchmarks"/"results"), "student_small")
    assert table in (ROOT/"README.md").read_text(encoding="utf-8"), f"nbs/index.ipynb has an older table than:\n{table}"

def test_a_cell_leaves_small_files_and_is_done_once(tmp_path):
    run = lambda *more: subprocess.run([sys.executable, SCRIPT, "--smoke", "--envs", "alfworld", "--sizes", "student_small", "--methods", "doubt", "--seeds", "1", "--results", tmp_path/"results", "--work", tmp_path/"work", *more], capture_output=True, text=True, cwd=ROOT)
    done = run()
    assert done.returncode == 0, done.stderr
    cell = tmp_path/"results"/"alfworld"/"student_small"/"doubt"/"seed_0"
    assert {p.name for p in cell.iterdir()} == {"config.json", "metrics.jsonl", "evaluation.json"}
    assert json.loads((cell/"config.json").read_text())["config"]["mixing"] == "doubt" and [r["decoding"] for r in json.loads((cell/"evaluation.json").read_text())] == ["greedy", "sampled"]
    for r in json.loads((cell/"evaluation.json").read_text()): assert sum(k["episodes"] for k in r["kinds"].values()) == r["episodes"] == 2 and sum(k["episodes"]*k["success"] for k in r["kinds"].values()) == 2*r["success"]
    assert [(r["method"], r["decoding"]) for r in json.loads((cell.parents[1]/"reference.json").read_text())] == [(m, d) for m in ("cold start", "teacher") for d in ("greedy", "sampled")], "played once, before the cells"
    before = {p: p.stat().st_mtime_ns for p in cell.iterdir()}
    again = run("--dry-run")
    assert again.returncode == 0 and "1 of 1 cells are done" in again.stdout and before == {p: p.stat().st_mtime_ns for p in cell.iterdir()}

def test_what_was_trained_to_choose_the_rate_is_not_trained_again(tmp_path, monkeypatch):
    monkeypatch.setattr("guided_opd.compare.run_at_once", lambda work, *_: [w.call(*w.args) for w in work])      # in this process, where all is imported
    for more in (["--tune"], []):
        monkeypatch.setattr(sys, "argv", ["reproduce.py", "--smoke", "--envs", "alfworld", "--sizes", "student_small", "--methods", "opd", "--seeds", "1", "--results", str(tmp_path/"results"), "--work", str(tmp_path/"work"), *more])
        reproduce.main()
    place = tmp_path/"results"/"alfworld"/"student_small"
    lr = reproduce.tuned_lr(tmp_path/"results", "alfworld", "student_small", "opd")
    metrics = [(place/name/"seed_0"/"metrics.jsonl").read_text() for name in ("opd", f"tuning/opd-lr_{lr:g}")]
    rows = [json.loads((place/name/"seed_0"/"evaluation.json").read_text()) for name in ("opd", f"tuning/opd-lr_{lr:g}")]
    (place/"reference.json").unlink(); reproduce.main()
    assert (place/"reference.json").exists(), "played anew if it failed, although the cells are done"
    assert metrics[0] == metrics[1], "the seconds of each update are those of the training that was done"
    assert [[r["method"] for r in rs] for rs in rows] == [["opd"]*2, [f"tuning/opd-lr_{lr:g}"]*2]

def test_what_cannot_be_run_is_said_in_a_line(monkeypatch):
    for args, why in ((("--methods", "magic", "--dry-run"), "There is no method or ablation 'magic'"), (("--envs", "chess", "--dry-run"), "There is no environment 'chess'"), (("--smoke",), "--results and --work other folders")):
        monkeypatch.setattr(sys, "argv", ["reproduce.py", *args])
        with pytest.raises(SystemExit, match=why): reproduce.main()
    assert reproduce.missing("chess", "student").startswith("chess: no recipe") and reproduce.missing("alfworld", "student") is None

def test_the_learning_rate_is_the_one_tuned_best(tmp_path):
    for lr, x in (("0.002", .2), ("0.005", .3)):
        place = tmp_path/"alfworld"/"student"/"tuning"/f"opd-lr_{lr}"/"seed_0"; place.mkdir(parents=True)
        (place/"evaluation.json").write_text(json.dumps([dict(success=x), dict(success=x - .1)]))
    assert reproduce.rates_to_try(tmp_path, "alfworld", "student", "opd") == (.002, .005, .01) and reproduce.rates_to_try(tmp_path, "alfworld", "student", "sft") == (.002, .005), "on from the better one"
    assert reproduce.tuned_lr(tmp_path, "alfworld", "student", "opd") == .005 and reproduce.tuned_lr(tmp_path, "alfworld", "student", "sft") is None
    for lr in ("0.002", "0.005"):
        level = tmp_path/"webshop"/"student"/"tuning"/f"opd-lr_{lr}"/"seed_0"; level.mkdir(parents=True)
        (level/"evaluation.json").write_text(json.dumps([dict(success=.2)]))
    assert reproduce.rates_to_try(tmp_path, "webshop", "student", "opd") == (.001, .002, .005, .01), "where two are equally good, on from both"
    (tmp_path/"alfworld/student/tuning/opd-lr_0.01/seed_0").mkdir(parents=True); (tmp_path/"alfworld/student/tuning/opd-lr_0.01/seed_0/evaluation.json").write_text(json.dumps([dict(success=.2)]))
    assert reproduce.rates_to_try(tmp_path, "alfworld", "student", "opd") == (.002, .005, .01), "the best lies between two that are worse"
    names = lambda seeds: [(c.name.rpartition("_")[2], c.seed) for c in reproduce.tuning_cells(tmp_path, "alfworld", "student", "opd", seeds)]
    assert names(1) == [("0.002", 0), ("0.005", 0), ("0.01", 0)] and names(2)[3:] == [("0.01", 1), ("0.005", 1)], "further seeds for the two best rates"
    (tmp_path/"alfworld/student/tuning/opd-lr_0.005/seed_1").mkdir(); (tmp_path/"alfworld/student/tuning/opd-lr_0.005/seed_1/evaluation.json").write_text(json.dumps([dict(success=.01)]))
    assert reproduce.tuned_lr(tmp_path, "alfworld", "student", "opd") == .01, "the mean over seeds decides"
    shutil.rmtree(tmp_path/"alfworld/student/tuning/opd-lr_0.005/seed_1")
    cell = lambda name: reproduce.config_of(reproduce.Cell("alfworld", "student", name, 7), tmp_path)
    assert (cell("opd").lr, cell("opd_k1").lr, cell("opd_k1").student_turns, cell("opd_k1").seed) == (.005, .005, "k1", 7)
    (tmp_path/"alfworld/student/tuning/opd_k1-lr_0.001/seed_0").mkdir(parents=True); (tmp_path/"alfworld/student/tuning/opd_k1-lr_0.001/seed_0/evaluation.json").write_text(json.dumps([dict(success=.2)]))
    assert (cell("opd_k1").lr, cell("opd_k3").lr, cell("tuning/opd_k1-lr_0.002").lr, cell("tuning/opd_k1-lr_0.002").student_turns) == (.001, .005, .002, "k1"), "unless it was tuned itself"
    assert cell("tcod_f2b_rho_0.4").lr == cell("tcod_f2b").lr == POCKET_SETTINGS["alfworld"]["settings_of"]["student"]["tcod_f2b"]["lr"] != .005, "an ablation of TCOD takes TCOD's"
    assert (cell("guided").lr, cell("cosine").lr, cell("cosine").guidance) == (.005, .005, "cosine"), "an ablation takes OPD's rate"
    assert reproduce.config_of(reproduce.Cell("alfworld", "student_small", "guided", 0), tmp_path).lr == POCKET_SETTINGS["alfworld"]["settings_of"]["student_small"]["guided"]["lr"] == .01, "a rate tuned for one student is not the other's"
    assert cell("tuning/guided-lr_0.002").lr == .002 and cell("tuning/guided-lr_0.002").method == "guided"

def test_the_shipped_rates_are_the_tuned_ones_and_the_results_were_trained_with_them(tmp_path):
    results = ROOT/"benchmarks"/"results"
    for env, size, method in product(reproduce.ENVS, reproduce.SIZES, METHODS):
        shipped = reproduce.config_of(reproduce.Cell(env, size, method, 0), tmp_path).lr
        trained = {json.loads(p.read_text())["config"]["lr"] for p in (results/env/size/method).glob("seed_*/config.json")}
        assert {reproduce.tuned_lr(results, env, size, method)} == {shipped} == trained, f"{env}, {size}, {method}: _RATES in nbs/20_compare.ipynb against benchmarks/results"

def test_gains_are_paired_over_the_seeds_that_both_have():
    row = lambda m, s, x: dict(method=m, seed=s, decoding="greedy", episodes=10, success=x, score=x, turns=1.)
    opd, guided = [.1, .4, .2, .3], [.11, .44, .22]
    t = {r["method"]: r for r in summarise_rows([row("opd", s, x) for s, x in enumerate(opd)] + [row("guided", s, x) for s, x in enumerate(guided)])}
    assert t["guided"]["success_gain"] == pytest.approx(10) and np.allclose(t["guided"]["success_gain_ci"], 10), "a tenth more with every seed is certain, however seeds differ"
    low, high = t["opd"]["success_ci"]
    assert .1 <= low < .25 < high <= .4 and t["opd"]["success_gain"] is None
    assert bootstrap(lambda x, y: x/y, [1., 2.], [0., 1.]) is None, "no gain over nothing"
