"`guided-opd doctor`: in a fresh interpreter, with packages missing, with odd Javas, on terminals without Unicode."
import json, os, subprocess, sys
from importlib import metadata
from pathlib import Path

import pytest

from guided_opd import doctor as dr
from guided_opd.doctor import Check

ROOT = Path(__file__).parents[1]


def fresh(code, **env):
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=os.environ | env, capture_output=True, text=True, encoding="utf-8", timeout=120)

def pretend_java(folder, says, status=0):
    folder.mkdir()
    (folder/"java").write_text(f"#!/bin/sh\necho '{says}' >&2\nexit {status}\n")
    (folder/"java").chmod(0o755)
    return str(folder/"java")


def test_looks_at_everything_without_importing_the_heavy():
    done = fresh("import sys, time, json; t = time.perf_counter(); from guided_opd.doctor import doctor; checks = doctor(); t = time.perf_counter() - t\n"
                 "print(json.dumps([t, [c.name for c in checks], sorted({c.status for c in checks}), sorted({'transformers', 'plotly', 'alfworld', 'unsloth'} & set(sys.modules))]))")
    assert done.returncode == 0, done.stderr
    seconds, names, statuses, heavy = json.loads(done.stdout)
    assert not heavy and set(statuses) <= {"ok", "optional", "missing"}
    assert {"Python", "GPU", "Java", "ALFWorld data", "machine", "disk"} <= set(names)
    gpu = dr._driver()  # with a driver, torch is imported to ask it
    assert seconds < (20 if gpu else 4), f"took {seconds:.1f} s"

def test_works_with_the_core_requirements_alone(monkeypatch):
    real = metadata.version
    core = {r.name for r in dr.requirements(["fastcore<3,>=2.2", "numpy<3,>=1.26"])["core"]}
    def version(name):
        if name not in core: raise metadata.PackageNotFoundError(name)
        return real(name)
    reqs = dr.requirements(["fastcore<3,>=2.2", "numpy<3,>=1.26", 'torch<2.15,>=2.11; extra == "train"', 'gymnasium<2,>=1.1; extra == "envs"'])
    checks = [dr.check_group(g, r, version) for g, r in reqs.items() if r]
    assert [c.status for c in checks] == ["ok", "optional", "optional"] and dr.exit_code(checks) == 0
    assert all("[" + g + "]" in c.mend for c, g in zip(checks[1:], ("train", "envs")))

def test_groups_are_those_of_the_distribution():
    try: reqs = dr.requirements()
    except metadata.PackageNotFoundError: pytest.skip("needs the package installed (pip install -e .)")
    assert all(reqs[g] for g in dr.GROUPS)
    assert "torch" in {r.name for r in reqs["train"]} and "pytest" not in {r.name for rs in reqs.values() for r in rs}
    assert dr.check_group("core", reqs["core"]).status == "ok"

def test_every_gap_of_a_group_is_named_with_one_command():
    def version(name):
        if name == "absent": raise metadata.PackageNotFoundError(name)
        return "1.0"
    c = dr.check_group("core", dr.requirements(["absent>=1,<2", "old>=2,<3", "fine>=1,<2"])["core"], version)
    assert c.status == "missing" and "absent" in c.found and "old is 1.0 but must be" in c.found and "fine" not in c.found
    assert c.mend.count("pip install") == 1 and dr.exit_code([c]) == 1

@pytest.mark.parametrize("version,fits", [("2.13.0+cpu", True), ("2.13.0.dev20260101+cu130", True), ("2.10.0", False), ("2.15.0", False)])
def test_local_and_nightly_versions(version, fits):
    reqs = dr.requirements(['torch>=2.11,<2.15; extra == "train"'])["train"]
    assert (dr.check_group("train", reqs, lambda name: version).status == "ok") is fits

@pytest.mark.parametrize("says,status,expected", [
    ('openjdk version "17.0.15" 2025-04-15', 0, "ok"), ('java version "1.8.0_392"', 0, "ok"), ('java version "1.7.0_80"', 0, "optional"),
    ("The operation could not be completed. Unable to locate a Java Runtime.", 1, "optional"), ("", 0, "optional")])
def test_java(tmp_path, says, status, expected):
    c = dr.check_java(pretend_java(tmp_path/"bin", says, status))
    assert c.status == expected and bool(c.mend) == (expected != "ok")

def test_paths_in_commands_can_be_pasted(tmp_path):
    folder = tmp_path/"my folder"
    url = {"url": folder.as_uri(), "dir_info": {"editable": True}}
    import shlex
    assert shlex.split(dr.install_command("train", url)) == ["pip", "install", "-e", f"{folder}[train]"]
    assert shlex.split(dr.check_alfworld_data({"ALFWORLD_DATA": str(folder)}).mend) == [f"ALFWORLD_DATA={folder}", "alfworld-download"]

def test_every_line_that_lacks_something_says_what_to_do():
    for c in dr.doctor():
        assert c.found and (c.status != "missing" or c.mend)

def test_render_is_aligned_and_keeps_commands_whole(capsys):
    dr.render([Check("a", "ok", "word " * 40), Check("longer name", "missing", "gone", "pip install " + "x" * 200)], width=60)
    out = capsys.readouterr().out.splitlines()
    assert all(len(l) <= 60 for l in out if "→" not in l)
    assert any(l.endswith("x" * 200) for l in out) and out[-1] == "Required and missing: longer name."
    assert {l.index("word") for l in out if "word" in l} == {out[[i for i, l in enumerate(out) if "gone" in l][0]].index("gone")}

def test_terminal_without_unicode():
    done = fresh("from guided_opd.doctor import *; render([Check('a', 'ok', 'b'), Check('c', 'optional', 'd', 'e'), Check('f', 'missing', 'g', 'h')])", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:3] == ["+ a  b", "- c  d", "     -> e"]
