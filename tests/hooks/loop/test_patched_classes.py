"""Methods of a model are looked up as without a trace: patches and decorators of its class hold."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import nn
from transformers import GenerationMixin, LogitsProcessor, LogitsProcessorList

from tests.support.models import GREEDY, batch, generate, tiny_model
from tracer import trace


def test_the_undecorated_generate_is_the_one_of_the_class(tmp_path: Path) -> None:
    model = tiny_model()
    settings: dict[str, Any] = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    expected = model.generate.__wrapped__(model, **batch(), **settings)
    with trace(model, path=tmp_path / "run.trace") as session:
        assert torch.equal(model.generate.__wrapped__(model, **batch(), **settings), expected)
    assert session.steps == 4


@pytest.mark.parametrize("name", ["generate", "_sample"])
def test_a_class_that_is_patched_in_the_block(name: str, tmp_path: Path) -> None:
    model, calls = tiny_model(), list[int]()
    original = getattr(GenerationMixin, name)

    def patched(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return original(self, *args, **kwargs)

    with trace(model, path=tmp_path / "run.trace") as session:
        with mock.patch.object(GenerationMixin, name, patched):
            generate(model, batch(), **GREEDY)
        generate(model, batch(), **GREEDY)
    assert calls == [1]
    assert session.steps == 12


def test_another_class_in_the_block(tmp_path: Path) -> None:
    model, calls = tiny_model(), list[int]()

    class Own(type(model)):  # type: ignore[misc]
        def generate(self, *args: Any, **kwargs: Any) -> Any:
            calls.append(1)
            return super().generate(*args, **kwargs)

    with trace(model, path=tmp_path / "run.trace"):
        model.__class__ = Own
        generate(model, batch(), **GREEDY)
    assert calls == [1]


class CopiedByHand(nn.Linear):
    """Copies itself attribute by attribute."""

    def __deepcopy__(self, memo: dict[int, Any]) -> CopiedByHand:
        new = type(self).__new__(type(self))
        memo[id(self)] = new
        for name, value in vars(self).items():
            vars(new)[name] = copy.deepcopy(value, memo)
        return new


@pytest.mark.parametrize("hooked", [False, True])
def test_a_module_that_copies_itself(hooked: bool, tmp_path: Path) -> None:
    model, copies = tiny_model(), list[Any]()
    head = CopiedByHand(model.lm_head.in_features, model.lm_head.out_features, bias=False)
    head.weight = model.lm_head.weight
    model.lm_head = head
    if hooked:
        head.register_forward_hook(lambda *_: None)

    class Copying(LogitsProcessor):  # type: ignore[misc]
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            copies.append(copy.deepcopy(model))
            return scores

    expected = generate(model, batch(), **GREEDY)
    with trace(model, path=tmp_path / "run.trace"):
        generate(model, batch(), **GREEDY, logits_processor=LogitsProcessorList([Copying()]))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(generate(copies[-1], batch(), **GREEDY).sequences, expected.sequences)
