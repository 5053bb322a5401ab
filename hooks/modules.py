"""Watch every module call of a step: order, shapes and statistics."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

from torch import Tensor, nn

from hooks.call_notes import CallNotes, Look
from hooks.calls import CallReducer, StepCalls
from hooks.known_calls import KnownCalls
from hooks.patches import Patches
from hooks.shapebook import ShapeBook
from hooks.statistics import describe_nonfinite, reduce_one
from hooks.tensors import first_tensor, keep, tensors_in
from tracer.schema.run import ModuleInfo


class ModuleWatch:
    """Stands before ``forward`` of every module of a model.

    Where only shapes are wanted they are compared with the last ones when a call returns, and only a call
    that looks different is kept to the end of the step. For statistics, what goes in and comes out in a
    decode step is only kept, and looked at all together at the end. In the prefill it may be large, so each
    output is looked at when it appears, and never more than one is held. The same goes for a module whose
    output turns out to be overwritten in place.

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
            watched = self._keeping if statistics or index in save else self._comparing
            patches.set(module, "forward", watched(index, module.forward, save.get(index)))

    def forget(self) -> None:
        """Look at every module anew: between two runs its dtype and device may have changed."""
        self._known.forget()

    def begin(self, *, early: bool) -> None:
        """Start to note calls.

        Args:
            early: look at outputs when they appear (prefill, inference mode).
        """
        self._known.begin()
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

    # Between two calls the weights have swept this code out of the processor's caches, so that a line of the
    # two wrappers costs many times what it would in a loop. Tensors, however, are in the caches when a call
    # returns and no longer when the step is over: where no values are wanted, sizes that are the usual ones
    # are compared in time. Calls that take more lines than that wait for the end of the step.

    def _comparing(self, index: int, forward: Callable[..., Any], saved_as: str | None) -> Callable[..., Any]:
        last = self._known.last

        @functools.wraps(forward)
        def watched(*args: Any, **kwargs: Any) -> Any:
            output = forward(*args, **kwargs)
            notes = self._notes
            if notes is not None:
                argument, known = args[0] if args else kwargs, last[index]
                if (
                    type(output) is Tensor
                    and type(argument) is Tensor
                    and output.shape == known.size_out
                    and argument.shape == known.size_in
                ):
                    notes.returned += (index, known, None, 0)
                elif notes.early:
                    self._note(notes, index, argument, output, saved_as)
                else:
                    notes.returned += (index, argument, output, 0)
            return output

        return watched

    def _keeping(self, index: int, forward: Callable[..., Any], saved_as: str | None) -> Callable[..., Any]:
        in_time = self._in_time

        @functools.wraps(forward)
        def watched(*args: Any, **kwargs: Any) -> Any:
            output = forward(*args, **kwargs)
            notes = self._notes
            if notes is not None:
                argument = args[0] if args else kwargs
                if notes.early or index in in_time:
                    self._note(notes, index, argument, output, saved_as)
                else:
                    first = output[0] if type(output) is tuple and output else output
                    try:
                        version = first._version if type(first) is Tensor else 0
                        notes.returned += (index, argument, output, version)
                    except RuntimeError:  # a tensor from inference mode has no version
                        self._note(notes, index, argument, output, saved_as)
            return output

        return watched

    def _note(self, notes: CallNotes, index: int, argument: Any, output: Any, saved_as: str | None) -> None:
        """Look at a call at once, and hold nothing of it."""
        try:
            known = self._known.find(index, argument, output)
            look = _look(tensors_in(argument), first_tensor(output)) if known.kept else None
            notes.returned += (index, known, look, 0)
            if saved_as is not None and tensors_in(output):
                _save(notes, saved_as, first_tensor(output))
        except Exception as error:  # noqa: BLE001 - a fault in recording never breaks the generation
            notes.add_fault(self.modules[index].name, error)


def _look(inputs: list[Tensor], output: Tensor) -> Look:
    reduced, nonfinite = reduce_one(output), None
    # Asking a GPU here would stall it once a module; there the extremes tell, at the end of the step.
    if not output.is_cuda and not (isfinite(reduced.low.item()) and isfinite(reduced.high.item())):
        nonfinite = describe_nonfinite(output, inputs)
    return Look(reduced, nonfinite)


def _save(notes: CallNotes, name: str, output: Tensor) -> None:
    key, again = name, 2
    while key in notes.saved:  # a module that is called more than once in a step
        key, again = f"{name}#{again}", again + 1
    notes.saved[key] = keep(output)
