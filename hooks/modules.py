"""Watch every module call of a step: order, shapes and statistics."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from hooks.call_notes import CallNotes, Look
from hooks.calls import CallReducer, StepCalls
from hooks.known_calls import KnownCalls
from hooks.patches import Patches
from hooks.shapebook import ShapeBook
from hooks.statistics import describe_nonfinite, reduce_stacked
from hooks.tensors import keep, tensors_in
from tracer.schema.run import ModuleInfo


class ModuleWatch:
    """Stands before ``forward`` of every module of a model.

    In a decode step what goes in and comes out is only kept, and looked at all together at the end of the
    step. In the prefill it may be large, so each output is looked at when it appears, and never more than
    one is held. The same goes for a module whose output turns out to be overwritten in place.

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
        self._notes: CallNotes | None = None
        self._book = ShapeBook(len(named))
        self._known = KnownCalls(named, self._book, statistics=statistics)
        # Outputs that are stored, or that something overwrites in place, are looked at when they appear.
        self._in_time = set(save)
        self._reducer = CallReducer(self._book, self._in_time)
        for index, (_, module) in enumerate(named):
            patches.set(module, "forward", self._watched(index, module.forward, save.get(index)))

    def forget(self) -> None:
        """Look at every module anew: between two runs its dtype and device may have changed."""
        self._known.forget()

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
        if notes is None:
            return None
        return CallReducer(self._book.aside(), set()).reduce(self._known.recognise(notes.copy()))

    def reduce(self, notes: CallNotes) -> StepCalls:
        """Shapes and statistics of the noted calls. On a GPU this waits for the device.

        Args:
            notes: what :meth:`take` gave.
        """
        return self._reducer.reduce(self._known.recognise(notes))

    def _watched(self, index: int, forward: Callable[..., Any], saved_as: str | None) -> Callable[..., Any]:
        in_time = self._in_time

        @functools.wraps(forward)
        def watched(*args: Any, **kwargs: Any) -> Any:
            output = forward(*args, **kwargs)
            notes = self._notes
            if notes is not None:
                # Between two calls the weights have swept this code out of the processor's caches, so a
                # line costs many times what it would in a loop: here is only what cannot be done later.
                argument = args[0] if args else kwargs
                if notes.early or index in in_time:
                    self._note(notes, index, argument, output, saved_as)
                else:
                    first = output[0] if type(output) is tuple and output else output
                    try:
                        version = first._version if type(first) is torch.Tensor else 0
                        notes.returned += (index, argument, output, version)
                    except RuntimeError:  # a tensor from inference mode has no version
                        self._note(notes, index, argument, output, saved_as)
            return output

        return watched

    def _note(self, notes: CallNotes, index: int, argument: Any, output: Any, saved_as: str | None) -> None:
        """Look at a call at once, and hold nothing of it."""
        try:
            inputs, outputs = tensors_in(argument), tensors_in(output)
            known = self._known.find(index, inputs, outputs)
            notes.returned += (index, known, _look(inputs, outputs[0]) if known.kept else None, 0)
            if saved_as is not None and outputs:
                _save(notes, saved_as, outputs[0])
        except Exception as error:  # noqa: BLE001 - a fault in recording never breaks the generation
            notes.add_fault(self.modules[index].name, error)


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
