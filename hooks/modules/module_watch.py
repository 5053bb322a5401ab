"""Watch every module call of a step: order, signatures and statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from math import isfinite
from types import MappingProxyType
from typing import Any, TypeAlias

import torch
from torch import Tensor

from hooks.faults import is_ours
from hooks.modules import tape
from hooks.modules.call_notes import NOTES, CallNotes, ChangedNote, EarlyResult
from hooks.modules.model_modules import ModelModules
from hooks.modules.nonfinite import BatchLayout, describe_nonfinite
from hooks.modules.reduction import CallReducer, QueuedCalls, ReducedCalls
from hooks.modules.signatures import CallSignature, SignatureTable
from hooks.modules.statistics import extremes, is_reducible, reduce_one, unreadable
from hooks.modules.tape import PlainTape, TapeContents
from hooks.printing import printed_error
from hooks.tensors import (
    clone,
    first_tensor,
    has_local_part,
    info_of,
    is_distributed,
    is_spread,
    local_part,
    tensors_in,
    to_host_all,
)
from hooks.user_modes import outside_autocast, sees_attributes, unseen_by_modes
from tracer.errors import UnsupportedError
from tracer.schema.run import NotSeen, NotSeenReason

Observer: TypeAlias = Callable[[Any], None]
"""Called with what a module's caller gets."""

NO_OBSERVERS: Mapping[int, Observer] = MappingProxyType({})


class ModuleWatch:
    """Notes and reduces the module calls of one run.

    A tape notes the calls when they return. In a decode step it defers outputs whose statistics it does not
    take itself, and all are reduced together at the end. In a long prefill outputs are large, so each is
    reduced when it appears, and at most one is in memory. The same goes for a module whose output turns out
    to be overwritten in place.

    Args:
        modules: the model's modules.
        statistics: whether to take statistics, or shapes only.
        save: tensor name for each module (by index) whose output is stored.
        observers: called with the output of each call of a module (by index).

    Attributes:
        modules: the model's modules.
        tape: has to be among the active tapes in the context of the run (:data:`hooks.modules.tape.parts`).
    """

    def __init__(
        self,
        modules: ModelModules,
        *,
        statistics: bool,
        save: Mapping[int, str],
        observers: Mapping[int, Observer] = NO_OBSERVERS,
    ) -> None:
        self.modules = modules
        self._statistics = statistics
        self._save = save
        self._observers = observers
        self._notes: CallNotes | None = None
        self._looks_twice = False
        self._signatures = SignatureTable(modules.modules, statistics=statistics)
        indexes = range(len(modules.modules))
        self.tape: PlainTape = tape.parts.tape(
            self._find,
            self._inspect,
            bytes(index in save or index in observers for index in indexes),
            self._signatures.depend_on_specs_alone(),
            modules.number,
        )
        self._reducer = CallReducer(self._overwritten)
        self._unseen_named = len(modules.unseen())
        self._distributed: set[int] = set()
        self._unsaved: set[int] = set()
        self._distributed_to_name: list[NotSeen] = []
        for index in modules.overwritten:
            self.tape.reduce_early(index)

    def begin(self, *, early: bool, single: bool = False, batch: BatchLayout | None = None) -> None:
        """Start to note calls.

        Args:
            early: reduce outputs when they appear (long prefill).
            single: whether one position of each row goes in.
            batch: where the rows of the batch are, if that is known.
        """
        if self._signatures.crowded:
            self._signatures.prune(self.tape.last_signatures())
        self._notes = CallNotes(batch=batch)
        # A deferred output is asked for its version, by compiled code too.
        early = early or sees_attributes()
        # A kernel of a library that writes to an output leaves its version, which would tell, as it is. Some
        # do so only where a single position goes in, when a transposed tensor is one piece.
        self._looks_twice = single and self._statistics and not (early or self.modules.looked_twice)
        self.tape.begin(None if early or self._looks_twice else self._notes.deferred)

    def take(self) -> CallNotes | None:
        """Stop to note calls, and return the notes; None without :meth:`begin`."""
        notes, self._notes = self._notes, None
        contents = self.tape.take()
        self.modules.looked_twice = self.modules.looked_twice or bool(notes and notes.extremes)
        return None if notes is None or contents is None else _complete(notes, contents)

    @property
    def count(self) -> int:
        """How many calls of the step are noted so far."""
        contents = self.tape.peek()
        return 0 if contents is None else len(contents[1]) // NOTES.itemsize

    def peek(self, notes: CallNotes | None) -> ReducedCalls | None:
        """The calls of a step in progress, which goes on as if nobody had asked.

        Args:
            notes: what :meth:`take` returned; None for what is being noted now.
        """
        if notes is None:
            contents = self.tape.peek()
            if self._notes is None or contents is None:
                return None
            notes = _complete(copy(self._notes), contents)
        queued = CallReducer(lambda _: None).queue(notes)
        return queued.reduced(to_host_all(queued.results))

    def queue(self, notes: CallNotes) -> QueuedCalls:
        """Queue the statistics that are left to be taken, without waiting for a GPU.

        Args:
            notes: what :meth:`take` returned.
        """
        return self._reducer.queue(notes)

    def release(self) -> None:
        """The run is over: a context that was copied in it does not keep what belongs to the model."""
        self._observers = NO_OBSERVERS

    @unseen_by_modes
    @outside_autocast
    def changed_by_hook(self, index: int, before: Tensor | None) -> None:
        """A forward hook has changed the output of a module.

        Args:
            index: the module's index.
            before: a copy of the first tensor that ``forward`` returned, if there is one.
        """
        if self._notes is None or index in self._notes.changed:
            return
        self._notes.changed[index] = ChangedNote(None if before is None else info_of(before), None)
        if before is not None and self._statistics and is_reducible(before):
            with self._guarded(index):
                reduced = torch.stack([*reduce_one(before)])
                self._notes.changed[index] = ChangedNote(info_of(before), reduced)

    def newly_not_seen(self) -> tuple[NotSeen, ...]:
        """Modules of which something is not recorded, beyond those that were named before."""
        unseen = self.modules.unseen()
        if len(unseen) == self._unseen_named and not self._distributed_to_name:
            return ()
        found = [*unseen.items()][self._unseen_named :]
        distributed, self._distributed_to_name = self._distributed_to_name, []
        self._unseen_named = len(unseen)
        return (
            *(NotSeen(module=index, reason=reason) for index, reason in found),
            *distributed,
        )

    @unseen_by_modes
    def _find(self, index: int, argument: Any, output: Any) -> CallSignature | None:
        """The signature of a call that differs from its module's last one."""
        try:
            found = self._signatures.find(index, argument, output)
            if is_distributed(output) and index not in self._distributed:
                self._note_distributed(index, output)
            return found
        except Exception as error:
            if not is_ours(error):
                raise
            self._note_fault(index, error)
            return None

    def _note_distributed(self, index: int, output: Any) -> None:
        """Record the part that this process has, if it has one; name the module in either case."""
        reason: NotSeenReason | None = "spread" if is_spread(output) else None
        if has_local_part(output):
            self.tape.inspect_all(index)
        else:
            reason = "distributed"
        if reason is not None and (self._statistics or index in self._save):
            self._distributed_to_name.append(NotSeen(module=index, reason=reason))
        self._distributed.add(index)

    @unseen_by_modes
    @outside_autocast
    def _inspect(self, call: int, index: int, wanted: bool, argument: Any, output: Any) -> None:
        """Reduce an output whose statistics are wanted and that is not deferred; store it."""
        notes = self._notes
        if notes is None:
            return
        # A fault in one costs none of the others.
        if has_local_part(output):
            with self._guarded(index):
                self._note_part(notes, call, index, local_part(output))
        elif not is_distributed(output) and tensors_in(output):
            with self._guarded(index):
                if wanted and not self._look_twice(notes, call, index, argument, first_tensor(output)):
                    notes.early[call] = _reduce(tensors_in(argument), first_tensor(output), notes.batch)
            with self._guarded(index):
                if index in self._save:
                    self._save_output(notes, index, first_tensor(output))
        if index in self._observers:
            with self._guarded(index):
                self._observers[index](output)

    def _look_twice(self, notes: CallNotes, call: int, index: int, argument: Any, output: Tensor) -> bool:
        """Defer an output of a step that looks twice; returns whether it is deferred."""
        if not self._looks_twice or output.is_inference() or index in self.modules.overwritten:
            return False
        found = extremes(output)
        deferred = notes.deferred.add(call, argument, output)
        if deferred:
            notes.extremes[call] = found
        return deferred

    def _save_output(self, notes: CallNotes, index: int, output: Tensor) -> None:
        reason = unreadable(output)
        if reason is None:
            _save(notes, self._save[index], output)
        elif index not in self._unsaved:  # said once
            self._unsaved.add(index)
            raise UnsupportedError(f"its output cannot be saved: {reason}")

    def _note_part(self, notes: CallNotes, call: int, index: int, part: Tensor) -> None:
        # Which rows of the batch it holds is not known, nor what went in.
        if self._statistics and is_reducible(part):
            notes.early[call] = _reduce([], part, None)
        if index in self._save:
            self._save_output(notes, index, part)

    def _overwritten(self, index: int) -> None:
        self.modules.overwritten.add(index)
        self.tape.reduce_early(index)

    @contextmanager
    def _guarded(self, index: int) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not is_ours(error):
                raise
            self._note_fault(index, error)

    def _note_fault(self, index: int, error: Exception) -> None:
        if self._notes is not None:
            name = self.modules.infos[index].name or "model"
            self._notes.errors.append(f"{name}: {printed_error(error)}")


def _complete(notes: CallNotes, contents: TapeContents) -> CallNotes:
    """Add the tape's contents to the notes."""
    notes.signatures, notes.noted = contents
    return notes


def _reduce(inputs: list[Tensor], output: Tensor, batch: BatchLayout | None) -> EarlyResult:
    reduced, nonfinite = reduce_one(output), None
    # Asking a GPU here would stall it once a module; there the extremes tell, at the end of the step.
    if output.is_cpu and not (isfinite(reduced.low.item()) and isfinite(reduced.high.item())):
        nonfinite = describe_nonfinite(output, inputs, batch)
    return EarlyResult(reduced, nonfinite)


def _save(notes: CallNotes, name: str, output: Tensor) -> None:
    key, again = name, 2
    while key in notes.saved:  # a module that is called more than once in a step
        key, again = f"{name}#{again}", again + 1
    notes.saved[key] = clone(output)
