"""Saved pages, one HTML file each that opens anywhere, offline: a recording, and two runs compared."""

from reports.html.comparison import render_comparison
from reports.html.output import check_target, write_page
from reports.html.page import render_page

__all__ = ["check_target", "render_comparison", "render_page", "write_page"]
