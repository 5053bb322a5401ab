"""The saved report: one HTML file that opens anywhere, offline, and steps through a recording."""

from reports.html.output import check_target, write_page
from reports.html.page import render_page

__all__ = ["check_target", "render_page", "write_page"]
