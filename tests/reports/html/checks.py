"""What every page has to hold, whatever it shows."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

WIDE = "document.documentElement.scrollWidth - innerWidth"
"""By how many pixels a page is wider than the window, above 0 if it scrolls."""

_RULES = ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"]


def serious_barriers(page: Page) -> list[tuple[str, list[str]]]:
    """Serious and critical findings of axe-core, with some of the elements."""
    # Without the list of what is in order, which is twenty times as long.
    found = Axe().run(page, options={"runOnly": _RULES, "resultTypes": ["violations"]})
    return [
        (item["id"], [node["html"][:160] for node in item["nodes"][:3]])
        for item in found.response["violations"]
        if item["impact"] in ("serious", "critical")
    ]
