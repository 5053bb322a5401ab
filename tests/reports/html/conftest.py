"""A browser for the tests of pages, and pages that watch what happens in them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.network import missing

_QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")


@dataclass
class Opened:
    """A page in the browser, with all that it asked for and complained about."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def open(self, path: Path, at: str = "") -> Page:
        """Open a file and wait until its first step is shown."""
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(f"{path.as_uri()}{at}")
        self.page.wait_for_selector("html[data-shown]", state="attached")
        return self.page

    def shown(self, wanted: str) -> None:
        """Wait until ``run/step/row/stop`` is shown."""
        self.page.wait_for_selector(f'html[data-shown="{wanted}"]', state="attached")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if path is None:
        missing("Chromium is not installed.")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=list(_QUIET))
        yield started
        started.close()


@pytest.fixture
def opened(browser: Browser) -> Iterator[Opened]:
    """A fresh page; nothing may leave it and nothing may go wrong in it."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, bypass_csp=False)
    view = Opened(context.new_page())
    yield view
    context.close()
    assert [url for url in view.requests if not url.startswith(("file:", "data:"))] == []
    assert view.complaints == []
