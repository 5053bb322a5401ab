"""What a ``generate()`` came to, and how it differs from another."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn


@dataclass(frozen=True)
class RandomState:
    """The state of every random number generator that a model may draw from."""

    python: Any
    numpy: Any
    cpu: torch.Tensor
    cuda: tuple[torch.Tensor, ...]

    @staticmethod
    def now() -> RandomState:
        """The state as it is."""
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else ()
        return RandomState(random.getstate(), np.random.get_state(), torch.get_rng_state(), tuple(cuda))

    def restore(self) -> None:
        """Put it back."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.cpu)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)

    def same(self, other: RandomState) -> bool:
        """Whether the next draws are the same from either."""
        return (
            self.python == other.python
            and all(np.array_equal(a, b) for a, b in zip(self.numpy, other.numpy, strict=True))
            and not differences(self.cpu, other.cpu)
            and not differences(self.cuda, other.cuda)
        )


@dataclass(frozen=True)
class Outcome:
    """The result of a call, or the exception that it ended with; and the random state that it left."""

    result: Any
    error: Exception | None
    random: RandomState

    @staticmethod
    def of(call: Callable[[], Any]) -> Outcome:
        """Make a call.

        Args:
            call: is called.
        """
        result, error = None, None
        try:
            result = call()
        except Exception as raised:  # noqa: BLE001 - it is compared, and raised again
            error = raised
        return Outcome(result, error, RandomState.now())

    def given(self) -> Any:
        """The result; the exception is raised."""
        if self.error is not None:
            raise self.error
        return self.result

    def differs(self, other: Outcome) -> list[str]:
        """In what another outcome is not the same, bit for bit; empty if it is.

        Args:
            other: the outcome of the same call.
        """
        found = []
        if repr(self.error) != repr(other.error):
            found.append(f"ends with {self.error!r}, untraced with {other.error!r}")
        found += differences(self.result, other.result)
        if not self.random.same(other.random):
            found.append("leaves another random state")
        return found


def differences(ours: Any, other: Any, name: str = "result") -> list[str]:
    """Tensors in two results that are not the same, bit for bit.

    Args:
        ours: a tensor, or a container of results; anything else is not compared.
        other: what it is compared with.
        name: what it is called.
    """
    if type(ours) is not type(other):
        return [f"{name} is {type(ours).__name__}, untraced {type(other).__name__}"]
    if isinstance(ours, torch.Tensor):
        return [] if _same_bits(ours, other) else [f"{name} differs"]
    parts, others = dict(_parts(ours)), dict(_parts(other))
    if parts.keys() != others.keys():
        return [f"{name} has {[*parts]}, untraced {[*others]}"]
    found = (differences(part, others[key], f"{name}.{key}") for key, part in parts.items())
    return [difference for part in found for difference in part]


def _parts(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, (tuple, list)):
        yield from enumerate(value)


def _same_bits(ours: torch.Tensor, other: torch.Tensor) -> bool:
    if ours.shape != other.shape or ours.dtype != other.dtype:
        return False
    a, b = (tensor.detach().cpu().contiguous().flatten().view(torch.uint8) for tensor in (ours, other))
    return torch.equal(a, b)


Attributes = dict[tuple[str, str, Any], Any]


def attributes(model: nn.Module) -> Attributes:
    """All attributes of a model and its modules, and what is in those that are dictionaries.

    Args:
        model: the model.
    """
    found: Attributes = {}
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            found[name, key, None] = value
            if isinstance(value, dict):
                found.update(((name, key, inner), part) for inner, part in value.items())
    return found


def changed(before: Attributes, after: Attributes) -> set[str]:
    """Attributes that are not what they were.

    Args:
        before: as :func:`attributes` gave them.
        after: the same, later.
    """
    keys = {key for key in {**before, **after} if before.get(key, before) is not after.get(key, after)}
    return {f"{module or 'the model'}: {name}" for module, name, _ in keys}
