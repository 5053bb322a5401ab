"""What a forward pass is given: specs of its arguments, how much it reads, and copies of small integers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch

from hooks.caught_step import CaughtStep
from hooks.integers import Integers
from hooks.printing import printed
from hooks.tensors import Spec, clone, is_small_integer, spec_of

_Values = TypeVar("_Values", torch.Tensor, Integers)


def specs(inputs: Mapping[str, Any]) -> tuple[list[tuple[str, Spec]], dict[str, str]]:
    """Specs of the tensors among the arguments, and the others as text.

    Args:
        inputs: the arguments by name.
    """
    tensors: list[tuple[str, Spec]] = []
    others: dict[str, str] = {}
    for name, value in inputs.items():
        if isinstance(value, torch.Tensor):
            tensors.append((name, spec_of(value)))
        else:
            others[name] = _text(value)
    return tensors, others


def what_is_read(inputs: Mapping[str, Any]) -> torch.Tensor | None:
    """The ids that the model reads, or else embeddings; None where it is given neither.

    Args:
        inputs: the arguments by name.
    """
    found = inputs.get("input_ids")
    found = inputs.get("inputs_embeds") if found is None else found
    return found if isinstance(found, torch.Tensor) else None


def positions_fed(inputs: Mapping[str, Any]) -> int:
    """How many positions of each row go into the model.

    Args:
        inputs: the arguments by name.
    """
    read = what_is_read(inputs)
    return read.shape[1] if read is not None and read.dim() > 1 else 0


def leading_positions(first: CaughtStep, inputs: Mapping[str, Any], cached: int) -> int:
    """Positions without a token id that the first step finds in the cache or is given as embeddings.

    Args:
        first: the step.
        inputs: the arguments by name.
        cached: slots of the cache that were filled before.
    """
    if not cached and inputs.get("inputs_embeds") is None:
        return 0
    return max(0, cached + first.fed - first.sequence_length)


def note_arguments(caught: CaughtStep, mask: torch.Tensor | None, inputs: Mapping[str, Any]) -> None:
    """Copy the mask and the integers; they stay on their device until the step is over.

    Args:
        caught: the step.
        mask: the attention mask over the whole sequences, before the model turned it into its own form.
        inputs: the arguments by name.
    """
    tensors = caught.tensors
    if mask is not None and mask.dim() == 2:
        tensors.mask = clone(mask)
    for name, value in _integers(inputs).items():
        # Most models are given the very mask over the whole sequences.
        copied = tensors.mask if value is mask else None
        tensors.arguments[name] = clone(value) if copied is None else copied


def note_later(caught: CaughtStep, number: int, mask: torch.Tensor | None, inputs: Mapping[str, Any]) -> None:
    """Copy what a later one of a step's own forward passes is given.

    Args:
        caught: the step.
        number: how many of the passes are over.
        mask: as in :func:`note_arguments`; stands in for one that the model has made of it.
        inputs: the arguments by name.
    """
    values = _integers(inputs)
    if mask is not None and mask.dim() == 2 and "attention_mask" in inputs:
        values = with_mask(values, mask)
    caught.tensors.later.update(((number, name), clone(value)) for name, value in values.items())


def with_mask(values: Mapping[str, _Values], mask: _Values) -> dict[str, _Values]:
    """Integer arguments with the mask over the whole sequences, where the model's own has another form.

    That may be one of truth values for every pair of positions.

    Args:
        values: the arguments by name.
        mask: ``[batch, length]``.
    """
    own = values.get("attention_mask")
    return {**values, "attention_mask": mask} if own is None or own.ndim != 2 else {**values}


def _integers(inputs: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    return {
        name: value
        for name, value in inputs.items()
        if isinstance(value, torch.Tensor) and is_small_integer(value)
    }


def _text(value: object) -> str:
    """Short text of an argument that is no tensor; large objects by class."""
    if value is None or isinstance(value, bool):
        return str(value)
    if isinstance(value, int | float | str):
        return printed(value)
    return type(value).__name__
