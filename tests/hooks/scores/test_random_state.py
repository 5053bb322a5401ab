"""The state that is recorded is that of the generator which draws."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hooks.scores.random_state import generator_state, set_generator_state


@pytest.mark.parametrize(
    ("device", "told"),
    [("mps", ()), ("xpu:1", (torch.device("xpu:1"),)), ("cuda:0", (torch.device("cuda:0"),))],
)
def test_the_functions_of_its_device_are_asked(
    device: str, told: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    state = torch.arange(3, dtype=torch.uint8)

    def get(*which: Any) -> torch.Tensor:
        asked.append(which)
        return state

    functions = SimpleNamespace(get_rng_state=get, set_rng_state=lambda *given: asked.append(given))
    monkeypatch.setattr(torch, torch.device(device).type, functions)
    before = torch.default_generator.get_state()
    assert generator_state(torch.device(device)) is state
    set_generator_state(state, torch.device(device))
    assert asked == [told, (state, *told)]
    assert torch.equal(torch.default_generator.get_state(), before)


def test_a_state_that_is_set_gives_the_same_numbers() -> None:
    state = generator_state(torch.device("cpu"))
    drawn = torch.rand(3)
    set_generator_state(state, torch.device("cpu"))
    assert torch.equal(torch.rand(3), drawn)
