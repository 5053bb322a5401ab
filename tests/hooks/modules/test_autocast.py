"""The program's autocast is for the program's operations: a trace takes the values as they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.support.models import DEVICE, GREEDY, batch, collected, generate, tiny_model


@pytest.mark.skipif(DEVICE != "cpu", reason="the dtypes are those of a CPU's autocast")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_a_run_under_autocast_is_whole(dtype: torch.dtype, both_ways: str) -> None:
    model, inputs = tiny_model().to(dtype), batch(2)
    with torch.autocast("cpu", torch.bfloat16):
        untraced = generate(model, inputs, **GREEDY)
    with collected(model) as run, torch.autocast("cpu", torch.bfloat16):
        traced = generate(model, inputs, **GREEDY)
    assert torch.equal(traced.sequences, untraced.sequences)
    assert all(map(torch.equal, traced.logits, untraced.logits))
    assert not run.problems()
    for step in run.steps:
        assert step.scores is not None
        assert step.modules is not None
        assert step.cache is not None
        shapes = [step.shapes[number].outputs for number in step.modules.shapes.tolist()]
        floats = np.array([bool(outputs) and "float" in outputs[0].dtype for outputs in shapes])
        assert np.isfinite(step.modules.mean[floats]).mean() > 0.9
