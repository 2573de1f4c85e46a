"A real browser for the tests: a page that remembers what it said and what it asked for."
import base64, json, shutil, zlib
from contextlib import contextmanager
from pathlib import Path

import pytest

BROWSERS = "chromium", "chromium-browser", "google-chrome"
HOSTILE = ["</script><script>window.hacked = 1</script>", "<img src=x onerror='window.hacked = 2'>", "<!--<script>", "🦆 é \u2028 \u2029 \ufffd", "\u202eright to left אבג", "a\"b'c`${window.hacked = 3}", "x"*20_000]


@contextmanager
def chromium():
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not path: pytest.skip("needs chromium")
    with sync_api.sync_playwright() as p:
        b = p.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"], timeout=120_000)
        yield b
        b.close()


class Page:
    "An offline page in the browser."
    def __init__(self, browser, url, ready=".guided-opd", **settings):
        # the network is cut: what a page from disk asks for beyond itself fails, and is remembered
        self.context = browser.new_context(offline=True, **settings)
        self.page, self.said, self.asked = self.context.new_page(), [], []
        self.page.on("console", lambda m: self.said.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda e: self.said.append(str(e)))
        self.page.on("dialog", lambda d: (self.said.append("dialog"), d.dismiss()))
        self.page.on("request", lambda r: self.asked.append(r.url) if not r.url.startswith(("data:", "blob:")) else None)
        self.url = Path(url).resolve().as_uri()
        self.page.set_default_timeout(60_000)  # a busy machine is no failure
        self.page.goto(self.url, wait_until="commit")
        self.page.wait_for_selector(ready)
    def check(self):
        "No error, no network, nothing of the hostile text executed."
        assert not self.said
        assert self.asked == [self.url]
        assert self.page.evaluate("window.hacked") is None
    def trajectory(self, i): return json.loads(zlib.decompress(base64.b64decode(self.page.text_content(f"#guided-opd-{i}"))))
    def count(self, selector): return self.page.locator(selector).count()
    def drawn(self):
        "Number of panels with data in them, once every figure in sight is there."
        for _ in range(1200):
            # (not `wait_for_function`: the page's policy forbids its eval)
            if self.page.evaluate("[...document.querySelectorAll('div.plot')].filter(p => p.checkVisibility()).every(p => p.drawn)"): break
            self.page.wait_for_timeout(50)
        else: raise AssertionError("a figure was not drawn")
        return self.count("div.plot .subplot .trace")
    def turn(self): return self.page.locator(".lanes [role=option][aria-selected=true]").get_attribute("data-turn")
    def close(self): self.context.close()
