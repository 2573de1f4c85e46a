"What mkdocs does not do by itself: order and name the sections of the site."
ORDER = {"Tutorials": "Tutorials", "Nbs": "Notebooks: the source"} # folder, as mkdocs titles it -> title; in the order of the site
LAST = ("changelog", "contributing")


def on_files(files, config):
    "Leave out links that lead nowhere, such as docs/tutorials before there are tutorials."
    import os
    for f in list(files):
        if f.abs_src_path and not os.path.exists(f.abs_src_path): files.remove(f)
    return files


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
