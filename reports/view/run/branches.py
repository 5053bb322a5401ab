"""How the runs of a trace branch off one another, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from reports.recorded_run import Run
from reports.view.figures import plural, probability
from reports.view.run.fork import changes_text, fork_text
from reports.view.text import plain, plain_lines
from reports.view.tokens import sequence_views
from tracer.analysis.branches import Branch
from tracer.schema.run import RunStatus, TokenText

_PROMPT = 200
"""Characters of a prompt that are shown; its end tells prompts of a chat apart."""


@dataclass(frozen=True)
class BranchView:
    """A run, from where it is its own.

    Attributes:
        title: which run, what it does otherwise than its parent, and how it came to its end.
        text: its tokens from there on.
        branches: the runs that branch off it.
    """

    title: str
    text: str
    branches: tuple[BranchView, ...]


def branch_views(found: Sequence[Branch], runs: Mapping[int, Run], row: int) -> tuple[BranchView, ...]:
    """The runs that are no forks, each below its prompt.

    Args:
        found: how the runs branch.
        runs: the runs, by number.
        row: row of the batch.
    """
    return tuple(
        BranchView(_prompt(runs[each.number], row), "", (_view(each, runs, below=False),)) for each in found
    )


def _prompt(run: Run, row: int) -> str:
    prompt = run.header.prompt[row]
    text = plain_lines(prompt.text).replace("\n", " ") if prompt.text is not None else ""
    shown = text if len(text) <= _PROMPT else f"…{text[-_PROMPT:]}"
    length = plural(len(prompt.token_ids) - prompt.padding, "token")
    return f"prompt: {shown} ({length})" if shown else f"prompt of {length}"


def _view(branch: Branch, runs: Mapping[int, Run], *, below: bool) -> BranchView:
    run = runs[branch.number]
    return BranchView(
        title="; ".join(_title(branch, run, below=below)),
        text=_text(branch.tokens, run.tokens),
        branches=tuple(_view(each, runs, below=True) for each in branch.branches),
    )


def _title(branch: Branch, run: Run, *, below: bool) -> Iterator[str]:
    origin = run.header.fork
    if origin is None:
        yield f"run {branch.number}"
    elif below:
        yield f"run {branch.number}, from step {origin.step}: {changes_text(origin, run.tokens)}"
    else:
        yield f"run {branch.number}, {fork_text(origin, run.tokens)}"
    yield plural(len(branch.tokens), "token")
    if origin is not None and branch.probability is not None:
        yield f"p {probability(branch.probability)} of the first"
    if branch.log_probability is not None:
        yield f"log p {branch.log_probability:.2f} in all"
    if branch.end is None:
        yield "no end record"
    elif branch.end.status is not RunStatus.COMPLETE:
        yield branch.end.status.value


def _text(tokens: Sequence[int], texts: Mapping[int, TokenText]) -> str:
    views = sequence_views(tokens, texts)
    return plain("".join(each.joined or each.text or f"⟨{each.id}⟩" for each in views), limit=1_000_000)
