"Every notebook runs from top to bottom on the CPU, in a process of its own; cells flagged `#| slow` are left out, those for a GPU run on tiny models."
import os, subprocess, sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted(p for folder in ("nbs", "tutorials") for p in (ROOT/folder).rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook(path):
    done = subprocess.run([sys.executable, "-c", "import sys; from nbdev.test import nbdev_test; nbdev_test(sys.argv[1], n_workers=0, cell_timeout=300, timing=True)", str(path)],
                          cwd=ROOT, env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "GUIDED_OPD_TINY": "1"}, capture_output=True, text=True, timeout=900)
    # nbdev ends in peace, too, when it finds nothing to run: the name says that it did.
    assert done.returncode == 0 and path.name in done.stdout, f"{path.name} failed\n{done.stdout[-2000:]}\n{done.stderr[-6000:]}"


def test_the_colab_notebook_runs_in_every_world(tmp_path):
    "WebShop by its one parameter; ALFWorld is above, ScienceWorld differs in nothing but the environment."
    path = ROOT/"tutorials"/"05_colab_unsloth_alfworld.ipynb"
    done = subprocess.run([sys.executable, "-c", "import sys; from nbdev.test import nbdev_test; nbdev_test(sys.argv[1], n_workers=0, cell_timeout=300, timing=True)", str(path)],
                          cwd=ROOT, env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "GUIDED_OPD_TINY": "1", "GUIDED_OPD_ENV": "webshop"}, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0 and path.name in done.stdout, done.stdout[-2000:] + done.stderr[-6000:]
