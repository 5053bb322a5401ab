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
        number: number of the run.
        step: its first step of its own.
        origin: where it branches off, and what it does otherwise than its parent; empty for a run that is no
            fork.
        token: the token of its first step; None where none is known.
        first: how probable that token was; empty for a run that is no fork.
        figures: how many tokens, how probable they were, and how it came to its end.
        text: its tokens from its first step on.
        branches: the runs that branch off it.
    """

    number: int
    step: int
    origin: str
    token: int | None
    first: str
    figures: tuple[str, ...]
    text: str
    branches: tuple[BranchView, ...]


@dataclass(frozen=True)
class TrunkView:
    """A prompt, and the run from which others branch off.

    Attributes:
        prompt: the prompt in short.
        run: the run.
    """

    prompt: str
    run: BranchView


def trunk_views(found: Sequence[Branch], runs: Mapping[int, Run], row: int) -> tuple[TrunkView, ...]:
    """The runs that are no forks, each below its prompt.

    Args:
        found: how the runs branch.
        runs: the runs, by number.
        row: row of the batch; the last one of a run that has fewer.
    """
    return tuple(TrunkView(_prompt(runs[each.number], row), _view(each, runs, below=False)) for each in found)


def _prompt(run: Run, row: int) -> str:
    prompt = run.header.prompt[min(row, len(run.header.prompt) - 1)]
    text = plain_lines(prompt.text).replace("\n", " ") if prompt.text is not None else ""
    shown = text if len(text) <= _PROMPT else f"…{text[-_PROMPT:]}"
    length = plural(len(prompt.token_ids) - prompt.padding, "token")
    return f"prompt: {shown} ({length})" if shown else f"prompt of {length}"


def _view(branch: Branch, runs: Mapping[int, Run], *, below: bool) -> BranchView:
    run = runs[branch.number]
    return BranchView(
        number=branch.number,
        step=branch.step,
        origin=_origin(run, below=below),
        token=branch.token,
        first="" if run.header.fork is None else _first(branch),
        figures=tuple(_figures(branch)),
        text=_text(branch.tokens, run.tokens),
        branches=tuple(_view(each, runs, below=True) for each in branch.branches),
    )


def _origin(run: Run, *, below: bool) -> str:
    origin = run.header.fork
    if origin is None:
        return ""
    if below:
        return f"from step {origin.step}: {changes_text(origin, run.tokens)}"
    return fork_text(origin, run.tokens)


def _first(branch: Branch) -> str:
    if branch.probability is None:
        return "no token of its own was recorded"
    return f"p {probability(branch.probability)} of the first"


def _figures(branch: Branch) -> Iterator[str]:
    yield plural(len(branch.tokens), "token")
    if branch.log_probability is None:
        yield "no log p in all: a p is 0 or was not recorded"
    else:
        yield f"log p {branch.log_probability:.2f} in all"
    yield _end(branch)


def _end(branch: Branch) -> str:
    if branch.end is None:
        return "no end record"
    if branch.stopped_by:
        return f"ended by {', '.join(map(plain, branch.stopped_by))}"
    if branch.end.ended_by is not None:
        return f"ended by a break: {plain(branch.end.ended_by)}"
    if branch.end.status is not RunStatus.COMPLETE:
        return str(branch.end.status.value)
    return "what ended it was not recorded"


def _text(tokens: Sequence[int], texts: Mapping[int, TokenText]) -> str:
    views = sequence_views(tokens, texts)
    return plain("".join(each.joined or each.text or f"⟨{each.id}⟩" for each in views), limit=1_000_000)
