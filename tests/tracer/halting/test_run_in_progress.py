"""A run in progress reads like a recorded one: all steps that are over, and the one in which it stands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.models import SAMPLING, batch, generate, tiny_model
from tests.support.walkthrough import passed
from tracer import open_trace, trace
from tracer.halting.callback import Halt
from tracer.halting.run_in_progress import run_in_progress

SAVED = ("kv/0/key", "kv/0/value", "kv/1/key", "kv/1/value", "logits")


def test_every_step_is_there_at_once(tmp_path: Path) -> None:
    """The writer waits for more steps; who asks does not."""
    found: list[tuple[str | None, int, list[int]]] = []

    def look(halt: Halt) -> None:
        with run_in_progress(halt.live, halt.live.present(halt.local)) as run:
            found.append((halt.stop, halt.step, [step.number for step in run.steps]))
            assert run.end is None
            with pytest.raises(KeyError):
                run.steps.number(halt.step + 1)

    model = tiny_model()
    with trace(
        model, None, tmp_path / "run.trace", stops="stopping", stop_steps="all", on_stop=look
    ) as session:
        generate(model, batch(1), **SAMPLING)
        generate(model, batch(1), **SAMPLING)
    assert session.faults == ()
    with open_trace(tmp_path / "run.trace") as recording:
        lengths = [len(run.steps) for run in recording.runs]
    assert found == [
        ("stopping", step, [*range(1, step + 1)]) for steps in lengths for step in range(1, steps + 1)
    ]


def test_what_the_step_has_saved_is_what_the_trace_will_hold(tmp_path: Path) -> None:
    seen: dict[tuple[int, str], bytes] = {}
    names: dict[str | None, tuple[str, ...]] = {}

    def look(halt: Halt) -> None:
        with run_in_progress(halt.live, halt.live.present(halt.local)) as run:
            names[halt.stop] = run.tensor_names(halt.step)
            for name in names[halt.stop]:
                seen[halt.step, name] = run.tensor(halt.step, name).tobytes()
                dtype, shape = run.tensor_layout(halt.step, name)
                assert (dtype, shape) == ("float32", run.tensor(halt.step, name).shape)
            if halt.stop == "stopping":
                assert run.cache_at(halt.step).key(0).shape[-2] == run.steps[-1].head.cache_after.length

    model, path = tiny_model(), tmp_path / "run.trace"
    stops = "model-call,softmax,stopping"
    with trace(
        model,
        None,
        path,
        capture="tensors",
        save=["logits", "kv"],
        stops=stops,
        stop_steps="all",
        on_stop=look,
    ) as session:
        generate(model, batch(1), **SAMPLING)
    assert session.faults == ()
    before_choice = SAVED if passed("update", "softmax") else ("logits",)
    assert names == {"model-call": (), "softmax": before_choice, "stopping": SAVED}
    with open_trace(path) as recording:
        assert seen == {
            (step, name): np.asarray(recording.run().tensor(step, name)).tobytes()
            for step in recording.run().steps.numbers
            for name in SAVED
        }
