"""verify says yes to a whole run only: steps against ids, choices against ids, scores, capture errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.command import call_main
from tests.support.synthetic import synthetic_end
from tests.tracer.tracefile.samples import header, some_tokens, steps, with_faults
from tracer.schema.checks import Check
from tracer.schema.run import RunEnd, RunStatus
from tracer.schema.step import Step
from tracer.tracefile import TraceWriter, check_file

ROWS = 2


def written(path: Path, recorded: list[Step], end: RunEnd) -> tuple[str, ...]:
    with TraceWriter(path) as writer:
        writer.begin_run(header(ROWS), some_tokens())
        for step in recorded:
            writer.write_step(step)
        writer.end_run(1, end)
    report = check_file(path)
    assert report.ok
    assert report.whole is (not report.runs[0].gaps)
    return report.runs[0].gaps


def ending(count: int, **changes: object) -> RunEnd:
    return synthetic_end(header(ROWS), count).model_copy(update=changes)


def without_scores(step: Step) -> Step:
    return replace(step, scores=None)


def other_choice(step: Step) -> Step:
    assert step.scores is not None
    chosen = np.array(step.scores.chosen)
    chosen[1] = 77
    return replace(step, scores=replace(step.scores, chosen=chosen))


def test_a_whole_run(tmp_path: Path) -> None:
    assert written(tmp_path / "run.trace", steps(4, rows=ROWS), ending(4)) == ()


@pytest.mark.parametrize(
    ("count", "end", "gap"),
    [
        (0, ending(5, steps=0), "0 steps for 5 generated tokens"),
        (0, ending(0), "it ended without a step"),
        (0, ending(0, sequences=()), "it ended without a step"),
        (4, ending(2, steps=4), "4 steps for 2 generated tokens"),
        (4, ending(6, steps=4), "4 steps for 6 generated tokens"),
        (4, ending(4, sequences=()), "its end record has no ids"),
        (4, ending(4, sequences=((1,) * 33,) * 2), "its ids do not begin with its prompt"),
    ],
)
def test_steps_and_ids_that_do_not_fit(tmp_path: Path, count: int, end: RunEnd, gap: str) -> None:
    assert gap in written(tmp_path / "run.trace", steps(count, rows=ROWS), end)


@pytest.mark.parametrize(
    ("change", "gap"),
    [
        (without_scores, "the scores of 3 of 3 steps were not recorded"),
        (other_choice, "3 choices are not the run's ids, the first in step 1, row 1: token 77, not 11"),
        (with_faults, "6 capture errors, the first in step 1: ValueError: broken"),
    ],
)
def test_steps_that_are_not_whole(tmp_path: Path, change: Callable[[Step], Step], gap: str) -> None:
    assert written(tmp_path / "run.trace", [*map(change, steps(3, rows=ROWS))], ending(3)) == (gap,)


@pytest.mark.parametrize("status", [RunStatus.INTERRUPTED, RunStatus.FAILED])
@pytest.mark.parametrize(("tokens", "fits"), [(2, True), (3, True), (4, True), (5, False), (1, False)])
def test_a_run_that_was_cut_short_may_have_a_token_more_or_less(
    tmp_path: Path, status: RunStatus, tokens: int, fits: bool
) -> None:
    *first, last = steps(3, rows=ROWS)
    recorded = [*first, without_scores(last)]
    gaps = written(tmp_path / "run.trace", recorded, ending(tokens, steps=3, status=status))
    assert gaps == (() if fits else (f"3 steps for {tokens} generated tokens",))


def test_the_command_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.trace"
    written(path, [], ending(5, steps=0))
    done = call_main(capsys, "verify", path)
    assert done.returncode == 7
    assert "! run 1: 0 steps; complete" in done.stdout
    assert "not whole: 0 steps for 5 generated tokens" in done.stdout
    assert done.stderr.count("\n") == 1
    assert "is intact but run 1 is not whole: 0 steps for 5 generated tokens" in done.stderr


def test_what_became_of_the_checks_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.trace"
    checks = (
        Check.not_made("cache", "the slots of a MambaCache are no positions", total=2),
        Check.made("finite", holds=False, checked=3, total=3),
        Check.made("modules", holds=True, checked=3, total=3),
    )
    with TraceWriter(path) as writer:
        writer.begin_run(header())
        for step in steps(2):
            head = step.head.model_copy(update={"checks": checks})
            writer.write_step(replace(step, head=head), some_tokens())
        writer.end_run(1, synthetic_end(header(), 2))
    call = call_main(capsys, "verify", path)
    assert "not checked in 2 steps: cache: the slots of a MambaCache are no positions" in call.stdout
    assert "check failed in 2 steps: finite" in call.stdout
    assert "modules" not in call.stdout
