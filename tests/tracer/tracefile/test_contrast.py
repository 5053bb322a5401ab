"""The contrast of a step of DoLa decoding comes back as it was, and an impossible one is damage."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.synthetic import synthetic_end
from tests.support.synthetic_dola import dola_header, dola_steps
from tests.tracer.tracefile.samples import some_tokens
from tests.tracer.tracefile.test_limits import edit_heads
from tracer.errors import TraceFileError
from tracer.schema.contrast import ContrastedToken, EarlyLayer, LayerContrast
from tracer.schema.step import Step
from tracer.tracefile import TraceFile, TraceWriter, check_file

Json = dict[str, Any]
HEADER = dola_header(rows=2, layers=3)


def written(path: Path, steps: list[Step]) -> Path:
    with TraceWriter(path) as writer:
        run = writer.begin_run(HEADER)
        for step in steps:
            writer.write_step(step, some_tokens())
        writer.end_run(run, synthetic_end(HEADER, len(steps)))
    return path


def test_it_comes_back(tmp_path: Path) -> None:
    steps = list(dola_steps(HEADER, 3))
    path = written(tmp_path / "run.trace", steps)
    assert check_file(path).whole
    with TraceFile(path) as recording:
        assert recording.header.loop == "_dola_decoding"
        assert recording.header.stops == HEADER.stops
        assert [step.head.contrast for step in recording.steps] == [step.head.contrast for step in steps]


def test_figures_that_are_no_numbers_come_back(tmp_path: Path) -> None:
    (step,) = dola_steps(HEADER, 1)
    token = ContrastedToken(token=3, last=-0.5, early=-math.inf)
    contrast = LayerContrast(
        layers=(EarlyLayer(layer=0, divergence=math.nan), EarlyLayer(layer=2, divergence=math.inf)),
        taken=0,
        kept=(1, 0),
        tokens=((token,), ()),
    )
    head = step.head.model_copy(update={"contrast": contrast})
    path = written(tmp_path / "run.trace", [replace(step, head=head)])
    with TraceFile(path) as recording:
        found = recording.steps[0].head.contrast
    assert found is not None
    assert math.isnan(found.layers[0].divergence or 0)
    assert found.layers[1].divergence == math.inf
    assert found.tokens == contrast.tokens


@pytest.mark.parametrize(
    "change",
    [
        lambda contrast: contrast.update(taken=1),
        lambda contrast: contrast.update(layers=[]),
        lambda contrast: contrast["layers"].append(contrast["layers"][0]),
        lambda contrast: contrast["layers"][0].update(layer=-1),
        lambda contrast: contrast["layers"][0].update(layer=1 << 40),
        lambda contrast: contrast.update(kept=[1]),
        lambda contrast: contrast.update(kept=[1, -1]),
        lambda contrast: contrast.update(kept=[1, 1 << 40]),
        lambda contrast: contrast["tokens"].pop(),
        lambda contrast: contrast["tokens"][0][0].update(token=-1),
        lambda contrast: contrast["tokens"][0][0].update(token=HEADER.model.vocab_size),
        lambda contrast: contrast.update(tokens=None),
    ],
)
def test_an_impossible_one_is_refused(change: Callable[[Json], None], tmp_path: Path) -> None:
    path = written(tmp_path / "run.trace", list(dola_steps(HEADER, 2)))
    edit_heads(path, lambda head: change(head["contrast"]))
    assert not check_file(path).ok
    with TraceFile(path) as recording, pytest.raises(TraceFileError) as refused:
        _ = recording.steps[0]
    assert "\n" not in str(refused.value)
