"""The tensors of a step: which they are, and in which order they come to the host."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hooks import caught_step
from hooks.caught_step import CaughtStep, StepTensors
from hooks.loop.forward_arguments import note_arguments
from hooks.tensors import spec_of


def full() -> StepTensors:
    """Tensors of a step that has every one of them, each of another size."""
    numbers = iter(range(1, 100))
    tensors = StepTensors(scores=[torch.zeros(next(numbers)) for _ in range(3)])
    for name in caught_step._SINGLE:
        setattr(tensors, name, torch.zeros(next(numbers)))
    for name in caught_step._GROUPS:
        group: dict[Any, torch.Tensor] = getattr(tensors, name)
        group.update({key: torch.zeros(next(numbers)) for key in ("one", "two")})
    return tensors


def test_every_tensor_counts_and_comes_to_its_own_place(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = full()
    single = [getattr(tensors, name) for name in caught_step._SINGLE]
    groups = [getattr(tensors, name) for name in caught_step._GROUPS]
    named = [*(tensors.scores or ()), *single, *(tensor for group in groups for tensor in group.values())]
    assert {"scores", *caught_step._SINGLE, *caught_step._GROUPS} == {*StepTensors.__slots__}
    assert [*map(id, tensors._all())] == [*map(id, named)]
    assert tensors.nbytes == 4 * sum(range(1, len(named) + 1))
    elsewhere = torch.zeros(50, device="meta")
    monkeypatch.setattr(
        caught_step, "to_host_all", lambda all_of_them: [torch.ones(len(each)) for each in all_of_them]
    )
    sizes = [len(each) for each in named]
    (other,) = tensors.to_host([elsewhere])
    assert [len(each) for each in tensors._all()] == sizes
    assert all(each.all() for each in tensors._all())
    assert len(other) == 50


def step() -> CaughtStep:
    """A step of which nothing is caught yet."""
    spec = spec_of(torch.zeros(1, 3))
    return CaughtStep(
        number=1, started=0.0, input_specs=[], others={}, ids_spec=spec, sequence_length=3, fed=3, stages=1
    )


@pytest.mark.parametrize("whole", [True, False])
def test_arguments_are_copies_also_of_the_mask_over_the_whole_sequences(whole: bool) -> None:
    caught, ids, mask = step(), torch.arange(3)[None], torch.ones(1, 3, dtype=torch.int64)
    own = mask if whole else torch.zeros(1, 3, dtype=torch.int64)
    note_arguments(caught, mask, {"input_ids": ids, "attention_mask": own, "embeddings": torch.zeros(2)})
    for tensor in (ids, mask, own):
        tensor.fill_(7)
    found = {name: values.tolist() for name, values in caught.tensors.arguments.items()}
    assert found == {"input_ids": [[0, 1, 2]], "attention_mask": [[1, 1, 1] if whole else [0, 0, 0]]}
    assert caught.tensors.mask is not None
    assert caught.tensors.mask.tolist() == [[1, 1, 1]]


def test_a_mask_that_is_not_over_the_sequences_is_an_argument_alone() -> None:
    caught, mask = step(), torch.ones(1, 1, 3, 3, dtype=torch.bool)
    note_arguments(caught, mask, {"attention_mask": mask})
    mask.fill_(False)
    assert caught.tensors.mask is None
    assert caught.tensors.arguments["attention_mask"].all()
