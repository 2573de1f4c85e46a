"The report of a real small run, opened in a real browser: drawn, readable by keyboard, silent on the network, deaf to hostile text."
import json, shutil

import pytest

torch = pytest.importorskip("torch")

from browser import HOSTILE, Page
from guided_opd.report import write_report
from guided_opd.trajectory import Trajectory, Turn, append_trajectories, read_trajectories


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    "A run folder of a few steps with random tiny models."
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from guided_opd.chat import word_tokenizer
    from guided_opd.envs.base import make_env
    from guided_opd.policy import HFPolicy
    from guided_opd.trainer import GuidedOPD
    tok = word_tokenizer("\n user assistant ▁drawer ▁to ▁1 ▁2 go move open look inventory".split(" "))
    def policy(seed):
        torch.manual_seed(seed)
        config = Qwen3Config(vocab_size=len(tok), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8, max_position_embeddings=4096)
        return HFPolicy(Qwen3ForCausalLM(config).eval(), tok, max_new_tokens=4)
    folder = tmp_path_factory.mktemp("report")/"run"
    GuidedOPD(policy(0), policy(1), make_env("alfworld", max_turns=4), folder, steps=6, rollouts_per_step=4, lr=1e-2, warmup_steps=1, eval_every=3, eval_episodes=2, save_every=3).fit(progress=False)
    return folder

@pytest.fixture
def opened(run, browser, tmp_path):
    page = Page(browser, write_report(run, tmp_path/"report.html"))
    yield page
    page.close()


def test_report_is_drawn(opened):
    assert opened.page.title() == "Guided-OPD in alfworld"
    assert opened.drawn() >= 6  # the schedule and the five panels of training
    assert "All 6 steps are done" in opened.page.inner_text(".lead >> nth=1")
    opened.page.wait_for_selector(".turn")
    assert opened.count(".rows .row") == 9 and opened.count(".rows .row[aria-selected=true]") == 1
    assert opened.count(".cell") == opened.count(".column") == 4
    opened.check()

def test_trajectories_are_in_the_stepper(opened):
    data = opened.trajectory(0)
    opened.page.wait_for_selector(".turn")
    for i, turn in enumerate(data["turns"]):
        assert opened.turn() == str(i) and opened.count(".reply .token") == len(turn["tokens"])
        assert sum(n for _, n in turn["tokens"]) == len(turn["measures"]["reverse_kl"])
        opened.page.keyboard.press("j")
    opened.page.locator(".rows .row").nth(3).click()
    opened.page.wait_for_selector(".rows .row[aria-selected=true] >> nth=0")
    opened.page.evaluate("document.activeElement.blur()")      # the table keeps its own keys
    opened.page.keyboard.press("End")
    assert opened.turn() == "3"
    opened.page.select_option("select[aria-label=result]", "yes")
    assert opened.count(".rows .row") == 0
    opened.check()

def test_hostile_text_stays_text(run, browser, tmp_path):
    ill = tmp_path/"ill"
    shutil.copytree(run, ill)
    config = json.loads((ill/"config.json").read_text())
    config["env"] = dict(name=HOSTILE[1], **{HOSTILE[0]: HOSTILE[0]}); config["student"]["name"] = HOSTILE[0]
    (ill/"config.json").write_text(json.dumps(config))
    turn = lambda text, actor: Turn(text, text, text, actor, [1], [300, 2, 255, 10**6], [0.]*4, measures=dict(reverse_kl=[1., 2., 3., 4.], forward_kl=[0.]*4))
    (ill/"trajectories.jsonl").unlink()
    append_trajectories(ill/"trajectories.jsonl", [Trajectory(HOSTILE[0], HOSTILE[1], [turn(x, a) for x in HOSTILE for a in ("student", "teacher", "expert")], final_observation=HOSTILE[1], ended=HOSTILE[0])])
    with open(ill/"trajectories.jsonl", "ab") as f: f.write(b'{"version": 1, "ta\xff')
    with open(ill/"metrics.jsonl", "a") as f: f.write('{"step": 7, "lo')
    for checkpoint in (True, False):
        if not checkpoint: shutil.rmtree(ill/"checkpoints")
        page = Page(browser, write_report(ill), viewport=dict(width=390, height=800))
        assert page.drawn() >= 6
        page.page.wait_for_selector(".turn")
        assert page.count("main img") == 0 and page.page.title().endswith(HOSTILE[1])
        for i, text in enumerate(HOSTILE):
            for _ in range(3):
                assert page.page.locator(".observation").first.text_content() == text
                if not checkpoint: assert page.page.locator(".reply").text_content() == text
                page.page.keyboard.press("j")
        assert page.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "a phone would scroll sideways"
        if not checkpoint: assert page.count(".reply .token") == 0 and "no checkpoint" in page.page.inner_text(".note >> nth=1")
        page.check(); page.close()

def test_run_that_has_only_begun(run, browser, tmp_path):
    begun = tmp_path/"begun"; begun.mkdir()
    shutil.copy(run/"config.json", begun)
    for metrics in (None, "", '{"step": 0, "eval_success": 0.0, "eval_sc'):
        if metrics is not None: (begun/"metrics.jsonl").write_text(metrics)
        page = Page(browser, write_report(begun))
        assert "No step of the training has been finished yet" in page.page.inner_text("main")
        assert page.drawn() == 2
        page.check()
        page.close()

def test_comparison(run, browser, tmp_path):
    folder = tmp_path/"compare"
    rows = []
    for method in ("guided", "opd", HOSTILE[1]):
        for seed in (0, 1):
            cell = folder/f"method{len(rows)}"/f"seed_{seed}"
            shutil.copytree(run, cell, ignore=shutil.ignore_patterns("checkpoints"))
            config = json.loads((cell/"config.json").read_text())
            config["config"] |= dict(method=method, seed=seed)
            (cell/"config.json").write_text(json.dumps(config))
            mine = [dict(method=method, seed=seed, decoding=d, success=.1 + .2*seed, success_se=.05, score=.3, turns=4., episodes=8, seconds=9., kinds={k: dict(episodes=4, success=.1 + .2*seed, score=.3) for k in ("heat", HOSTILE[1])}) for d in ("greedy", "sampled")]
            (cell/"evaluation.json").write_text(json.dumps(mine))
            rows += mine
    for finished in (False, True):
        if finished: (folder/"comparison.json").write_text(json.dumps(dict(env=dict(name="alfworld"), settings=dict(steps=6), rows=rows, table=[])))
        path = write_report(folder)
        page = Page(browser, path)
        assert ("not finished" in page.page.inner_text("main")) != finished
        assert "kinds" not in page.page.inner_text("main")
        assert page.page.locator("tr", has_text="heat").inner_text().split("\t") == ["heat", "4"] + 3*["20.0% / 20.0%"]
        assert page.count("details.run") == 6 and page.drawn() >= 2
        page.page.locator("details.run > summary").first.click()
        assert page.drawn() >= 8
        page.page.wait_for_selector(".turn")
        page.page.select_option("[data-tool=beside]", index=1)      # the same task in another run
        page.page.wait_for_selector(".turn >> nth=1")
        page.check()
        page.close()
    assert path.stat().st_size < 7_000_000, "plotly.js is in the page more than once"

def test_reports_do_not_change_the_run(run, tmp_path):
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    write_report(run, tmp_path/"out"/"report.html")
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before
    assert len(list(read_trajectories(run/"trajectories.jsonl"))) == 24
