"""What the header says of processors and criteria: class, module, settings."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from transformers import LogitsProcessorList, PrefixConstrainedLogitsProcessor

from hooks.loop.processors import describe_processors
from tests.support.models import batch, tiny_model
from tracer import open_trace, trace
from tracer.analysis.processors.parsing import parse_processor
from tracer.analysis.processors.processor import Opaque


class Grammar:
    """An object without a text of its own."""


class TopKLogitsWarper:
    """Somebody's class with the name of one of transformers'."""

    def __init__(self, allowed: Any) -> None:
        self.top_k = 2
        self.grammars = [Grammar(), 3, {"rule": Grammar}]
        self._allowed = allowed

    def __call__(self, _: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return scores


def only_low(_row: int, _ids: torch.Tensor) -> list[int]:
    return [*range(5, 60)]


def recorded(path: Path) -> Any:
    elements = [
        TopKLogitsWarper(functools.partial(only_low, 3)),
        PrefixConstrainedLogitsProcessor(only_low, num_beams=1),
    ]
    model = tiny_model()
    with trace(model, path=path):
        model.generate(
            **batch(), max_new_tokens=2, do_sample=False, logits_processor=LogitsProcessorList(elements)
        )
    return open_trace(path)


def test_a_class_says_where_it_is_from_and_a_function_its_name(tmp_path: Path) -> None:
    header = recorded(tmp_path / "a").header
    own, prefix = header.processors[-2:]
    assert own.qualified_name == f"{__name__}.TopKLogitsWarper"
    assert own.settings["top_k"] == "2"
    assert own.settings["allowed"] == f"{__name__}.only_low"
    assert own.settings["grammars"] == f"[{__name__}.Grammar, 3, {{'rule': {__name__}.Grammar}}]"
    assert isinstance(parse_processor(own), Opaque)
    assert prefix.qualified_name == "PrefixConstrainedLogitsProcessor"
    assert prefix.settings["prefix_allowed_tokens_fn"] == f"{__name__}.only_low"
    assert "MaxLengthCriteria" in [each.qualified_name for each in header.criteria]


class Padded:
    def __init__(self, rows: int) -> None:
        self.prompt_ignore_length = torch.arange(rows)


def test_values_of_a_tensor_are_a_setting_unless_there_are_many() -> None:
    few, many = describe_processors(LogitsProcessorList([Padded(20), Padded(65)]), None)
    assert few.settings == {"prompt_ignore_length": str([*range(20)])}
    assert many.settings == {"prompt_ignore_length": "65 values"}


def test_the_same_settings_are_no_difference(tmp_path: Path) -> None:
    first, second = recorded(tmp_path / "a"), recorded(tmp_path / "b")
    assert first.header.processors == second.header.processors
