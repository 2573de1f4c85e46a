"The project itself: metadata, pins, floors, size, and that the package is what the notebooks export."
import ast, json, os, re, shutil, subprocess, sys
from configparser import ConfigParser
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT/"guided_opd"
CODE = sorted(p for p in PACKAGE.rglob("*.py") if not p.name.startswith("_"))

# Ground first. A module may import from lower floors, and from what stands to its left on its own.
FLOORS = """
trajectory schedule kernels losses
envs.base envs.* envs chat protocol
attention cache policy mixing remote unsloth vllm
rollout
scoring drift evaluate optimiser replay
config runfolder ranks trainer plan presets
plots view report widgets pocket compare study doctor
cli
"""
# What `import guided_opd` must not bring in, and what the light modules must do without: they work with the core requirements alone.
HEAVY = "torch transformers tokenizers safetensors accelerate peft unsloth vllm alfworld textworld scienceworld gymnasium spacy rapidfuzz plotly ipywidgets anywidget IPython".split()
LIGHT = "trajectory schedule doctor plan".split()


def settings():
    parser = ConfigParser(delimiters=["="], interpolation=None)
    parser.read(ROOT/"settings.ini", encoding="utf-8")
    return parser["DEFAULT"]

def requirements():
    "(group, requirement) for each one in settings.ini"
    return [(k.removesuffix("requirements").rstrip("_") or "core", Requirement(r))
            for k, v in settings().items() if k.endswith("requirements") for r in v.split()]

def constraints():
    lines = [l.strip() for l in (ROOT/"constraints.txt").read_text().splitlines()]
    return [Requirement(l) for l in lines if l and not l.startswith("#")]

def python(*args, **kw):
    "Run a fresh interpreter; its output, or a failure that shows what it said."
    done = subprocess.run([sys.executable, *map(str, args)], capture_output=True, text=True, timeout=300, **kw)
    assert done.returncode == 0, f"{' '.join(map(str, args))}\n{done.stdout}\n{done.stderr}"
    return done.stdout

def module_name(path): return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


# --- metadata

def test_version_is_the_same_everywhere():
    found = re.search(r'^__version__ = "(.+)"$', (PACKAGE/"__init__.py").read_text(), re.M)
    assert found and found[1] == settings()["version"], "guided_opd/__init__.py and settings.ini name different versions"
    Version(settings()["version"])
    assert f"## [{settings()['version']}]" in (ROOT/"CHANGELOG.md").read_text()

def test_installed_metadata_is_that_of_settings():
    try: dist = metadata.distribution("guided-opd")
    except metadata.PackageNotFoundError: pytest.skip("needs the package installed (pip install -e .)")
    assert dist.version == settings()["version"]
    installed = {canonicalize_name(Requirement(r).name) for r in dist.requires}
    assert {canonicalize_name(r.name) for _, r in requirements()} <= installed, "settings.ini has changed since the package was installed: pip install -e '.[dev]'"

def test_settings_are_complete():
    cfg = settings()
    for key in "lib_name dist_name version description keywords author license min_python max_python requirements console_scripts".split():
        assert cfg.get(key), f"settings.ini says nothing about {key}"
    for group in "train envs viz unsloth dev docs".split(): assert cfg.get(f"{group}_requirements"), f"settings.ini has no {group}_requirements"
    assert "Apache License" in (ROOT/"LICENSE").read_text() and cfg["license"] == "Apache-2.0"

def test_no_requirement_twice():
    names = [canonicalize_name(r.name) for _, r in requirements()]
    assert not {n for n in names if names.count(n) > 1}

@pytest.mark.parametrize("group,req", requirements(), ids=lambda x: getattr(x, "name", x))
def test_requirement_is_bounded(group, req):
    ops = {s.operator for s in req.specifier}
    assert ops & {">=", "==", "~=", ">"}, f"{req} ({group}) has no lower bound"
    assert ops & {"<", "<=", "==", "~="}, f"{req} ({group}) has no upper bound"

def test_constraints_pin_exactly_and_fit_the_ranges():
    pins = {canonicalize_name(c.name): c for c in constraints()}
    assert len(pins) == len(constraints()), "a package is pinned twice"
    for c in pins.values():
        (spec,) = c.specifier
        assert spec.operator == "==" and not Version(spec.version).local, f"{c} must be an exact, public version"
        assert not re.match(r"nvidia|cuda|triton", c.name), f"{c}: CUDA packages are torch's own affair"
    for group, req in requirements():
        pin = pins.get(canonicalize_name(req.name))
        assert pin, f"{req} ({group}) is not pinned in constraints.txt: make constraints"
        (spec,) = pin.specifier
        assert req.specifier.contains(spec.version, prereleases=True), f"constraints.txt pins {pin}, but settings.ini asks for {req}"


# What a Colab notebook installs: our own groups, and pins of its own. Colab's torch stays.
COLAB = dict(torch="2.11.0", ipywidgets="7.7.1", plotly="5.24.1", anywidget="0.9.21")

@pytest.mark.parametrize("path", sorted((ROOT/"tutorials").glob("*.ipynb")), ids=lambda p: p.stem)
def test_what_a_tutorial_installs_lies_in_our_ranges(path):
    source = "\n".join("".join(c["source"]) for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code")
    lines = [l for l in source.splitlines() if "%pip" in l]
    assert lines and f"/tutorials/{path.name}" in path.read_text(), "a tutorial installs the package and has a Colab badge"
    ranges, pins = {canonicalize_name(r.name): r for _, r in requirements()}, {canonicalize_name(c.name): c for c in constraints()}
    groups = {g for g, _ in requirements()} | {"scienceworld", "all"}
    import shlex
    for word in (w for l in lines for w in shlex.split(l.split("%pip install", 1)[1], comments=True) if not w.startswith("-")):
        r = Requirement(word)
        name = canonicalize_name(r.name)
        if name == "guided-opd": assert r.extras <= groups; continue
        assert name not in ("torch", "torchvision", "torchaudio"), "Colab's own torch stays"
        if name not in ranges: continue              # what Unsloth wants on a GPU
        for spec in r.specifier:
            if spec.operator == "==": assert ranges[name].specifier.contains(spec.version) and pins[name].specifier.contains(spec.version), f"{word}: settings.ini asks for {ranges[name]}, tested is {pins[name]}"
            else: assert r.specifier == ranges[name].specifier, f"{word}: settings.ini asks for {ranges[name]}"

@pytest.mark.parametrize("name,version", COLAB.items())
def test_what_colab_has_lies_in_our_ranges(name, version):
    assert next(r for _, r in requirements() if r.name == name).specifier.contains(version)
    if name != "torch": assert f" {name}=={version}" in (ROOT/".github"/"workflows"/"ci.yml").read_text(), "the job that tests the widgets with Colab's packages"


# --- imports

def test_import_is_quick_and_light():
    code = ("import sys, time; t = time.perf_counter(); import guided_opd; t = time.perf_counter() - t; "
            f"print(t); print(*(m for m in {HEAVY!r} if m in sys.modules))")
    runs = [python("-c", code, cwd=ROOT).splitlines() for _ in range(3)]
    assert not any(run[1] for run in runs), f"`import guided_opd` also imports {runs[0][1]}"
    assert min(float(run[0]) for run in runs) < 0.3

@pytest.mark.parametrize("name", LIGHT)
def test_light_module_needs_only_the_core(name):
    if not (PACKAGE/f"{name}.py").exists(): pytest.skip(f"there is no guided_opd.{name} yet")
    # A None in sys.modules makes the import fail, as if the package were not installed.
    python("-c", f"import sys; sys.modules.update(dict.fromkeys({HEAVY + ['nbdev']!r})); import guided_opd.{name}", cwd=ROOT)

def guided_imports(path):
    "Modules of the package that `path` imports anywhere in it, with the line."
    name, here = module_name(path), module_name(path).split(".")[:-1]
    known = {module_name(p) for p in CODE} | {"envs"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import): found = [a.name.removeprefix("guided_opd.") for a in node.names if a.name.startswith("guided_opd.")]
        elif isinstance(node, ast.ImportFrom):
            if node.level: base = here[:len(here)+1-node.level] + (node.module.split(".") if node.module else [])
            elif (node.module or "").split(".")[0] == "guided_opd": base = node.module.split(".")[1:]
            else: continue
            # `from . import chat` names a module, `from .chat import Chat` something inside one
            found = [m if (m := ".".join([*base, a.name])) in known else ".".join(base) for a in node.names]
        else: continue
        yield from ((m, node.lineno) for m in found if m and m != name)

def place(name):
    "(floor, position on it) of a module"
    for i, floor in enumerate(FLOORS.split("\n")):
        names = floor.split()
        for wanted in (name, "envs.*" if name.startswith("envs.") else None):
            if wanted in names: return i, names.index(wanted)
    raise AssertionError(f"guided_opd.{name} stands on no floor: give it its place in FLOORS, above")

@pytest.mark.parametrize("path", CODE, ids=module_name)
def test_module_imports_only_from_below(path):
    name = module_name(path)
    for other, line in guided_imports(path):
        (floor, at), (below, other_at) = place(name), place(other)
        siblings = floor == below and at == other_at  # environments may share parts
        assert below < floor or (below == floor and other_at < at) or siblings, f"{path.name}:{line}: {name} imports {other}, which does not stand below it"

@pytest.mark.parametrize("path", CODE, ids=module_name)
def test_module_does_not_import_nbdev(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not any(n.split(".")[0] == "nbdev" for n in names), f"{path.name}:{node.lineno}: nbdev is a development tool"


# --- size

@pytest.mark.parametrize("path", CODE, ids=module_name)
def test_module_is_short(path):
    n = sum(bool(l.strip()) and not l.startswith(("# %%", "# AUTOGENERATED")) for l in path.read_text().splitlines())
    assert n <= 350, f"{path.name} exports {n} lines; split its notebook"

def test_no_big_files():
    if not (ROOT/".git").exists() or not shutil.which("git"): pytest.skip("needs a git checkout")
    out = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    big = {f: size for f in out.split("\0") if f and (ROOT/f).is_file() and (size := (ROOT/f).stat().st_size) > 6_000_000}
    assert not big


# --- notebooks and package agree

@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    "A copy of the repository in which only the notebooks were there, exported and cleaned anew."
    copy = tmp_path_factory.mktemp("repo")
    for name in ("settings.ini", "pyproject.toml"): shutil.copy(ROOT/name, copy)
    for name in ("nbs", "tutorials"):
        if (ROOT/name).is_dir(): shutil.copytree(ROOT/name, copy/name, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    (copy/"guided_opd").mkdir()
    shutil.copy(PACKAGE/"__init__.py", copy/"guided_opd")
    env = os.environ | {"PYTHONPATH": str(copy)}
    python("-c", "from nbdev.doclinks import nbdev_export; nbdev_export()", cwd=copy, env=env)
    for name in ("nbs", "tutorials"):
        if list((copy/name).rglob("*.ipynb")): python("-c", f"from nbdev.clean import nbdev_clean; nbdev_clean({name!r})", cwd=copy, env=env)
    return copy

def test_package_is_what_the_notebooks_export(exported):
    def files(root): return {str(p.relative_to(root)): p.read_text() for p in (root/"guided_opd").rglob("*.py")}
    here, anew = files(ROOT), files(exported)
    assert sorted(here) == sorted(anew), "modules without a notebook, or the other way round: make export"
    assert not [f for f in here if here[f] != anew[f]], "edit the notebook, not the module; then: make export"

@pytest.mark.parametrize("path", sorted((*(ROOT/"nbs").glob("*.ipynb"), *(ROOT/"tutorials").glob("*.ipynb"))), ids=lambda p: p.stem)
def test_what_a_notebook_shows_is_small_and_tells_nothing_of_a_machine(path):
    nb = json.loads(path.read_text())
    assert "widgets" not in nb["metadata"], "no widget state: make outputs"
    shown = json.dumps([c["outputs"] for c in nb["cells"] if c.get("outputs")])
    assert not re.search(r"/(home|Users|root|tmp|work)/\w", shown) and "\\u001b[31m" not in shown, "no paths of a machine, no errors: make outputs"
    assert len(shown) < 600_000

def test_notebooks_are_clean(exported):
    dirty = [str(p.relative_to(ROOT)) for folder in ("nbs", "tutorials") for p in sorted((ROOT/folder).rglob("*.ipynb"))
             if ".ipynb_checkpoints" not in p.parts and p.read_text() != (exported/p.relative_to(ROOT)).read_text()]
    assert not dirty, "make export cleans them"

@pytest.mark.parametrize("path", sorted(p for d in ("nbs", "tutorials") for p in (ROOT/d).rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts), ids=lambda p: p.stem)
def test_notebook_is_fit_for_git(path):
    nb = json.loads(path.read_text())
    assert "widgets" not in nb["metadata"], "the notebook carries widget state: save it without"
    assert not [o for c in nb["cells"] for o in c.get("outputs", []) if o["output_type"] == "error"], "the notebook carries an error as output"


# --- the tests' own rules

def test_ci_does_not_accept_needless_skips(tmp_path):
    shutil.copy(ROOT/"tests"/"conftest.py", tmp_path)
    (tmp_path/"test_it.py").write_text("import pytest\ndef test_gpu(): pytest.skip('needs a GPU')\ndef test_browser(): pytest.skip('needs chromium')\n")
    def run(ci): return subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path], cwd=tmp_path,
                                       capture_output=True, text=True, env=os.environ | {"GUIDED_OPD_CI": ci})
    assert "2 skipped" in run("0").stdout
    done = run("1")
    assert done.returncode == 1 and "1 failed, 1 skipped" in done.stdout, done.stdout


def test_readme_is_the_index_notebook():
    "README.md is rendered from nbs/index.ipynb (`make export`)."
    from nbconvert import MarkdownExporter
    rendered, _ = MarkdownExporter().from_filename(str(ROOT / "nbs" / "index.ipynb"))
    assert (ROOT / "README.md").read_text().strip() == rendered.strip(), "README.md differs from nbs/index.ipynb: run make export"
