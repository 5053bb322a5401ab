"""The data of a recording's page: an index of its runs, token texts, and the sections of each run's views.

A view of the page is one module of ``assets/recording/`` and one class of this folder that collects its data
from the steps (:class:`reports.html.sections.collector.Collector`). :data:`COLLECTORS` lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from reports.html.pack import Json, Section
from reports.html.sections.attention import AttentionData
from reports.html.sections.branches import branch_entries, row_paths, shell_word
from reports.html.sections.collector import Collector
from reports.html.sections.histories import CacheData, ModuleData, OverviewData
from reports.html.sections.index_entry import index_entry
from reports.html.sections.lens import LensData
from reports.html.sections.steps import StepData
from reports.recorded_run import Run
from reports.view.run.totals import RunTotals
from reports.view.spelled_bytes import spelled_bytes
from reports.view.text import plain
from reports.view.tokens import token_view
from tracer.analysis.branches import RowPath
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
        redacted: whether the runs are redacted; the page says so.
    """
    texts: dict[int, TokenText] = {}
    index: list[Json] = []
    sections: list[Section] = []
    paths: dict[int, Sequence[RowPath]] = {}
    for run in runs:
        texts.update(run.tokens)
        paths[run.number] = row_paths(run.header)
        entry, found = _run_sections(run, texts, paths[run.number])
        index.append(entry)
        sections += found
        texts.update(run.tokens)  # a redacted run numbers its tokens as they appear
    yield Section(
        "index",
        {
            "source": plain(source),
            "file": shell_word(source),
            "program": program,
            "redacted": redacted,
            "runs": index,
            "branches": branch_entries(runs, paths),
        },
    )
    yield token_section(texts)
    yield from sections


def _run_sections(
    run: Run, texts: Mapping[int, TokenText], paths: Sequence[RowPath]
) -> tuple[Json, list[Section]]:
    collectors = [make(f"run{run.number}", run, texts) for make in COLLECTORS]
    totals = RunTotals()
    for step in run.steps:
        totals.add(step)
        for collector in collectors:
            collector.add(step)
        for path in paths:
            path.add(step)
    sections = [section for collector in collectors for section in collector.sections()]
    return index_entry(run, totals, texts), sections


def token_section(texts: Mapping[int, TokenText]) -> Section:
    """Labels of all tokens that a page may mention, and the bytes of those that are no whole characters.

    Args:
        texts: texts of these tokens; in the labels everything invisible is made visible.
    """
    views = [token_view(token, texts) for token in texts]
    return Section(
        "tokens",
        {
            "ids": [view.id for view in views],
            "labels": [view.label for view in views],
            "special": [view.id for view in views if view.special],
            "bytes": {
                token: raw.hex() for token in texts if (raw := spelled_bytes(texts[token])) is not None
            },
        },
    )
