"""Watch every module call of a step: order, shapes and statistics."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from copy import copy
from math import isfinite
from typing import Any

import numpy as np
from torch import Tensor, nn

from hooks.modules.call_notes import NOTES, CallNotes, KnownCall, Look
from hooks.modules.reduction import CallReducer, QueuedCalls, TakenCalls
from hooks.modules.signatures import KnownCalls
from hooks.modules.statistics import describe_nonfinite, reduce_one
from hooks.modules.tape import Taken, Tape
from hooks.patches import Patches
from hooks.tensors import first_tensor, keep, tensors_in, to_host_all
from tracer.schema.run import ModuleInfo


class ModuleWatch:
    """Stands before ``forward`` of every module of a model.

    A tape notes the calls when they return. An output whose statistics it does not take itself it holds in a
    decode step, and all are looked at together at the end. In a long prefill outputs are large, so each is
    looked at when it appears, and never more than one is held. The same goes for a module whose output turns
    out to be overwritten in place.

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
        self._save = save
        self._notes: CallNotes | None = None
        self._known = KnownCalls([module for _, module in named], statistics=statistics)
        self._tape = Tape(len(named), self._find, self._look)
        self._reducer = CallReducer(self._tape.look_in_time)
        for index, (_, module) in enumerate(named):
            forward = module.forward
            watched = self._tape.watch(index, forward, index in save, self._known.depends_on_looks(index))
            patches.set(module, "forward", functools.update_wrapper(watched, forward))

    def forget(self) -> None:
        """Look at every module anew: between two runs its dtype and device may have changed."""
        self._tape.forget()

    def begin(self, *, early: bool) -> None:
        """Start to note calls.

        Args:
            early: look at outputs when they appear (long prefill).
        """
        if self._known.crowded:
            self._known.keep(self._tape.known())
        self._notes = CallNotes()
        self._tape.begin(None if early else self._notes.held)

    def take(self) -> CallNotes | None:
        """Stop to note calls and hand over what was noted; None without :meth:`begin`."""
        notes, self._notes = self._notes, None
        taken = self._tape.take()
        return None if notes is None or taken is None else _complete(notes, taken)

    def look(self, notes: CallNotes | None) -> TakenCalls | None:
        """The calls of a step in progress; nothing is remembered of them.

        Args:
            notes: what :meth:`take` gave; None for what is being noted now.
        """
        if notes is None:
            taken = self._tape.so_far()
            if self._notes is None or taken is None:
                return None
            notes = _complete(copy(self._notes), taken)
        queued = CallReducer(lambda _: None).queue(notes)
        return queued.taken(to_host_all(queued.results))

    def queue(self, notes: CallNotes) -> QueuedCalls:
        """Take the statistics that are left to be taken; a GPU is not waited for.

        Args:
            notes: what :meth:`take` gave.
        """
        return self._reducer.queue(notes)

    def _find(self, index: int, argument: Any, output: Any) -> KnownCall | None:
        """What a call looks like that is not like the last one of its module."""
        try:
            return self._known.find(index, argument, output)
        except Exception as error:  # noqa: BLE001 - a fault in recording never breaks the generation
            self._fault(index, error)
            return None

    def _look(self, call: int, index: int, wanted: bool, argument: Any, output: Any) -> None:
        """Look at a call whose output is stored, or is not held though its statistics are wanted."""
        notes = self._notes
        if notes is None:
            return
        try:
            if wanted:
                notes.looks[call] = _look(tensors_in(argument), first_tensor(output))
            name = self._save.get(index)
            if name is not None and tensors_in(output):
                _save(notes, name, first_tensor(output))
        except Exception as error:  # noqa: BLE001 - a fault in recording never breaks the generation
            self._fault(index, error)

    def _fault(self, index: int, error: Exception) -> None:
        if self._notes is not None:
            name = self.modules[index].name or "model"
            self._notes.errors.append(f"{name}: {type(error).__name__}: {error}")


def _complete(notes: CallNotes, taken: Taken) -> CallNotes:
    """Add what the tape noted to the notes."""
    notes.known, calls = taken
    notes.calls = np.frombuffer(calls, dtype=NOTES)
    return notes


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
