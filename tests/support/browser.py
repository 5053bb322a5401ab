"""Chromium, as the tests and the scripts of the papers start it."""

from __future__ import annotations

import os
import shutil

from playwright.sync_api import Browser, Playwright

from tests.support.network import missing

_QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")


def chromium(playwright: Playwright) -> Browser:
    """A browser without a window.

    Args:
        playwright: the driver that ends it when it ends.
    """
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if path is None:
        missing("Chromium is not installed.")
    return playwright.chromium.launch(executable_path=path, args=list(_QUIET))
