"""What a page holds: an index of its runs, token texts, and for each run the sections of its views.

A view of the page is one module of ``assets/`` and one class here or beside here that collects its data from
the steps (:class:`reports.html.runs.Collector`). :data:`COLLECTORS` lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from reports.html.attention import AttentionData
from reports.html.columns import CacheData, ModuleData, OverviewData
from reports.html.facts import index_entry
from reports.html.lens import LensData
from reports.html.pack import Section
from reports.html.runs import Collector, Run
from reports.html.steps import StepData
from reports.view.run.tally import Tally
from reports.view.text import plain
from reports.view.tokens import token_view
from tracer.schema.run import TokenText

COLLECTORS: tuple[Callable[[str, Run, Mapping[int, TokenText]], Collector], ...] = (
    OverviewData,
    ModuleData,
    CacheData,
    LensData,
    AttentionData,
    StepData,
)
"""Each is called with the prefix of its sections' names, the run and the token texts that are known."""


def page_sections(runs: Sequence[Run], *, source: str, program: str, redacted: bool) -> Iterator[Section]:
    """All sections of a page, the index first.

    Args:
        runs: the runs to show.
        source: what the trace is called.
        program: name and version of the program that makes the page.
        redacted: the runs are without texts, which the page has to say.
    """
    texts: dict[int, TokenText] = {}
    index: list[dict[str, Any]] = []
    sections: list[Section] = []
    for run in runs:
        texts.update(run.tokens)
        facts, found = _run_sections(run, texts)
        index.append(facts)
        sections += found
        texts.update(run.tokens)  # a redacted run numbers its tokens as they appear
    yield Section("index", {"source": plain(source), "program": program, "redacted": redacted, "runs": index})
    yield token_section(texts)
    yield from sections


def _run_sections(run: Run, texts: Mapping[int, TokenText]) -> tuple[dict[str, Any], list[Section]]:
    header, steps = run.header, run.steps
    prefix = f"run{run.number}"
    collectors = [make(prefix, run, texts) for make in COLLECTORS]
    tally = Tally()
    for step in steps:
        tally.add(step)
        for collector in collectors:
            collector.add(step)
    sections = [section for collector in collectors for section in collector.sections()]
    return index_entry(run.number, header, run.end, run.stamps, tally, texts), sections


def token_section(texts: Mapping[int, TokenText]) -> Section:
    """Labels of all tokens that a page may mention; everything invisible in them has been made visible.

    Args:
        texts: texts of these tokens.
    """
    views = [token_view(token, texts) for token in texts]
    return Section(
        "tokens",
        {
            "ids": [view.id for view in views],
            "labels": [view.label for view in views],
            "special": [view.id for view in views if view.special],
        },
    )
