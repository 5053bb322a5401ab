"""Note what the modules of a model do, while they do it; ``native/tape.c`` is the compiled form of this."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from hooks.modules.call_notes import NOTES, HeldCalls, KnownCall
from hooks.native import compiled
from hooks.tensors import first_tensor, tensors_in

Taken = tuple[list[KnownCall], bytes]
"""What calls look like, and what was noted of each (:data:`~hooks.modules.call_notes.NOTES`)."""

Find = Callable[[int, Any, Any], KnownCall | None]
Look = Callable[[int, int, bool, Any, Any], None]


class PlainTape:
    """Notes the module calls of one step after the other.

    Decode steps repeat themselves, so most calls look like the last one of their module. A call is told by
    what went in (its first positional argument, or all keyword arguments) and what came out.

    Where statistics are wanted, the first tensor that comes out is held to the end of the step, if it may be.
    The compiled form takes the statistics of outputs whose values lie in the host's memory itself.

    Args:
        modules: how many there are.
        find: says of a call that looks new (module's index, argument, output) what it looks like; None leaves
            the call out.
        look: is shown a call (its place in the step, the module's index, whether its statistics are wanted,
            argument, output) whose statistics are wanted and whose output is not held, and all calls of the
            modules that it asked for.
    """

    def __init__(self, modules: int, find: Find, look: Look) -> None:
        self._find = find
        self._look = look
        self._usual: list[KnownCall | None] = [None] * modules
        self._asked = [False] * modules
        self._in_time = [False] * modules
        self._changes: dict[KnownCall, KnownCall] = {}
        self._order: list[int] = []
        self._calls: list[KnownCall] | None = None
        self._held: HeldCalls | None = None

    def watch(
        self, index: int, forward: Callable[..., Any], asked: bool, shares: bool, /
    ) -> Callable[..., Any]:
        """What stands before the ``forward`` method of a module.

        Args:
            index: the module's index.
            forward: the method.
            asked: whether ``look`` is shown every call.
            shares: whether ``find`` says the same of its calls as of those of other such modules that look
                alike; the compiled form then does not ask again.
        """
        self._asked[index] = asked

        @functools.wraps(forward)
        def watched(*args: Any, **kwargs: Any) -> Any:
            output = forward(*args, **kwargs)
            if self._calls is not None:
                self._note(index, args[0] if args else kwargs, output)
            return output

        return watched

    def forget(self) -> None:
        """Find out anew what every call looks like."""
        self._usual = [None] * len(self._usual)

    def look_in_time(self, index: int, /) -> None:
        """Hold no output of a module from now on: something overwrites it before the step is over."""
        self._in_time[index] = True

    def begin(self, held: HeldCalls | None = None, /) -> None:
        """A step begins.

        Args:
            held: takes the outputs that are held; None to hold none.
        """
        self._changes.clear()
        self._order, self._calls, self._held = [], [], held

    def so_far(self) -> Taken | None:
        """What has been noted of the step, which goes on; None without :meth:`begin`."""
        if self._calls is None:
            return None
        known = [*dict.fromkeys(self._calls)]
        places = {call: place for place, call in enumerate(known)}
        notes = np.empty(len(self._calls), dtype=NOTES)
        notes["module"] = self._order
        notes["known"] = [places[call] for call in self._calls]
        notes["statistics"] = np.nan
        return known, notes.tobytes()

    def take(self) -> Taken | None:
        """What has been noted of the step, which is over; None without :meth:`begin`."""
        taken, self._calls, self._held = self.so_far(), None, None
        return taken

    def known(self) -> set[KnownCall]:
        """What the last calls of the modules looked like."""
        return {known for known in self._usual if known is not None}

    def _note(self, index: int, argument: Any, output: Any) -> None:
        usual = self._usual[index]
        if usual is None or not _looks_like(usual, argument, output):
            usual = self._new(index, usual, argument, output)
        if usual is None or self._calls is None:
            return
        self._usual[index] = usual
        self._order.append(index)
        self._calls.append(usual)
        place, wanted = len(self._calls) - 1, usual.kept
        if wanted and self._held is not None and not self._in_time[index]:
            wanted = not self._held.add(place, argument, first_tensor(output))
        if wanted or self._asked[index]:
            self._look(place, index, wanted, argument, output)

    def _new(self, index: int, usual: KnownCall | None, argument: Any, output: Any) -> KnownCall | None:
        # What changes with the sequence changes in all layers alike, so one of them tells for the others.
        alike = None if usual is None else self._changes.get(usual)
        if alike is not None and _looks_like(alike, argument, output):
            return alike
        found = self._find(index, argument, output)
        if usual is not None and found is not None:
            self._changes[usual] = found
        return found


def _looks_like(known: KnownCall, argument: Any, output: Any) -> bool:
    try:
        inputs, outputs = tensors_in(argument), tensors_in(output)
        return len(inputs) == known.inputs and _looks([*inputs, *outputs]) == (known.sizes, known.dtypes)
    except Exception:  # noqa: BLE001 - a tensor that cannot be asked for its size is left to find
        return False


def _looks(tensors: list[Tensor]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    return tuple(tensor.shape for tensor in tensors), tuple(tensor.dtype for tensor in tensors)


Tape: type[PlainTape] = compiled.tape_class or PlainTape
"""The tape in use."""
