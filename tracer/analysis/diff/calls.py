"""Compare the statistics of the module calls of two runs in one step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from tracer.analysis.diff.report import NumberDifference
from tracer.analysis.diff.tolerance import Tolerance
from tracer.schema.columns import ModuleColumns
from tracer.schema.run import RunHeader
from tracer.schema.step import Step

Places = npt.NDArray[np.intp]
Figures = npt.NDArray[np.float64]
PositionedDifference = tuple[int, NumberDifference]
"""A difference and the number of module calls that returned before it, by which differences are ordered."""

_FIGURES = ("mean", "std", "low", "high", "non-finite values")


class CallComparison:
    """Compares the calls that both runs made, matched by module name and occurrence, in the order of run A.

    Args:
        a: header of run A.
        b: header of run B.
        tolerance: what rounding explains.
        apart: modules whose figures are of different parts of the output, and are not compared.
    """

    def __init__(self, a: RunHeader, b: RunHeader, tolerance: Tolerance, apart: Set[str]) -> None:
        self._a, self._b = a, b
        self._apart = apart
        self._tolerance = tolerance
        self._align = lru_cache(maxsize=16)(self._alignment)

    def first_two(self, a: Step, b: Step) -> Iterator[PositionedDifference]:
        """The first call that differs, and the first whose difference rounding does not explain."""
        found = self.distances(a, b)
        if found is None:
            return
        for hits in (found.size != 0, ~(found.relative <= found.allowed)):
            if hits.any():
                yield self._difference(a, found, int(np.flatnonzero(hits.any(axis=0))[0]))

    def every(self, a: Step, b: Step) -> Iterator[PositionedDifference]:
        """Every call that differs."""
        found = self.distances(a, b)
        if found is None:
            return
        for call in np.flatnonzero((found.size != 0).any(axis=0)).tolist():
            yield self._difference(a, found, call)

    def distances(self, a: Step, b: Step) -> CallDistances | None:
        """Distances of the calls of a step; None where a run has no statistics.

        Args:
            a: step of run A.
            b: the same step of run B.
        """
        if a.modules is None or b.modules is None or a.layout is None or b.layout is None:
            return None
        left, right = self._align(a.layout.modules, b.layout.modules)
        same_shape = np.array(
            [_outputs(a, i) == _outputs(b, j) for i, j in zip(left, right, strict=True)], dtype=np.bool_
        )
        left, right = left[same_shape], right[same_shape]
        ours, theirs = _figures(a.modules, left), _figures(b.modules, right)
        scale = np.maximum(_scales(a.modules, left), _scales(b.modules, right))
        size = np.where(ours == theirs, 0.0, np.abs(ours - theirs))
        size[np.isnan(ours) & np.isnan(theirs)] = 0.0
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = np.where(size == 0, 0.0, size / scale)
        allowed = np.array([self._tolerance.allowed(int(place)) for place in left])
        return CallDistances(left, ours, theirs, size, relative, scale, allowed)

    def _alignment(self, a: tuple[int, ...], b: tuple[int, ...]) -> tuple[Places, Places]:
        """Places of the calls that both runs made, in each run."""
        ours, theirs = _occurrences(self._a, a), _occurrences(self._b, b)
        places = {call: place for place, call in enumerate(theirs)}
        both = [
            (place, places[call])
            for place, call in enumerate(ours)
            if call in places and call[0] not in self._apart
        ]
        left, right = np.array(both, dtype=np.intp).reshape(-1, 2).T
        return left, right

    def _difference(self, a: Step, found: CallDistances, call: int) -> PositionedDifference:
        """The figure of one call with the largest relative distance."""
        assert a.layout is not None  # there are no distances without
        worst = int(np.nan_to_num(found.relative[:, call], nan=np.inf).argmax())
        place = int(found.places[call])
        return place, NumberDifference(
            step=a.number,
            stop="layers",
            module=self._a.modules[a.layout.modules[place]].name,
            quantity=_FIGURES[worst],
            rows=None,
            a=float(found.ours[worst, call]),
            b=float(found.theirs[worst, call]),
            size=float(found.size[worst, call]),
            relative=float(found.relative[worst, call]),
            scale=float(found.scale[worst, call]),
            allowed=float(found.allowed[call]),
        )


@dataclass(frozen=True, eq=False)
class CallDistances:
    """Distances of the statistics of C calls: mean, standard deviation, minimum, maximum, non-finite count.

    Attributes:
        places: ``[C]`` place of each call among those of run A.
        ours: ``[5, C]`` figures of run A.
        theirs: ``[5, C]`` figures of run B.
        size: ``[5, C]`` absolute distances.
        relative: ``[5, C]`` distances relative to ``scale``.
        scale: ``[5, C]`` magnitude of the values behind each figure.
        allowed: ``[C]`` the largest relative distance that rounding explains.
    """

    places: Places
    ours: Figures
    theirs: Figures
    size: Figures
    relative: Figures
    scale: Figures
    allowed: Figures


def _figures(columns: ModuleColumns, places: Places) -> Figures:
    """``[5, calls]`` the statistics."""
    return np.stack(
        [
            getattr(columns, name)[places].astype(np.float64)
            for name in ("mean", "std", "low", "high", "nonfinite")
        ]
    )


def _scales(columns: ModuleColumns, places: Places) -> Figures:
    """``[5, calls]`` the magnitude of the values behind each statistic; a count is never explained."""
    mean, std = columns.mean[places].astype(np.float64), columns.std[places].astype(np.float64)
    typical, largest = np.hypot(mean, std), columns.largest[places].astype(np.float64)
    return np.stack([typical, typical, largest, largest, np.zeros_like(mean)])


def _outputs(step: Step, place: int) -> tuple[tuple[int, ...], ...]:
    assert step.modules is not None  # called only where there are statistics
    shape = step.shapes.get(int(step.modules.shapes[place]))
    return tuple(info.shape for info in shape.outputs) if shape else ()


def _occurrences(header: RunHeader, modules: Sequence[int]) -> list[tuple[str, int]]:
    """Name and occurrence of each call."""
    seen: dict[int, int] = {}
    calls = []
    for module in modules:
        seen[module] = seen.get(module, -1) + 1
        calls.append((header.modules[module].name, seen[module]))
    return calls
