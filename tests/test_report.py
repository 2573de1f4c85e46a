"The report of a real small run, opened in a real browser: drawn, readable by keyboard, silent on the network, deaf to hostile text."
import json, shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")

from guided_opd.report import write_report
from guided_opd.trajectory import Trajectory, Turn, append_trajectories, read_trajectories

HOSTILE = ["</script><script>window.hacked = 1</script>", "<img src=x onerror='window.hacked = 2'>", "<!--<script>", "🦆 é \u2028 \u2029 \ufffd", "\u202eright to left אבג", "a\"b'c`${window.hacked = 3}", "x"*100_000]


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

@pytest.fixture(scope="module")
def browser():
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not path: pytest.skip("needs chromium")
    with sync_api.sync_playwright() as p:
        b = p.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"], timeout=120_000)
        yield b
        b.close()

class Page:
    "A page that remembers what it said and what it asked for."
    def __init__(self, browser, path, **settings):
        self.page, self.said, self.asked = browser.new_page(**settings), [], []
        self.page.on("console", lambda m: self.said.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda e: self.said.append(str(e)))
        self.page.on("dialog", lambda d: (self.said.append("dialog"), d.dismiss()))
        self.page.on("request", lambda r: self.asked.append(r.url) if not r.url.startswith(("data:", "blob:")) else None)
        self.url = Path(path).resolve().as_uri()
        self.page.set_default_timeout(120_000)  # a busy machine is no failure
        self.page.goto(self.url, wait_until="commit")
        self.page.wait_for_selector("main.guided-report h1")
    def check(self):
        "No error, no network, nothing of the hostile text executed."
        assert not self.said
        assert self.asked == [self.url]
        assert self.page.evaluate("window.hacked") is None
    def count(self, selector): return self.page.locator(selector).count()
    def drawn(self):
        "Number of panels with data in them, once every figure in sight is there."
        for _ in range(1200):
            # (not `wait_for_function`: the page's policy forbids its eval)
            if self.page.evaluate("[...document.querySelectorAll('div.plot')].filter(p => p.checkVisibility()).every(p => p.drawn)"): break
            self.page.wait_for_timeout(50)
        else: raise AssertionError("a figure was not drawn")
        return self.count("div.plot .subplot .trace")

@pytest.fixture
def opened(run, browser, tmp_path):
    page = Page(browser, write_report(run, tmp_path/"report.html"))
    yield page
    page.page.close()


def test_report_is_drawn(opened):
    assert opened.page.title() == "Guided-OPD in alfworld"
    assert opened.drawn() >= 6  # the schedule and the five panels of training
    assert "All 6 steps are done" in opened.page.inner_text(".lead >> nth=1")
    assert opened.count(".trajectory") == 9 and opened.count(".trajectory[open]") == 1
    assert opened.count(".trajectory[open] .turn") == opened.count(".trajectory[open] .bars button") == 4
    opened.check()

def test_tokens_are_shaded_and_explained(run, opened):
    first = next(t for t in json.loads(opened.page.text_content("#report-data"))["trajectories"])
    turns = opened.page.locator(".trajectory[open] .turn")
    for i, turn in enumerate(first["turns"]):
        tokens = turns.nth(i).locator(".reply .token")
        assert tokens.count() == len(turn["tokens"])
        assert sum(n for _, n in turn["tokens"]) == len(turn["measures"][turn["measure"]])
        assert tokens.first.get_attribute("data-level") is not None
    tokens.first.hover()
    card = opened.page.inner_text(".card")
    assert "reverse KL" in card and "teacher's log-prob" in card and card.count("nats") == 6
    tokens.first.focus()
    opened.page.keyboard.press("ArrowRight")
    assert opened.page.evaluate("document.activeElement === document.querySelectorAll('.trajectory[open] .turn:last-child .reply .token')[1]")
    opened.page.keyboard.press("Escape")
    assert opened.page.locator(".card").is_hidden()
    opened.check()

def test_keys_step_through_turns(opened):
    current = lambda: opened.page.evaluate("[...document.querySelectorAll('.trajectory[open] .turn')].findIndex(t => t.hasAttribute('aria-current'))")
    assert current() == 0
    steps = [("ArrowRight", 1), ("j", 2), ("k", 1), ("ArrowLeft", 0), ("ArrowLeft", 0), *[("j", i) for i in (1, 2, 3, 3)]]
    for key, at in steps:
        opened.page.keyboard.press(key)
        assert current() == at
    assert opened.page.get_attribute(".trajectory[open] .bars button >> nth=3", "aria-current") == "step"
    second = opened.page.locator(".trajectory").nth(1)
    second.locator("summary").click()
    second.locator(".bars button").nth(2).click()
    assert second.locator(".turn").nth(2).get_attribute("aria-current") == "step"
    opened.page.get_by_role("button", name="solved (0)", exact=True).click()
    assert opened.page.locator(".trajectory:visible").count() == 0
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
    page = Page(browser, write_report(ill), viewport=dict(width=390, height=800))
    assert page.drawn() >= 6
    assert page.count(".turn") == 3*len(HOSTILE)
    assert page.count("main img") == 0 and page.page.title().endswith(HOSTILE[1])
    for i, text in enumerate(HOSTILE): assert page.page.locator(".turn .observation").nth(3*i).text_content() == text
    for _ in range(3*len(HOSTILE)): page.page.keyboard.press("j")
    assert page.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "a phone would scroll sideways"
    page.check()
    shutil.rmtree(ill/"checkpoints")
    page = Page(browser, write_report(ill))
    assert page.count(".reply .token") == 0 and "no checkpoint" in page.page.inner_text(".note >> nth=1")
    for i, text in enumerate(HOSTILE): assert page.page.locator(".turn .reply").nth(3*i).text_content() == text
    page.check()

def test_run_that_has_only_begun(run, browser, tmp_path):
    begun = tmp_path/"begun"; begun.mkdir()
    shutil.copy(run/"config.json", begun)
    for metrics in (None, "", '{"step": 0, "eval_success": 0.0, "eval_sc'):
        if metrics is not None: (begun/"metrics.jsonl").write_text(metrics)
        page = Page(browser, write_report(begun))
        assert "No step of the training has been finished yet" in page.page.inner_text("main")
        assert page.drawn() == 2
        page.check()
        page.page.close()

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
            mine = [dict(method=method, seed=seed, decoding=d, success=.1 + .2*seed, success_se=.05, score=.3, turns=4., episodes=8, seconds=9.) for d in ("greedy", "sampled")]
            (cell/"evaluation.json").write_text(json.dumps(mine))
            rows += mine
    for finished in (False, True):
        if finished: (folder/"comparison.json").write_text(json.dumps(dict(env=dict(name="alfworld"), settings=dict(steps=6), rows=rows, table=[])))
        path = write_report(folder)
        page = Page(browser, path)
        assert ("not finished" in page.page.inner_text("main")) != finished
        assert page.count("details.run") == 6 and page.drawn() >= 2
        page.page.locator("details.run > summary").first.click()
        page.page.locator("details.run[open] details.trajectory > summary").first.click()
        assert page.drawn() >= 8 and page.count("details.run[open] .turn") >= 4
        page.check()
        page.page.close()
    assert path.stat().st_size < 7_000_000, "plotly.js is in the page more than once"

def test_reports_do_not_change_the_run(run, tmp_path):
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    write_report(run, tmp_path/"out"/"report.html")
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before
    assert len(list(read_trajectories(run/"trajectories.jsonl"))) == 24
