"One contract, several implementations of a policy."
import importlib.util, os, subprocess, sys
from pathlib import Path

import pytest

@pytest.mark.parametrize("kind", ["hf", "unsloth", "vllm"])
def test_contract(kind, tmp_path):
    if kind != "hf" and not importlib.util.find_spec(kind): pytest.skip(f"needs {kind}")
    done = subprocess.run([sys.executable, Path(__file__).with_name("contract.py"), kind, tmp_path], cwd=tmp_path, capture_output=True, text=True, timeout=900, env=os.environ | {"PYTHONWARNINGS": "ignore"})
    assert done.returncode == 0 and "contract holds" in done.stdout, done.stdout[-3000:] + done.stderr[-3000:]
