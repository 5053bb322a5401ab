"""Saved pages, one HTML file each that opens anywhere, offline: a recording, and two runs compared."""

from reports.html.comparison import render_comparison
from reports.html.page import render_page

__all__ = ["render_comparison", "render_page"]
