"""Lens and attention on the demo model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.hooks.test_unchanged import assert_same_result
from tests.support.models import collected, generate
from tests.tracer.analysis.test_demo_model import GREEDY, LONGER, QUESTION, model, prompts

pytestmark = pytest.mark.demo

CAPTURE: dict[str, Any] = {"level": "tensors", "save": ("lens", "attention")}


@pytest.mark.slow
def test_eager_and_sdpa_look_at_the_same() -> None:
    inputs = prompts(QUESTION, LONGER)
    found = []
    for kind in ("eager", "sdpa"):
        demo = model(attn_implementation=kind)
        untraced = generate(demo, inputs, max_new_tokens=3, **GREEDY)
        with collected(demo, **CAPTURE) as run:
            assert_same_result(generate(demo, inputs, max_new_tokens=3, **GREEDY), untraced)
        assert run.problems() == []
        found.append(run.saved)
    for eager, sdpa in zip(*found, strict=True):
        assert set(eager) == set(sdpa)
        assert sum(name.startswith("attention/") for name in eager) == 30
        for name in eager:
            if name.startswith("attention/"):
                last = eager[name][:, :, -1], sdpa[name][:, :, -1]
                np.testing.assert_allclose(*last, atol=1e-4)
                np.testing.assert_allclose(last[0].sum(-1), 1, atol=1e-5)
        assert torch.equal(eager["lens/rank"][-1], torch.ones(2, dtype=torch.int32))
