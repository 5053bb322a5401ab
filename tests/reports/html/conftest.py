"""A browser for the tests of pages, and pages that watch what happens in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Playwright

from tests.support.browser import chromium


@dataclass
class Opened:
    """A page in the browser, with all that it asked for and complained about."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def open(self, path: Path, at: str = "") -> Page:
        """Open a file that this test has not opened yet, and wait until its first step is shown."""
        self.page.goto(f"{path.as_uri()}{at}")
        self.page.wait_for_selector("html[data-shown]", state="attached")
        return self.page

    def shown(self, wanted: str) -> None:
        """Wait until ``run/step/row/stop`` is shown."""
        self.page.wait_for_selector(f'html[data-shown="{wanted}"]', state="attached")


@pytest.fixture(scope="session")
def window(driver: Playwright) -> Iterator[Page]:
    """A window of Chromium for all tests; a new one is a new process, which takes longer than a test does."""
    started = chromium(driver)
    yield started.new_context(bypass_csp=False).new_page()
    started.close()


@pytest.fixture
def opened(window: Page) -> Iterator[Opened]:
    """A page without anything of the one before; nothing may leave it and nothing may go wrong in it."""
    window.goto("about:blank")
    window.set_viewport_size({"width": 1280, "height": 900})
    window.emulate_media(media="null", color_scheme="light")
    window.mouse.move(0, 0)
    view = Opened(window)
    listeners: dict[Any, Callable[[Any], None]] = {
        "request": lambda request: view.requests.append(request.url),
        "console": lambda message: view.complaints.append(message.text),
        "pageerror": lambda error: view.complaints.append(str(error)),
    }
    for event, listener in listeners.items():
        window.on(event, listener)
    yield view
    for event, listener in listeners.items():
        window.remove_listener(event, listener)
    assert [url for url in view.requests if not url.startswith(("file:", "data:"))] == []
    assert view.complaints == []
