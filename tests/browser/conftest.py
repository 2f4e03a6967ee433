"""A real Chromium, pages that report what went wrong in them, and axe-core."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sizeforensics.report import html

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
JENKINS = "sandbox allow-same-origin; default-src 'none'; img-src 'self'; style-src 'self';"
"""What Jenkins sends with every file of a build (hudson.model.DirectoryBrowserSupport.CSP)."""
_LISTEN = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
"""


def unavailable(reason):
    """Continuous integration must have everything; elsewhere a missing tool is no failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def chromium():
    """The browser; one for all tests of a process."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        unavailable(f"no browser: none of {', '.join(NAMES)} is installed (apt-get install chromium)")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        unavailable("playwright is not installed (pip install -e '.[dev]')")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def axe(tmp_path_factory):
    """The source of axe-core, from the npm registry; only tests use it."""
    folder = tmp_path_factory.mktemp("axe")
    npm = shutil.which("npm")
    if npm is None:
        unavailable("npm is not installed, so there is no axe-core")
    done = subprocess.run(
        [npm, "pack", "--silent", "axe-core@4"], cwd=folder, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    if done.returncode:
        unavailable(f"npm cannot fetch axe-core: {done.stderr.strip()[-300:]}")
    with tarfile.open(folder / done.stdout.split()[-1]) as archive:
        return archive.extractfile("package/axe.min.js").read().decode()


@dataclass
class Opened:
    """A page, and everything it did that it must not do."""

    page: object
    requests: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    def complaints(self):
        violations = self.page.evaluate("window.violations")
        return [*self.requests, *self.said, *self.dialogs, *violations]


@pytest.fixture
def show(chromium, tmp_path):
    """Open the HTML of a report in a browser of its own; ``options`` are those of a context.

    ``policy`` is a Content-Security-Policy that a server sends along, ``place`` what follows the
    address, ``prepare`` is called with the page before it opens anything.
    """
    contexts = []
    written: dict[str, Path] = {}

    def open_report(report, *, width=1280, policy="", place="", prepare=None, **options):
        text = report if isinstance(report, str) else "".join(html.render(report))
        path = written.setdefault(text, tmp_path / f"report-{len(written)}.html")
        path.write_text(text, encoding="utf-8")
        context = chromium.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        context.add_init_script(_LISTEN)
        page = context.new_page()
        opened = Opened(page)
        address = path.as_uri()
        if policy:
            address = "https://jenkins.example/report.html"
            headers = {"Content-Security-Policy": policy, "Content-Type": "text/html; charset=utf-8"}
            page.route("**/*", lambda route: route.fulfill(body=text, headers=headers))
        page.on("request", lambda request: request.url.split("#")[0] == address or opened.requests.append(request.url))
        page.on("console", lambda message: opened.said.append(message.text))
        page.on("pageerror", lambda error: opened.said.append(str(error)))
        page.on("dialog", lambda dialog: (opened.dialogs.append(dialog.message), dialog.dismiss()))
        if prepare:
            prepare(page)
        page.goto(address + place)
        if options.get("java_script_enabled", True) and not policy:
            page.wait_for_selector("html[data-ready]", timeout=20_000)
        return opened

    yield open_report
    for context in contexts:
        context.close()
