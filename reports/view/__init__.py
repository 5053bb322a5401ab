"""What every report shows, as plain frozen values: built from records, laid out by renderers.

All text in a view is safe to print: control characters, bidirectional marks and lone surrogates of
token texts, prompts, settings and messages have been made visible (:mod:`reports.view.text`).
"""

from __future__ import annotations

from reports.view.card import Block, StopCard
from reports.view.run.header import HeaderView, header_view
from reports.view.run.step_line import RowLine, StepLine, step_line
from reports.view.run.summary import SummaryView, summary
from reports.view.stops.step import StepView, step_view
from reports.view.tokens import TokenView, token_view

__all__ = [
    "Block",
    "HeaderView",
    "RowLine",
    "StepLine",
    "StepView",
    "StopCard",
    "SummaryView",
    "TokenView",
    "header_view",
    "step_line",
    "step_view",
    "summary",
    "token_view",
]
