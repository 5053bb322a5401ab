"""The branches in words: where each begins, and how it came to its end."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from reports.view.run.branches import BranchView, trunk_views
from tests.support.synthetic import synthetic_end, synthetic_header, synthetic_steps, synthetic_tokens
from tests.tracer.analysis.runs import MemoryRun
from tracer.analysis.branches import branches
from tracer.schema.fork import ForkOrigin
from tracer.schema.run import RunEnd, RunStatus
from tracer.schema.step import Step

FORK = ForkOrigin(run=1, step=3, row=0, token=43)


def run(fork: ForkOrigin | None, steps: list[Step] | None = None, end: RunEnd | None = None) -> MemoryRun:
    header = synthetic_header(layers=1).model_copy(update={"fork": fork})
    made = list(synthetic_steps(header, 5)) if steps is None else steps
    return MemoryRun(header, made, synthetic_tokens(), end)


def fork_view(fork: MemoryRun) -> BranchView:
    """The fork as a branch of another run."""
    whole = run(None)
    runs = {1: replace(whole, end=synthetic_end(whole.header, 5)), 2: fork}
    (trunk,) = trunk_views(branches(runs), runs, 0)  # type: ignore[arg-type]
    (found,) = trunk.run.branches
    return found


def unstopped(steps: list[Step]) -> list[Step]:
    """The steps without the answers of the criteria."""
    return [replace(step, head=step.head.model_copy(update={"criteria": ()})) for step in steps]


@pytest.mark.parametrize(
    ("status", "ended_by", "said"),
    [
        (RunStatus.INTERRUPTED, None, "interrupted"),
        (RunStatus.FAILED, None, "failed"),
        (RunStatus.INTERRUPTED, "entropy > 4\n", "ended by a break: entropy > 4⏎"),
        (RunStatus.COMPLETE, None, "what ended it was not recorded"),
    ],
)
def test_an_end_without_a_criterion(status: RunStatus, ended_by: str | None, said: str) -> None:
    steps = unstopped(run(FORK).steps)  # type: ignore[arg-type]
    end = synthetic_end(synthetic_header(), 5).model_copy(update={"status": status, "ended_by": ended_by})
    assert fork_view(run(FORK, steps, end)).figures[-1] == said


def test_an_end_by_a_criterion_and_none() -> None:
    end = synthetic_end(synthetic_header(), 5)
    assert fork_view(run(FORK, None, end)).figures[-1] == "ended by EosTokenCriteria"
    assert fork_view(run(FORK)).figures[-1] == "no end record"


def test_a_fork_that_ended_before_its_own_first_step() -> None:
    view = fork_view(run(FORK, list(synthetic_steps(synthetic_header(layers=1), 2))))
    assert (view.token, view.first, view.text) == (None, "no token of its own was recorded", "")
    assert view.figures[0] == "0 tokens"


def test_a_step_without_scores_leaves_the_sum_unknown() -> None:
    steps = list(run(FORK).steps)
    known = fork_view(run(FORK, steps))
    assert math.isfinite(float(known.figures[1].split()[2]))
    # Before the fork what counts is what the parent chose; from there on, what the fork did.
    assert fork_view(run(FORK, [replace(steps[0], scores=None), *steps[1:]])).figures == known.figures
    unknown = fork_view(run(FORK, [*steps[:3], replace(steps[3], scores=None), steps[4]]))
    assert unknown.figures[:2] == ("2 tokens", "no log p in all: a p is 0 or was not recorded")


def test_the_token_of_a_fork_has_a_number_where_it_has_no_text() -> None:
    assert fork_view(run(FORK)).origin == "from step 3: chose ' word43' (43)"
    textless = replace(run(FORK), tokens={})
    assert fork_view(textless).origin == "from step 3: chose token 43"
    assert fork_view(textless).text == "⟨13⟩⟨14⟩⟨15⟩"
