"Every notebook runs from top to bottom on the CPU, in a process of its own; cells flagged `#| slow` are left out, those for a GPU run on tiny models."
import os
from multiprocessing import get_context, set_forkserver_preload
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted(p for folder in ("nbs", "tutorials") for p in (ROOT/folder).rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
set_forkserver_preload(["nbdev.test", "transformers.models.qwen3.modeling_qwen3", "peft"])       # what nearly every notebook imports: half of a short one's time


def _run(path, log, env):
    fd = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(fd, 1); os.dup2(fd, 2)
    os.chdir(ROOT); os.environ.update(env)
    from nbdev.test import nbdev_test
    nbdev_test(str(path), n_workers=0, cell_timeout=300, timing=True)


def run(path, folder, **env):
    # Unsloth wants to be imported before transformers, as on Colab.
    process = get_context("spawn" if "unsloth" in path.stem else "forkserver").Process(target=_run, args=(path, folder/"said", {"CUDA_VISIBLE_DEVICES": "", "GUIDED_OPD_TINY": "1", **env}))
    process.start(); process.join(900)
    if process.exitcode is None: process.kill()
    said = (folder/"said").read_text(encoding="utf-8", errors="replace")
    # nbdev ends in peace, too, when it finds nothing to run: the name says that it did.
    assert process.exitcode == 0 and path.name in said, f"{path.name} failed\n{said[-8000:]}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook(path, tmp_path): run(path, tmp_path)


def test_the_colab_notebook_runs_in_every_world(tmp_path):
    "WebShop by its one parameter; ALFWorld is above, ScienceWorld differs in nothing but the environment."
    run(ROOT/"tutorials"/"05_colab_unsloth_alfworld.ipynb", tmp_path, GUIDED_OPD_ENV="webshop")
