"""Note the module calls of a step while they return; ``native/tape.c`` is the compiled form of this."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn.modules import module as torch_module

from hooks.faults import is_ours
from hooks.inherited import Inherited, as_called
from hooks.method_layer import MethodLayer
from hooks.modules.call_notes import NOTES, DeferredCalls
from hooks.modules.signatures import CallSignature, Signature
from hooks.native import compiled
from hooks.native.compiled import TapeParts
from hooks.patches import is_in_place
from hooks.tensors import first_tensor, tensors_in
from hooks.user_modes import unseen_by_modes

TapeContents: TypeAlias = tuple[list[Signature], bytes]
"""The signatures of a step's calls, each once, and the note of each call
(:data:`~hooks.modules.call_notes.NOTES`)."""

Find: TypeAlias = Callable[[int, Any, Any], CallSignature | None]
OnHook: TypeAlias = Callable[[int, Any], bool]
Inspect: TypeAlias = Callable[[int, int, bool, Any, Any], None]


class PlainTape:
    """Notes the module calls of one step after the other.

    Decode steps repeat themselves, so most calls have the signature of their module's last one. It is taken
    from what went in (the first positional argument, or all keyword arguments) and what came out.

    Where statistics are wanted, the first tensor that comes out is deferred to the end of the step, if it may
    be. The compiled form takes the statistics of outputs in the host's memory itself.

    A tape notes the calls of one run: those made in a context in which it is among the tapes (:data:`parts`).

    Args:
        find: gives the signature of a call (module's index, argument, output) that differs from the last one;
            None leaves the call out.
        inspect: called with a call (its place in the step, the module's index, whether its statistics are
            wanted, argument, output) whose statistics are wanted and whose output is not deferred, and with
            every call of the modules in ``inspected``.
        inspected: a flag a module: whether ``inspect`` is called with every call.
        shares: a flag a module: whether ``find`` gives its calls the same signature as those of other such
            modules with the same specs; the compiled form then does not ask again.
        owner: number of the model whose modules these are; a module may be part of two.
    """

    def __init__(self, find: Find, inspect: Inspect, inspected: bytes, shares: bytes, owner: int = 0) -> None:
        if len(inspected) != len(shares):
            raise ValueError("flags are bytes, one a module")
        modules = len(inspected)
        self._find = find
        self._inspect = inspect
        self._inspected = bytearray(inspected)
        self._owner = owner
        self._last: list[CallSignature | None] = [None] * modules
        self._early = [False] * modules
        self._changes: dict[CallSignature, CallSignature] = {}
        self._order: list[int] = []
        self._calls: list[CallSignature] | None = None
        self._deferred: DeferredCalls | None = None

    @staticmethod
    @unseen_by_modes
    def note(index: int, argument: Any, output: Any, owner: int, /) -> None:
        """Note a call on all tapes of this context.

        Args:
            index: the module's index.
            argument: its first positional argument, or all keyword arguments.
            output: what the caller gets.
            owner: number of the model whose module it is.
        """
        for tape in _plain_tapes.get() or ():
            if tape._calls is not None and tape._owner == owner and index < len(tape._last):
                tape._note(index, argument, output)

    def reduce_early(self, index: int, /) -> None:
        """Defer no output of a module from now on: something overwrites it before the step is over."""
        self._early[index] = True

    def inspect_all(self, index: int, /) -> None:
        """Call ``inspect`` with every call of a module from now on, with one that is being noted too."""
        self._inspected[index] = True

    def begin(self, deferred: DeferredCalls | None = None, /) -> None:
        """A step begins.

        Args:
            deferred: takes the outputs that are deferred; None to defer none.
        """
        self._changes.clear()
        self._order, self._calls, self._deferred = [], [], deferred

    def peek(self) -> TapeContents | None:
        """The notes of the step so far; it goes on. None without :meth:`begin`."""
        if self._calls is None:
            return None
        signatures: list[Signature] = [*dict.fromkeys(self._calls)]
        places = {call: place for place, call in enumerate(signatures)}
        notes = np.empty(len(self._calls), dtype=NOTES)
        notes["module"] = self._order
        notes["signature"] = [places[call] for call in self._calls]
        notes["statistics"] = np.nan
        return signatures, notes.tobytes()

    def take(self) -> TapeContents | None:
        """The notes of the step, which is over; None without :meth:`begin`."""
        taken, self._calls, self._deferred = self.peek(), None, None
        return taken

    def last_signatures(self) -> set[Signature]:
        """Signatures of the modules' last calls."""
        return {signature for signature in self._last if signature is not None}

    def _note(self, index: int, argument: Any, output: Any) -> None:
        signature = self._last[index]
        if signature is None or not _matches(signature, argument, output):
            signature = self._changed(index, signature, argument, output)
        if signature is None or self._calls is None:
            return
        self._last[index] = signature
        self._order.append(index)
        self._calls.append(signature)
        place, wanted = len(self._calls) - 1, signature.wants_statistics
        if wanted and self._deferred is not None and not self._early[index]:
            wanted = not self._deferred.add(place, argument, first_tensor(output))
        if wanted or self._inspected[index]:
            self._inspect(place, index, wanted, argument, output)

    def _changed(
        self, index: int, last: CallSignature | None, argument: Any, output: Any
    ) -> CallSignature | None:
        # What changes with the sequence changes in all layers alike, so one of them tells for the others.
        alike = None if last is None else self._changes.get(last)
        if alike is not None and _matches(alike, argument, output):
            return alike
        found = self._find(index, argument, output)
        if last is not None and found is not None:
            self._changes[last] = found
        return found


def _matches(signature: CallSignature, argument: Any, output: Any) -> bool:
    try:
        inputs, outputs = tensors_in(argument), tensors_in(output)
        sizes, dtypes = _sizes_and_dtypes([*inputs, *outputs])
        return len(inputs) == signature.inputs and sizes == signature.sizes and dtypes == signature.dtypes
    except Exception as error:
        if not is_ours(error):
            raise
        return False  # a tensor that cannot be asked for its size is left to find


def _sizes_and_dtypes(tensors: list[Tensor]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    return tuple(tensor.shape for tensor in tensors), tuple(tensor.dtype for tensor in tensors)


class PlainWatched(MethodLayer):
    """Stands in for a module's ``forward`` method, and notes its calls on the tapes of the context.

    Args:
        inner: the method below.
        index: the module's index.
        owner: number of the model whose module it is.
        hooks: the module's forward hooks, which change what the caller gets.
        on_hook: called with the index and what ``forward`` returned when there are hooks; unless it returns
            False, the call is noted by one behind them.
    """

    def __init__(
        self,
        inner: Callable[..., Any] | Inherited,
        index: int,
        owner: int,
        hooks: dict[int, Any],
        on_hook: OnHook,
        /,
    ) -> None:
        super().__init__(inner)
        self.index = index
        self._owner = owner
        self._hooks = hooks
        self._on_hook = on_hook

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method below, and note the call."""
        if torch.compiler.is_compiling():  # a call becomes a part of a graph, in which nothing is noted
            return self._compiled(*args, **kwargs)
        output = as_called(self.inner)(*args, **kwargs)
        if not is_in_place(self):
            return output
        hooked = self._hooks or torch_module._global_forward_hooks
        if not hooked or not self._on_hook(self.index, output):
            PlainTape.note(self.index, args[0] if args else kwargs, output, self._owner)
        return output

    def _compiled(self, *args: Any, **kwargs: Any) -> Any:
        """The call in words that the compiler understands."""
        if type(self.inner) is not Inherited:
            return self.inner(*args, **kwargs)  # type: ignore[operator]
        module: Any = self.inner.target
        return type(module).forward(module, *args, **kwargs)


_plain_tapes: ContextVar[tuple[PlainTape, ...] | None] = ContextVar("trace_generate_tapes", default=None)

parts = compiled.tape_parts or TapeParts(PlainTape, PlainWatched, _plain_tapes)
"""The tape in use, the stand-in for ``forward`` methods that belongs to it, the context variable that holds
the tapes of the runs in progress in a context, and what calls that stand-in directly
(:mod:`hooks.modules.direct_call`), None where nothing does."""
