"""NaN and infinite values in module outputs: where they are, and where they came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from hooks.modules.statistics import is_freed, unreadable


@dataclass(frozen=True)
class BatchLayout:
    """How the rows of the batch lie in the activations of a forward pass.

    Attributes:
        rows: rows of the batch.
        positions: positions that went in.
        known: whether activations are known to have the row in their first dimension; else only those of an
            unmistakable shape are taken for such.
    """

    rows: int
    positions: int
    known: bool = True

    def has_rows(self, shape: torch.Size) -> bool:
        """Whether an output of that shape is ``[rows, positions, …]``.

        Experts and some layers see the tokens of all rows in one list, and other models have the position
        first; of an output of any other shape it is not known which row a value belongs to.
        """
        fits = len(shape) > 2 and shape[:2] == (self.rows, self.positions)
        return fits and (self.known or self.rows != self.positions)


@dataclass(frozen=True)
class NonFinite:
    """NaN or infinite values in one module output.

    Attributes:
        count: how many; None where that is not known.
        rows: rows of the batch that hold them; none where that is not known.
        inputs_finite: whether the inputs of the module were finite; None where that is not known.
    """

    count: int | None
    rows: tuple[int, ...]
    inputs_finite: bool | None


def describe_nonfinite(
    output: torch.Tensor, inputs: Sequence[torch.Tensor], batch: BatchLayout | None = None
) -> NonFinite:
    """Search a tensor known to hold non-finite values; waits for the device.

    Args:
        output: the module's output.
        inputs: the tensors that went into the module.
        batch: where the rows of the batch are, if that is known.
    """
    bad = ~torch.isfinite(output)
    rows: tuple[int, ...] = ()
    if batch is not None and batch.has_rows(output.shape):
        rows = tuple(bad.flatten(1).any(-1).nonzero().flatten().tolist())
    return NonFinite(count=int(bad.sum()), rows=rows, inputs_finite=_finite(inputs))


def _finite(inputs: Sequence[torch.Tensor]) -> bool | None:
    """Whether all values are finite; None where some cannot be read, or are gone."""
    values = [value for value in inputs if value.is_floating_point()]
    readable = [value for value in values if unreadable(value) is None and not is_freed(value)]
    if not all(bool(torch.isfinite(value).all()) for value in readable):
        return False
    return True if len(readable) == len(values) else None


def masked_calls(
    counts: npt.NDArray[np.int32], modules: Sequence[int], parents: Sequence[int | None]
) -> set[int]:
    """Calls whose non-finite values went no further: a module around them returned finite ones only.

    Attention that fills what it must not see with infinities, and overwrites the rows that see nothing, is
    sound.

    Args:
        counts: ``[C]`` non-finite values of each call, -1 where they were not counted.
        modules: module of each call, in the order in which they returned.
        parents: of each module the one around it.
    """
    bad = np.flatnonzero(counts > 0).tolist()
    return {call for call in bad if _is_masked(call, counts, modules, parents)}


def _is_masked(
    call: int, counts: npt.NDArray[np.int32], modules: Sequence[int], parents: Sequence[int | None]
) -> bool:
    around = parents[modules[call]]
    while around is not None:
        later = next((at for at in range(call + 1, len(modules)) if modules[at] == around), None)
        if later is not None and counts[later] == 0:
            return True
        around = parents[around]
    return False


def parents_of(names: Sequence[str]) -> list[int | None]:
    """Of each module the index of the one around it; None for the model itself.

    Args:
        names: dotted paths of all modules, the model's own empty.
    """
    places: Mapping[str, int] = {name: index for index, name in enumerate(names)}
    return [places.get(name.rpartition(".")[0]) if name else None for name in names]
