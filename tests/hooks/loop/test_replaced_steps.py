"""What a step says of itself whose records the file does not take."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.models import GREEDY, batch, generate, tiny_model
from tracer import open_trace, trace
from tracer.schema.run import RunHeader
from tracer.schema.step import Step
from tracer.tracefile.encoding.validity import check_step
from tracer.tracefile.writing import writer


def test_later_steps_do_not_change_which_rows_a_replaced_one_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, inputs = tiny_model(), batch(2)
    first = generate(model, inputs, **GREEDY).sequences
    ending = int(first[0, inputs["input_ids"].shape[1] + 1])

    def refusing(step: Step, header: RunHeader) -> None:
        if step.number == 1 and step.scores is not None:
            raise ValueError("it contradicts itself")
        check_step(step, header)

    monkeypatch.setattr(writer, "check_step", refusing)
    with trace(model, path=tmp_path / "run.trace"):
        generate(model, inputs, **GREEDY, eos_token_id=ending)
    with open_trace(tmp_path / "run.trace") as recording:
        replaced, following = recording.runs[0].steps[:2]
    assert "it contradicts itself" in replaced.head.errors[0].message
    assert [step.head.unfinished for step in (replaced, following)] == [(0, 1), (1,)]
