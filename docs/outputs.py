"""Run notebooks and keep in them what their cells show, for readers on GitHub and on the site: python docs/outputs.py [NOTEBOOK ...]

Without names all of nbs/ and tutorials/, but the Colab tutorial, which needs its GPU. Kept are printed text, values, small HTML
and figures, these as SVG drawn by plotly.js in chromium; warnings, progress bars, widget state and what hidden cells show are not.
Cells that the tests skip (`#| slow`, `#| eval: false`) are skipped, and keep what they show. `make export` afterwards.
"""
import os, re, shutil, sys, tempfile
from importlib import resources
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from playwright.sync_api import sync_playwright
from tqdm import tqdm

ROOT = Path(__file__).parents[1]
PLOTLY, FIGURE = "application/vnd.plotly.v1+json", "image/svg+xml"
DRAW = "async f => decodeURIComponent((await Plotly.toImage({data: f.data, layout: f.layout}, {format: 'svg', width: f.layout.width || 760, height: f.layout.height || 420})).split(',').slice(1).join(','))"


def directives(cell): return [l[2:].strip() for l in cell.source.splitlines() if l.startswith("#|")]


def shown(output, draw):
    "What of an output stays, or None."
    if output.output_type == "stream": return output if output.name == "stdout" and output.text.strip() else None
    if output.output_type == "error" or "application/vnd.jupyter.widget-view+json" in output.data: return None
    data = output.data
    if PLOTLY in data: data = {FIGURE: draw(data[PLOTLY])}
    elif len(data.get("text/html", "")) > 20_000: data = {k: v for k, v in data.items() if k == "text/plain"}
    output.data = {k: v for k, v in data.items() if k in (FIGURE, "image/png", "text/html", "text/markdown", "text/latex", "text/plain")}
    return output if output.data else None


def run(path, draw):
    "Execute a notebook in place."
    nb = nbformat.read(path, as_version=4)
    skipped = [c for c in nb.cells if c.cell_type == "code" and {"slow", "eval: false"} & set(directives(c))]
    for c in skipped: c.metadata["tags"] = ["skip"]
    NotebookClient(nb, timeout=600, kernel_name="python3", coalesce_streams=True, resources=dict(metadata=dict(path=str(path.parent))), skip_cells_with_tag="skip").execute()
    private = re.compile("|".join(re.escape(str(p)) + "/?" for p in (ROOT, Path.home(), tempfile.gettempdir())))
    for c in nb.cells:
        if c.cell_type != "code" or c in skipped: continue
        c.execution_count = None
        c.outputs = [] if "hide" in directives(c) else [o for o in map(lambda o: shown(o, draw), c.outputs) if o]
        for o in c.outputs:
            if o.output_type == "execute_result": o.execution_count = None
            if o.output_type == "stream": o.text = private.sub("", o.text)
            else: o.data = {k: private.sub("", v) if isinstance(v, str) else v for k, v in o.data.items()}
    for c in skipped: c.metadata.pop("tags")
    nb.metadata.pop("widgets", None)
    nbformat.write(nb, path)


if __name__ == "__main__":
    os.environ |= dict(PLOTLY_RENDERER="plotly_mimetype", PYTHONPATH=str(ROOT), TQDM_DISABLE="1")
    paths = [Path(p).resolve() for p in sys.argv[1:]] or [p for folder in ("nbs", "tutorials") for p in sorted((ROOT/folder).glob("*.ipynb")) if "colab" not in p.name and p.name != "index.ipynb"]
    with sync_playwright() as p:
        page = p.chromium.launch(executable_path=shutil.which("chromium") or shutil.which("google-chrome"), args=["--no-sandbox", "--disable-dev-shm-usage"]).new_page()
        page.add_script_tag(content=(resources.files("plotly")/"package_data"/"plotly.min.js").read_text())
        failed = 0
        for path in (bar := tqdm(paths, unit="notebook")):
            bar.set_postfix_str(path.name)
            try: run(path, lambda figure: page.evaluate(DRAW, figure))
            except Exception as e: failed += 1; print(f"{path.name}: {type(e).__name__}: {str(e)[-600:]}", file=sys.stderr)
    sys.exit(bool(failed))
