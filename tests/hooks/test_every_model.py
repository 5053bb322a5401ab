"""No false alarm: every class that transformers generates text with, in every way that it supports."""

from __future__ import annotations

import pytest
import torch
from transformers.cache_utils import SlidingWindowCache

from tests.support.causal_models import (
    CANNOT_BE_MADE,
    CANNOT_GENERATE,
    CONFIGS,
    STATIC_FAILS,
    model_of,
    prompt_of,
)
from tests.support.sweep import CLASSES, hindrance, sweep

pytestmark = [
    pytest.mark.reference_only,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning"),
]

REFUSED = {"kv": "save=kv", "attention": "save=attention", "lens": "save=lens"}


def test_every_class_is_listed() -> None:
    assert sorted(CONFIGS) == CLASSES


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSES)
def test_a_sound_run_has_no_violation_and_no_capture_error(name: str) -> None:
    if hindrance(name) is not None:
        assert name in {**CANNOT_BE_MADE, **CANNOT_GENERATE}
        return
    found = sweep(name)
    assert found.faults == []
    for capture, message in found.refused.items():
        assert message.startswith(f"{REFUSED[capture]}: ")
        assert name in message
    assert all(": None" not in reason for reason in found.unchecked)


@pytest.mark.slow
@pytest.mark.parametrize("name", STATIC_FAILS)
def test_the_static_cache_of_these_fails_untraced(name: str) -> None:
    model = model_of(name)
    with pytest.raises((RuntimeError, IndexError), match=STATIC_FAILS[name]):
        model.generate(**prompt_of(name), max_new_tokens=4, do_sample=False, cache_implementation="static")


def test_a_sliding_window_cache_cannot_be_made_in_this_release() -> None:
    config = model_of("MistralForCausalLM").config
    with pytest.raises(TypeError, match="missing 4 required positional arguments"):
        SlidingWindowCache(config, 2, 24, device="cpu", dtype=torch.float32)
