"What mkdocs does not do by itself: order and name the sections of the site, leave nbdev's directives and hidden cells out of notebooks."
import json, os, re
from pathlib import Path

ORDER = {"Tutorials": "Tutorials", "Nbs": "Notebooks: the source"} # folder, as mkdocs titles it -> title; in the order of the site
LAST = ("changelog", "contributing")


def on_files(files, config):
    "Leave out links that lead nowhere, such as docs/tutorials before there are tutorials; show notebooks as a reader wants them."
    for f in list(files):
        if f.abs_src_path and not os.path.exists(f.abs_src_path): files.remove(f)
        elif f.src_path.endswith(".ipynb"): f.abs_src_path = str(_for_readers(Path(f.abs_src_path), Path(config["config_file_path"]).parent/".cache"/"notebooks"/f.src_path))
    return files


def _for_readers(notebook, copy):
    "A copy of a notebook without the cells that nbdev hides, without directives (`#| export`), and with links that lead to pages."
    nb, cells = json.loads(notebook.read_text()), []
    for cell in nb["cells"]:
        lines = "".join(cell["source"]).splitlines(keepends=True)
        if cell["cell_type"] == "code":
            said = {l[2:].strip() for l in lines if l.startswith("#|")}
            lines = [l for l in lines if not l.startswith("#|")]
            if "hide" in said or not "".join(lines).strip(): continue
        else:    # links of the repository become links of the site, where every page is a folder
            for link, there in ((r"\]\(\.\./docs/(\w+)\.md", r"](../../\1/"), (r"\]\(\.\./docs/", "](../../"), (r"\]\(([\w.]+)\.ipynb", r"](../\1/")): lines = [re.sub(link, there, l) for l in lines]
        cells.append(dict(cell, source=lines))
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_text(json.dumps(dict(nb, cells=cells)))
    return copy


def on_nav(nav, config, files):
    "Home first, then tutorials, notebooks, and what is about the project."
    def place(item):
        title = item.title or ""
        if item.is_section: return 1 + list(ORDER).index(title) if title in ORDER else len(ORDER) + 1
        return len(ORDER) + 2 if any(w in item.file.src_path.lower() for w in LAST) else 0
    nav.items.sort(key=place)
    for item in nav.items:
        if item.is_section: item.title = ORDER.get(item.title, item.title)
    pages = [p for item in nav.items for p in (_pages(item))]
    for before, page, after in zip([None, *pages], pages, [*pages[1:], None]): page.previous_page, page.next_page = before, after
    return nav


def _pages(item): return [item] if item.is_page else [p for child in item.children or [] for p in _pages(child)]
