"""A loop that asks one step late whether it is over, as on Apple's GPUs: what it undoes is no step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.generation import utils

from tests.releases.architectures import architecture
from tests.support.models import GREEDY, SAMPLING, batch, generate
from tests.support.walkthrough import HALTS, ONLY_SAMPLING
from tracer import open_trace, trace
from tracer.tracefile import check_file

pytestmark = pytest.mark.skipif(
    not hasattr(utils, "DeferredStopCheck"), reason="this release asks at the end of each step"
)

PROMPT, STEPS, MOST = 6, 9, 12


class _Event:
    """Nothing has to be waited for on a CPU."""

    def __init__(self, **_: Any) -> None: ...

    def record(self) -> None: ...

    def synchronize(self) -> None: ...


@pytest.fixture
def undone(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Ask late on a CPU too; the numbers of steps that runs have undone."""
    check: Any = utils.DeferredStopCheck
    supported, finish, counts = check.is_supported, check.finish, list[int]()

    def counted(self: Any) -> int:
        counts.append(finish(self))
        return counts[-1]

    monkeypatch.setattr(
        check,
        "is_supported",
        staticmethod(lambda _, *more, **named: supported(torch.device("mps"), *more, **named)),
    )
    monkeypatch.setattr(check, "finish", counted)
    monkeypatch.setattr(torch, "Event", _Event)
    return counts


def over(ids: torch.Tensor, _scores: Any, **_: Any) -> torch.Tensor:
    """Row 1 ends early, all others with the ninth token."""
    done = torch.full((len(ids),), ids.shape[1] >= PROMPT + STEPS)
    done[1:2] |= ids.shape[1] >= PROMPT + 3
    return done


@pytest.mark.parametrize("settings", [GREEDY, SAMPLING], ids=["greedy", "sampling"])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("name", ["qwen2", "gemma3"])
def test_an_undone_step_is_not_recorded(
    name: str, rows: int, settings: dict[str, Any], undone: list[int], tmp_path: Path
) -> None:
    model, path = architecture(name), tmp_path / "run.trace"
    early = {**settings, "stopping_criteria": [over], "max_new_tokens": MOST}
    whole = {**settings, "max_new_tokens": MOST}
    expected = [generate(model, batch(rows), **each) for each in (early, whole)]
    with trace(model, path=path):
        found = [generate(model, batch(rows), **each) for each in (early, whole)]
    assert undone == [1, 0, 1, 0]
    assert check_file(path).ok
    with open_trace(path) as recording:
        for run, mine, theirs, steps in zip(recording.runs, found, expected, (STEPS, MOST), strict=True):
            assert torch.equal(mine.sequences, theirs.sequences)
            assert all(torch.equal(a, b) for a, b in zip(mine.logits, theirs.logits, strict=True))
            assert [step.number for step in run.steps] == [*range(1, steps + 1)]
            assert not any(step.head.errors or step.head.violations for step in run.steps)
            assert run.end is not None
            assert (run.end.status, run.end.steps) == ("complete", steps)
            assert run.end.sequences == tuple(map(tuple, mine.sequences.tolist()))
            chosen = [
                [choice.token for step in run.steps if (choice := step.choice(row)) is not None]
                for row in range(rows)
            ]
            assert chosen == mine.sequences[:, PROMPT:].tolist()


def test_nobody_halts_in_an_undone_step(undone: list[int], tmp_path: Path) -> None:
    model, seen = architecture("qwen2"), list[tuple[int, str | None]]()
    settings = {**GREEDY, "stopping_criteria": [over], "max_new_tokens": MOST}
    with trace(
        model,
        path=tmp_path / "run.trace",
        stops="all",
        stop_steps="all",
        on_stop=lambda halt: seen.append((halt.step, halt.stop)),
    ):
        generate(model, batch(), **settings)
    assert undone == [1]
    passed = [stop for stop in HALTS if stop not in ONLY_SAMPLING]
    assert seen == [(step, stop) for step in range(1, STEPS + 1) for stop in passed]


def test_a_condition_that_ends_the_run_ends_it_there(undone: list[int], tmp_path: Path) -> None:
    model, path = architecture("qwen2"), tmp_path / "run.trace"
    with trace(model, path=path, breaks=["step == 4"], on_break="stop"):
        ids = generate(model, batch(), **GREEDY, max_new_tokens=MOST).sequences
    assert ids.shape[1] - PROMPT == 4
    assert undone == [1]
    with open_trace(path) as recording:
        assert len(recording.run().steps) == 4
