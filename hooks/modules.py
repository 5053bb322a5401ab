"""Watch every module call of a step: order, shapes and statistics."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from hooks.calls import CallNotes, CallReducer, KnownCall, Look, Sizes, StepCalls
from hooks.patches import Patches
from hooks.shapebook import ShapeBook, shape_key
from hooks.statistics import describe_nonfinite, is_reducible, reduce_stacked
from hooks.tensors import keep, tensors_in
from tracer.schema.run import ModuleInfo


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
        self._book = ShapeBook(len(named))
        self._reducer = CallReducer(self._book)
        self._buffers = [
            {buffer.untyped_storage().data_ptr() for buffer in module.buffers(recurse=False)}
            for _, module in named
        ]
        # Per module what its last call looked like. Decode steps repeat themselves, so most calls only have
        # to be compared with it. Equal sizes are one object for all modules: between two calls the weights
        # have swept all that is not used again at once out of the processor's caches.
        self._last: list[KnownCall] = []
        self._sizes: dict[int, Sizes] = {}
        self.forget()
        for index, (_, module) in enumerate(named):
            patches.set(module, "forward", self._watched(index, module.forward, save.get(index)))

    def forget(self) -> None:
        """Look at every module anew: between two runs its dtype and device may have changed."""
        self._last[:] = [
            KnownCall(index, 0, kept=False, size_in=None, size_out=None, sizes=([], []))
            for index in range(len(self.modules))
        ]

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

    def look(self, notes: CallNotes | None) -> StepCalls | None:
        """Shapes and statistics of a step in progress; nothing is remembered of it.

        Args:
            notes: what :meth:`take` gave; None for what is being noted now.
        """
        notes = notes or self._notes
        return None if notes is None else CallReducer(self._book.aside()).reduce(notes.copy())

    def reduce(self, notes: CallNotes) -> StepCalls:
        """Shapes and statistics of the noted calls. On a GPU this waits for the device.

        Args:
            notes: what :meth:`take` gave.
        """
        known = len(self._reducer.volatile)
        calls = self._reducer.reduce(notes)
        if len(self._reducer.volatile) > known:
            self.forget()
        return calls

    def _watched(self, index: int, forward: Callable[..., Any], saved_as: str | None) -> Callable[..., Any]:
        last = self._last

        @functools.wraps(forward)
        def watched(*args: Any, **kwargs: Any) -> Any:
            output = forward(*args, **kwargs)
            notes = self._notes
            if notes is not None:
                # The usual call is noted right here: one more function call a module would cost as much
                # again.
                known = last[index]
                if (
                    type(output) is torch.Tensor
                    and output.shape == known.size_out
                    and args
                    and type(args[0]) is torch.Tensor
                    and args[0].shape == known.size_in
                    and not notes.early
                    and not (known.kept and output._version)
                ):
                    notes.calls.append(known)
                    if known.kept:
                        notes.held += (args[0], output)
                else:
                    self._note(notes, index, args[0] if args else kwargs, output, saved_as)
            return output

        return watched

    def _note(self, notes: CallNotes, index: int, argument: Any, output: Any, saved_as: str | None) -> None:
        try:
            inputs, outputs = tensors_in(argument), tensors_in(output)
            volatile = index in self._reducer.volatile
            plain = saved_as is None and not volatile and _is_plain(argument, output)
            known = self._known(index, inputs, outputs, plain=plain)
            if known.kept:
                if notes.early or volatile or outputs[0]._version:
                    notes.looks[len(notes.calls)] = _look(inputs, outputs[0])
                else:
                    notes.held += (inputs, outputs[0])
            notes.calls.append(known)
            if saved_as is not None and outputs:
                _save(notes, saved_as, outputs[0])
        except Exception as error:  # noqa: BLE001 - a fault in recording never breaks the generation
            name = self.modules[index].name or "model"
            notes.errors.append(f"{name}: {type(error).__name__}: {error}")

    def _known(
        self, index: int, inputs: list[torch.Tensor], outputs: list[torch.Tensor], *, plain: bool
    ) -> KnownCall:
        """What the call looks like."""
        sizes = [tensor.shape for tensor in inputs], [tensor.shape for tensor in outputs]
        known = self._last[index]
        if known.number and known.sizes == sizes and (known.size_in is not None) is plain:
            return known
        number = self._book.number(shape_key(inputs, outputs))
        sizes = self._sizes.setdefault(number, sizes)
        self._last[index] = known = KnownCall(
            module=index,
            number=number,
            kept=self._is_activation(index, outputs),
            size_in=sizes[0][0] if plain else None,
            size_out=sizes[1][0] if plain else None,
            sizes=sizes,
        )
        return known

    def _is_activation(self, index: int, outputs: list[torch.Tensor]) -> bool:
        """Whether statistics are taken: a view of the module's own buffer (rotary table) is no activation."""
        if not self._statistics or not outputs or not is_reducible(outputs[0]):
            return False
        buffers = self._buffers[index]
        return not buffers or outputs[0].untyped_storage().data_ptr() not in buffers


def _is_plain(argument: Any, output: Any) -> bool:
    return type(argument) is torch.Tensor and type(output) is torch.Tensor


def _look(inputs: list[torch.Tensor], output: torch.Tensor) -> Look:
    statistics, nonfinite = reduce_stacked([output]), None
    # Asking a GPU here would stall it once a module; there the extremes tell, at the end of the step.
    if not statistics.is_cuda and not bool(torch.isfinite(statistics[2:]).all()):
        nonfinite = describe_nonfinite(output, inputs)
    return Look(statistics, nonfinite)


def _save(notes: CallNotes, name: str, output: torch.Tensor) -> None:
    key, again = name, 2
    while key in notes.saved:  # a module that is called more than once in a step
        key, again = f"{name}#{again}", again + 1
    notes.saved[key] = keep(output)
