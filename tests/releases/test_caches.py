"""Caches made of layers of several kinds: what each keeps is proved, and what rolls is said to."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LogitsProcessor, PreTrainedModel

from tests.releases.architectures import INSTALLED, architecture
from tests.support.caches import cache_argument, layer_of
from tests.support.models import GREEDY, CollectedRun, batch, collected, generate
from tracer.schema.checks import Check

pytestmark = pytest.mark.skipif(
    "gemma3" not in INSTALLED, reason="this release has no cache of layers of several kinds"
)

FULL = 1
"""The layer of the model that keeps all slots; the other has a window of four."""


class Damaging(LogitsProcessor):  # type: ignore[misc]
    """Changes an old slot of a layer between two steps."""

    def __init__(self, model: PreTrainedModel, layer: int, step: int) -> None:
        self._layer = layer
        self._left = step
        self._cache: Any = None
        model.model.register_forward_hook(self._look, with_kwargs=True)

    def _look(self, _module: Any, _args: Any, given: dict[str, Any], _output: Any) -> None:
        (self._cache,) = (given[name] for name in cache_argument(None))

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self._left -= 1
        if not self._left:
            key, _ = layer_of(self._cache, self._layer)
            key[0, 0, 1, 0] += 1
        return scores


def cache_checks(run: CollectedRun) -> list[Check]:
    return [next(check for check in step.head.checks if check.name == "cache") for step in run.steps]


@pytest.mark.parametrize("name", ["gemma3", "gpt_oss"])
def test_layers_that_keep_their_slots_are_compared_beside_a_window_that_rolls(name: str) -> None:
    model = architecture(name)
    with collected(model) as run:
        generate(model, batch(2, 3), **GREEDY, max_new_tokens=7)
    assert run.problems() == []
    checks = cache_checks(run)
    assert all(check.held for check in checks)
    # Three slots of the window hold the prompt; with the next position they begin to roll.
    assert [check.checked for check in checks] == [2, 1, 1, 1, 1, 1, 1]
    last = run.steps[-1].head.cache_after
    assert last.length == 9
    assert [group.key.shape[-2] for group in last.groups] == [3, 9]


@pytest.mark.parametrize("step", [2, 5])
@pytest.mark.parametrize("name", ["gemma3", "gpt_oss"])
def test_a_changed_slot_of_a_full_layer_is_caught_while_the_window_rolls(name: str, step: int) -> None:
    model = architecture(name)
    with collected(model) as run:
        generate(
            model, batch(1, 3), **GREEDY, max_new_tokens=7, logits_processor=[Damaging(model, FULL, step)]
        )
    (violation, *_) = [each for found in run.steps for each in found.head.violations]
    assert (violation.check, violation.layer, violation.row) == ("cache", FULL, 0)
    assert [found.number for found in run.steps if found.head.violations] == [step + 1]


def test_a_window_that_has_rolled_is_no_alarm() -> None:
    model = architecture("mistral")
    with collected(model) as run:
        generate(model, batch(1, 6), **GREEDY, max_new_tokens=5)
    assert run.problems() == []
    assert {check.result for check in cache_checks(run)} == {"not made"}
    assert "roll" in (cache_checks(run)[0].reason or "")
