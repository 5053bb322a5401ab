"""Watch every module call of a step: order, shapes and statistics."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from hooks.patches import Patches
from hooks.shapebook import ShapeBook
from hooks.statistics import (
    GroupedReducer,
    NonFinite,
    describe_nonfinite,
    is_reducible,
    reduce_stacked,
)
from hooks.tensors import keep, tensors_in, to_host
from tracer.schema.run import ModuleInfo
from tracer.schema.step import CallLayout, CallShape, ModuleColumns


@dataclass(frozen=True)
class StepCalls:
    """All module calls of one step, ready to be recorded.

    Attributes:
        layout_number: number of the layout.
        layout: which modules were called.
        shapes: the call shapes in use, by number.
        columns: shape numbers and statistics per call.
        first_nonfinite: module index and details of the first call whose output was not finite.
        saved: outputs to be stored, by tensor name.
    """

    layout_number: int
    layout: CallLayout
    shapes: dict[int, CallShape]
    columns: ModuleColumns
    first_nonfinite: tuple[int, NonFinite] | None
    saved: dict[str, torch.Tensor]


@dataclass(frozen=True)
class _Look:
    """What was seen of a call whose tensors are not kept."""

    shape: int
    statistics: torch.Tensor | None
    nonfinite: NonFinite | None


@dataclass
class CallNotes:
    """Calls noted during a forward pass, to be handed to :meth:`ModuleWatch.reduce`.

    Attributes:
        early: whether outputs are looked at when they appear.
        calls: four values a call in one flat list, since a container a call would feed the garbage
            collector: module index, first input, first output, and the output's version when it appeared.
        others: calls with anything but one tensor in and one out: all of them.
        looks: calls whose tensors are not kept.
        saved: outputs to be stored, by tensor name.
        errors: faults in noting.
    """

    early: bool
    calls: list[Any] = field(default_factory=list)
    others: dict[int, tuple[list[torch.Tensor], list[torch.Tensor]]] = field(default_factory=dict)
    looks: dict[int, _Look] = field(default_factory=dict)
    saved: dict[str, torch.Tensor] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def tensors(self, call: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Tensors that went into a call and came out of it."""
        return self.others.get(call) or ([self.calls[4 * call + 1]], [self.calls[4 * call + 2]])


@dataclass(frozen=True)
class _PlainCalls:
    """Calls with one tensor in and one out: most of them, and the same in almost every decode step.

    Attributes:
        modules: module index of every call of the step.
        apart: the calls that are not plain.
        sizes: sizes of the plain calls' inputs and outputs.
        shapes: shape number of every call, zero where it is not plain.
        active: the plain calls that have statistics.
    """

    modules: list[int]
    apart: list[int]
    sizes: tuple[list[torch.Size], list[torch.Size]]
    shapes: npt.NDArray[np.int32]
    active: list[int]


class ModuleWatch:
    """Stands before ``forward`` of every module of a model.

    In a decode step tensors are only kept, and reduced together at the end of the step. In the prefill
    they may be large, so each is reduced when it appears, and never more than one is held. The same goes
    for a module whose output turns out to be overwritten in place later in the step.

    Attributes:
        modules: all registered modules, the model itself first.
    """

    def __init__(
        self, model: nn.Module, patches: Patches, *, statistics: bool, save: Mapping[int, str]
    ) -> None:
        """Put a watch before every module.

        Args:
            model: the model.
            patches: keeps what is replaced.
            statistics: whether to take statistics, or shapes only.
            save: tensor name for each module (by index) whose output is stored.
        """
        named = list(model.named_modules())
        self.modules = tuple(
            ModuleInfo(name=name, class_name=type(module).__name__) for name, module in named
        )
        self._statistics = statistics
        self._notes: CallNotes | None = None
        self._volatile: set[int] = set()
        self._book = ShapeBook(len(named))
        self._plain: _PlainCalls | None = None
        self._reducer = GroupedReducer()
        self._buffers = [
            {buffer.untyped_storage().data_ptr() for buffer in module.buffers(recurse=False)}
            for _, module in named
        ]
        for index, (_, module) in enumerate(named):
            patches.set(module, "forward", self._watched(index, module.forward, save.get(index)))

    def begin(self, *, early: bool) -> None:
        """Start to note calls.

        Args:
            early: look at outputs when they appear (prefill, inference mode).
        """
        self._notes = CallNotes(early)

    def take(self) -> CallNotes | None:
        """Stop to note calls and hand over what was noted; None without :meth:`begin`."""
        notes, self._notes = self._notes, None
        return notes

    def _watched(self, index: int, forward: Callable[..., Any], saved_as: str | None) -> Callable[..., Any]:
        @functools.wraps(forward)
        def watched(*args: Any, **kwargs: Any) -> Any:
            output = forward(*args, **kwargs)
            notes = self._notes
            if notes is not None:
                # One tensor in, one out is noted right here: one more function call a module would cost
                # as much again.
                if (
                    type(output) is torch.Tensor
                    and args
                    and type(args[0]) is torch.Tensor
                    and saved_as is None
                    and not notes.early
                    and index not in self._volatile
                ):
                    notes.calls += (index, args[0], output, output._version)
                else:
                    self._note(notes, index, args[0] if args else kwargs, output, saved_as)
            return output

        return watched

    def _note(self, notes: CallNotes, index: int, argument: Any, output: Any, saved_as: str | None) -> None:
        try:
            inputs, outputs = tensors_in(argument), tensors_in(output)
            call = len(notes.calls) // 4
            if notes.early or index in self._volatile:
                notes.looks[call] = self._look(index, inputs, outputs)
                notes.calls += (index, None, None, 0)
            else:
                notes.others[call] = (inputs, outputs)
                first = outputs[0] if outputs else None
                notes.calls += (index, None, first, 0 if first is None else first._version)
            if saved_as is not None:
                _save(notes, saved_as, outputs)
        except Exception as error:  # noqa: BLE001 - a fault in recording never breaks the generation
            name = self.modules[index].name or "model"
            notes.errors.append(f"{name}: {type(error).__name__}: {error}")

    def _look(self, index: int, inputs: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor]) -> _Look:
        statistics, nonfinite = None, None
        if self._is_activation(index, outputs):
            statistics = reduce_stacked(outputs[:1])
            # Asking a GPU here would stall it once a module; there the extremes tell, at the end of the step.
            if not statistics.is_cuda and not bool(torch.isfinite(statistics[2:]).all()):
                nonfinite = describe_nonfinite(outputs[0], inputs)
        return _Look(self._book.number(inputs, outputs), statistics, nonfinite)

    def _is_activation(self, index: int, outputs: Sequence[torch.Tensor]) -> bool:
        """Whether statistics are taken: a view of the module's own buffer (rotary table) is no activation."""
        if not self._statistics or not outputs or not is_reducible(outputs[0]):
            return False
        buffers = self._buffers[index]
        return not buffers or outputs[0].untyped_storage().data_ptr() not in buffers

    def reduce(self, notes: CallNotes) -> StepCalls:
        """Shapes and statistics of the noted calls. On a GPU this waits for the device.

        Args:
            notes: what :meth:`take` gave.
        """
        modules = notes.calls[0::4]
        plain = self._plain = self._settled(notes, modules)
        number, layout = self._book.layout(modules)
        shapes, active = plain.shapes.copy(), [*plain.active]
        for call, look in notes.looks.items():
            shapes[call] = look.shape
        for call, (inputs, outputs) in notes.others.items():
            shapes[call] = self._book.number_at(call, inputs, outputs)
            if self._is_activation(modules[call], outputs):
                active.append(call)
        kept = self._unchanged(notes, active)
        columns = self._reducer.reduce(kept, len(modules))
        for call, look in notes.looks.items():
            if look.statistics is not None:
                columns[:, call] = to_host(look.statistics)[:, 0]
        counts, first = self._nonfinite(notes, kept, columns)
        return StepCalls(
            layout_number=number,
            layout=layout,
            shapes={shape: self._book.shape(shape) for shape in set(shapes.tolist())},
            columns=ModuleColumns(
                shapes, mean=columns[0], std=columns[1], low=columns[2], high=columns[3], nonfinite=counts
            ),
            first_nonfinite=first,
            saved=notes.saved,
        )

    def _settled(self, notes: CallNotes, modules: list[int]) -> _PlainCalls:
        """The plain calls of a step; in most steps they are those of the step before."""
        apart = [*notes.others, *notes.looks]
        known = self._plain
        same = known is not None and known.modules == modules and known.apart == apart
        others = {*apart}
        plain = [call for call in range(len(modules)) if call not in others]
        inputs, outputs = notes.calls[1::4], notes.calls[2::4]
        sizes = [inputs[call].shape for call in plain], [outputs[call].shape for call in plain]
        if known is not None and same and known.sizes == sizes:
            return known
        shapes = np.zeros(len(modules), dtype=np.int32)
        for call in plain:
            shapes[call] = self._book.number_at(call, [inputs[call]], [outputs[call]])
        active = [call for call in plain if self._is_activation(modules[call], [outputs[call]])]
        return _PlainCalls(modules, apart, sizes, shapes, active)

    def _unchanged(self, notes: CallNotes, active: list[int]) -> dict[int, torch.Tensor]:
        """Outputs that are what they were when the call returned; modules of the others are remembered."""
        kept: dict[int, torch.Tensor] = {}
        for call in active:
            output = notes.calls[4 * call + 2]
            if output._version == notes.calls[4 * call + 3]:
                kept[call] = output
            else:  # overwritten since: from now on it is looked at in time
                self._volatile.add(notes.calls[4 * call])
        return kept

    def _nonfinite(
        self, notes: CallNotes, kept: dict[int, torch.Tensor], columns: np.ndarray[Any, np.dtype[np.float32]]
    ) -> tuple[np.ndarray[Any, np.dtype[np.int32]], tuple[int, NonFinite] | None]:
        """Count per call, and the first call in order of return: the innermost culprit."""
        counts = np.full(columns.shape[1], -1, dtype=np.int32)
        taken = sorted([*kept, *(call for call, look in notes.looks.items() if look.statistics is not None)])
        counts[taken] = 0
        first: tuple[int, NonFinite] | None = None
        extremes = columns[2:, taken]
        for call in np.asarray(taken, dtype=np.intp)[~np.isfinite(extremes).all(axis=0)].tolist():
            look = notes.looks.get(call)
            if look is None:
                found = describe_nonfinite(kept[call], notes.tensors(call)[0])
            else:
                # From a GPU's prefill only the extremes are known: at least one value, rows unknown.
                found = look.nonfinite or NonFinite(1, (), inputs_finite=first is None)
            counts[call] = found.count
            first = first or (notes.calls[4 * call], found)
        return counts, first


def _save(notes: CallNotes, name: str, outputs: Sequence[torch.Tensor]) -> None:
    if outputs:
        key, again = name, 2
        while key in notes.saved:  # a module that is called more than once in a step
            key, again = f"{name}#{again}", again + 1
        notes.saved[key] = keep(outputs[0])
