"""Compare what the modules of two runs returned in one step."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tracer.analysis.diff.calls import CallComparison, PositionedDifference
from tracer.analysis.diff.parts import recorded_apart
from tracer.analysis.diff.report import NumberDifference, RowPair
from tracer.analysis.diff.tolerance import Tolerance
from tracer.analysis.runs import LOGITS, RecordedRun
from tracer.schema.run import RunHeader
from tracer.schema.step import Step

Array = npt.NDArray[Any]


class LayerComparison:
    """Compares the modules of two runs, step by step.

    Args:
        a: run A.
        b: run B.
        tolerance: what rounding explains.
    """

    def __init__(self, a: RecordedRun, b: RecordedRun, tolerance: Tolerance) -> None:
        self._a, self._b = a, b
        self._tolerance = tolerance
        self._apart = recorded_apart(a, b)
        self._calls = CallComparison(a.header, b.header, tolerance, self._apart)

    def step(
        self, a: Step, b: Step, pairs: Sequence[RowPair], *, whole_batch: bool
    ) -> list[NumberDifference]:
        """Differences of a step in the order in which the modules returned.

        Of module calls, only the first that differs and the first that rounding does not explain.

        Args:
            a: step of run A.
            b: the same step of run B.
            pairs: rows whose texts are the same so far.
            whole_batch: whether the batches are identical, so that statistics over all rows are comparable.
        """
        return self._found(self._calls.first_two(a, b) if whole_batch else (), a, b, pairs)

    def every(
        self, a: Step, b: Step, pairs: Sequence[RowPair], *, whole_batch: bool
    ) -> list[NumberDifference]:
        """The same with a difference for every module call whose statistics differ."""
        return self._found(self._calls.every(a, b) if whole_batch else (), a, b, pairs)

    def _found(
        self, calls: Iterable[PositionedDifference], a: Step, b: Step, pairs: Sequence[RowPair]
    ) -> list[NumberDifference]:
        found = list(calls)
        for pair in pairs:
            found += self._norms(a, b, pair)
            found += self._tensors(a, b, pair)
        return [difference for _, difference in sorted(found, key=lambda each: each[0])]

    def is_own(self, difference: NumberDifference, a: Step) -> bool:
        """Whether a difference must come from the module itself and not from rounding.

        Arithmetic is deterministic: in the same order and precision it gives the same bits. If a module's
        output differs although an earlier module of the same class gave the same figures, the arithmetic is
        the same, and the module's own weights differ. An embedding looks rows up and never rounds.

        Args:
            difference: the first of all differences.
            a: its step in run A.
        """
        if difference.stop != "layers" or difference.module is None or a.layout is None:
            return False
        modules = self._a.header.modules
        names = [modules[module].name for module in a.layout.modules]
        place = names.index(difference.module)
        kind = modules[a.layout.modules[place]].class_name
        earlier = {modules[module].class_name for module in a.layout.modules[:place]}
        return a.number > 1 or kind in earlier or kind == "Embedding"

    def _norms(self, a: Step, b: Step, pair: RowPair) -> Iterator[PositionedDifference]:
        """Norms of the keys and values that both runs wrote; rotary positions do not change a norm."""
        if a.cache is None or b.cache is None:
            return
        for quantity in ("key_norm", "value_norm"):
            ours, theirs = getattr(a.cache, quantity), getattr(b.cache, quantity)
            if ours.shape[0] != theirs.shape[0] or ours.shape[2] != theirs.shape[2]:
                continue
            count = min(_valid(a, pair.padding_a), _valid(b, pair.padding_b))
            count = min(count, ours.shape[3], theirs.shape[3])
            left, right = ours[:, pair.a, :, -count:], theirs[:, pair.b, :, -count:]
            for layer in np.flatnonzero((left != right).any(axis=(1, 2))).tolist():
                name, place = _layer_module(self._a.header, a, layer, "self_attn")
                words = quantity.replace("_", " ")
                found = self._elements(a, pair, place, name, words, left[layer], right[layer])
                yield place, found

    def _tensors(self, a: Step, b: Step, pair: RowPair) -> Iterator[PositionedDifference]:
        """Tensors that both runs saved."""
        theirs = set(self._b.tensor_names(b.number))
        for tensor in self._a.tensor_names(a.number):
            # Lens and attention derive from module outputs through a softmax, which amplifies rounding.
            if tensor not in theirs or tensor == LOGITS or tensor.startswith(("attention/", "lens/")):
                continue
            name, place = _tensor_module(self._a.header, a, tensor)
            if name in self._apart:
                continue
            left, right = self._a.tensor(a.number, tensor), self._b.tensor(b.number, tensor)
            cut = _positions(left, right, a, b, pair)
            if cut is None or np.array_equal(*cut, equal_nan=True):
                continue
            yield place, self._elements(a, pair, place, name, f"tensor {tensor}", *cut)

    def _elements(
        self, step: Step, pair: RowPair, place: int, module: str | None, what: str, left: Array, right: Array
    ) -> NumberDifference:
        """The element that differs most."""
        ours, theirs = left.astype(np.float64).ravel(), right.astype(np.float64).ravel()
        with np.errstate(invalid="ignore"):
            size = np.abs(ours - theirs)
        size[(ours == theirs) | (np.isnan(ours) & np.isnan(theirs))] = 0.0
        worst = int(np.nan_to_num(size, nan=np.inf).argmax())
        scale = float(np.nanmax(np.abs(np.concatenate([ours, theirs]))))
        return NumberDifference(
            step=step.number,
            stop="layers",
            module=module,
            quantity=what,
            rows=pair,
            a=float(ours[worst]),
            b=float(theirs[worst]),
            size=float(size[worst]),
            relative=float(size[worst]) / scale if scale else float("inf"),
            scale=scale,
            allowed=self._tolerance.allowed(place),
        )


def _valid(step: Step, padding: int) -> int:
    """Number of new positions of a step that are not padding."""
    inputs = step.head.inputs
    return inputs.sequence_length - max(inputs.new_start, padding)


def _positions(left: Array, right: Array, a: Step, b: Step, pair: RowPair) -> tuple[Array, Array] | None:
    """The rows' values at the positions that both runs have; None where the shapes do not fit.

    Positions are the second to last dimension of everything that is saved per position.
    """
    if left.ndim != right.ndim or left.ndim < 3 or left.shape[0] <= pair.a or right.shape[0] <= pair.b:
        return None
    count = min(_valid(a, pair.padding_a), _valid(b, pair.padding_b), left.shape[-2], right.shape[-2])
    ours, theirs = left[pair.a][..., -count:, :], right[pair.b][..., -count:, :]
    return (ours, theirs) if ours.shape == theirs.shape else None


def _layer_module(header: RunHeader, step: Step, layer: int, part: str) -> tuple[str | None, int]:
    """Name of a decoder layer's part, or of the layer, and when it returned."""
    names = [header.modules[module].name for module in step.layout.modules] if step.layout else []
    whole = re.compile(rf"(^|\.)(layers|h|blocks|decoder_layers)\.{layer}$")
    found = next((name for name in names if whole.search(name)), None)
    if found is None:
        return None, len(names)
    name = f"{found}.{part}" if f"{found}.{part}" in names else found
    return name, names.index(name)


def _tensor_module(header: RunHeader, step: Step, tensor: str) -> tuple[str | None, int]:
    """The module that a saved tensor belongs to, and when it returned."""
    kind, _, rest = tensor.partition("/")
    names = [header.modules[module].name for module in step.layout.modules] if step.layout else []
    if kind == "modules" and rest in names:
        return rest, names.index(rest)
    number = rest.partition("/")[0]
    if kind in ("hidden", "kv") and number.isdigit():
        return _layer_module(header, step, int(number), "self_attn" if kind == "kv" else "")
    return None, len(names)
