"""How the runs of a page branch off one another, for its tree."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

from reports.html.pack import Json
from reports.recorded_run import Run
from reports.view.run.branches import BranchView, trunk_views
from reports.view.run.fork import fork_text
from reports.view.text import plain
from tracer.analysis.branches import RowPath, branches_of
from tracer.schema.run import RunHeader, TokenText

_FIRST_WORDS = 160
"""Characters of a branch that are shown; the whole text is a click away."""


def row_paths(header: RunHeader) -> tuple[RowPath, ...]:
    """The ways of the rows of a run, to be filled with its steps.

    Args:
        header: of the run.
    """
    return tuple(RowPath(header, row) for row in range(len(header.prompt)))


def branch_entries(runs: Sequence[Run], paths: Mapping[int, Sequence[RowPath]]) -> list[list[Json]]:
    """For each row the prompts with what branches off; nothing where no run is a fork.

    Args:
        runs: of the page.
        paths: of the rows of each run, by its number.
    """
    if all(run.header.fork is None for run in runs):
        return []
    return [_trunks(runs, paths, row) for row in range(max(map(len, paths.values())))]


def _trunks(runs: Sequence[Run], paths: Mapping[int, Sequence[RowPath]], row: int) -> list[Json]:
    # As the page does, a run with fewer rows shows its last one.
    here = {number: rows[min(row, len(rows) - 1)] for number, rows in paths.items()}
    by_number = {run.number: run for run in runs}
    found = branches_of(here, {run.number: run.end for run in runs})
    trunks = trunk_views(found, by_number, row)
    return [asdict(replace(trunk, run=_shortened(trunk.run))) for trunk in trunks]


def _shortened(branch: BranchView) -> BranchView:
    text = branch.text
    return replace(
        branch,
        text=text if len(text) <= _FIRST_WORDS else f"{text[:_FIRST_WORDS]}…",
        branches=tuple(map(_shortened, branch.branches)),
    )


def fork_entry(header: RunHeader, tokens: Mapping[int, TokenText]) -> Json | None:
    """Where a run branched off another; None for a run that is no fork.

    Args:
        header: of the run.
        tokens: the token texts that are known.
    """
    origin = header.fork
    if origin is None:
        return None
    return {
        "text": fork_text(origin, tokens),
        "run": origin.run,
        "step": origin.step,
        "elsewhere": None if origin.trace is None else shell_word(origin.trace),
    }


def shell_word(name: str) -> str:
    """The name of a file as a shell takes it.

    Args:
        name: of the file.
    """
    return shlex.quote(plain(name))
