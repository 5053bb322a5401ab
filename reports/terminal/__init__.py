"""Views laid out for a terminal: nothing is computed here, only placed and coloured."""

from __future__ import annotations

from reports.terminal.header import render_header
from reports.terminal.report import TerminalReport
from reports.terminal.step_line import render_line
from reports.terminal.stops.card import render_card, render_step
from reports.terminal.summary import render_summary

__all__ = [
    "TerminalReport",
    "render_card",
    "render_header",
    "render_line",
    "render_step",
    "render_summary",
]
