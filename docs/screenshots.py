"""Pictures of every view for the docs, in light and dark, 1280 and 400 pixels wide: python docs/screenshots.py [RUN]

RUN is the folder of a training, for the live view and the report; without it those pictures stay as they are.

Plays a few games with the pocket models, writes the views as files, opens them in chromium and takes pictures into docs/img,
the narrow ones (but the stepper's) into a folder beside. Look at each one afterwards: a test does not see what is ugly.
ImageMagick's `convert NAME.png -dither None -colors 200 PNG8:NAME.png` takes them to a third of the size.
"""
import shutil, sys, tempfile
from itertools import product
from pathlib import Path

import torch
from playwright.sync_api import sync_playwright

from guided_opd.envs.base import make_env
from guided_opd.pocket import load_pocket
from guided_opd.report import write_report
from guided_opd.rollout import RolloutMixer
from guided_opd.scoring import score
from guided_opd.widgets import LiveRun, ScheduleExplorer, TrajectoryStepper

HERE = Path(__file__).parent/"img"


def pages(folder, run=None):
    "Write the files that are photographed."
    torch.set_num_threads(1)
    student, teacher, env = load_pocket("student"), load_pocket("teacher"), make_env("alfworld")
    student.temperature = 0.
    alone = score(student, teacher, RolloutMixer(student, teacher, env)(env.tasks("test", 10)), topk=5)
    mixed = score(student, teacher, RolloutMixer(student, teacher, env, beta=.5, seed=1)(env.tasks("test", 10)), topk=5)
    stepper = TrajectoryStepper({"student alone": alone, "mixed, β = 0.5": mixed}, student, teacher, env, turn=2, threshold=1.)
    stepper.ask()
    stepper.branch(first="teacher", then="teacher")
    stepper.to_html(folder/"stepper.html")
    if run: LiveRun(run, every=1e6).to_html(folder/"live.html"); write_report(run, folder/"report.html")
    ScheduleExplorer().to_html(folder/"schedule.html")


def shoot(folder, others):
    beside = lambda i: lambda page: (page.select_option("[data-tool=beside]", index=i), page.wait_for_selector(".turn >> nth=1"))
    find = lambda page: (page.locator("[role=columnheader].max button").dispatch_event("click"), page.fill(".find input", "cabinet"), page.wait_for_timeout(500))
    views = [("step", "stepper", ".turn", None), ("branch", "stepper", ".turn", beside(1)), ("compare", "stepper", ".turn", beside(2)), ("find", "stepper", ".turn", find), ("live", "live", ".chart", None), ("schedule", "schedule", ".ribbons", None), ("report", "report", ".plot .main-svg", None)]
    HERE.mkdir(exist_ok=True)
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=shutil.which("chromium") or shutil.which("google-chrome"), args=["--no-sandbox", "--disable-dev-shm-usage"])
        for (name, file, ready, act), width, scheme in product(views, (1280, 400), ("light", "dark")):
            if not (folder/f"{file}.html").exists(): continue
            page = browser.new_page(viewport=dict(width=width, height=800), color_scheme=scheme)
            page.set_default_timeout(300_000)      # a busy machine is no failure
            page.goto((folder/f"{file}.html").as_uri())
            page.wait_for_selector(ready)
            page.wait_for_timeout(400)
            if file in ("stepper", "live") and name != "find": page.locator(".find > summary").click()   # the table has a picture of its own
            if act: act(page)
            page.evaluate("document.activeElement?.blur()")
            wide = width == 1280
            page.screenshot(path=(HERE if wide or name == "step" else others)/f"{name}{'' if wide else '_400'}_{scheme}.png", clip=page.locator(".find").bounding_box() if name == "find" else dict(x=0, y=0, width=width, height=1500) if name == "report" else None, full_page=name != "find")
            page.close()
        browser.close()


if __name__ == "__main__":
    folder = Path(tempfile.mkdtemp())
    pages(folder, *sys.argv[1:2]); shoot(folder, folder)
    for f in sorted([*HERE.glob("*.png"), *folder.glob("*.png")]): print(f"{f.stat().st_size/1024:6.0f} KB  {f}")
