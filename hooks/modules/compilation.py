"""Notice that ``torch.compile`` is about to compile code that calls modules of a model in a run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType
from typing import Any

from torch import nn

from hooks.inherited import LOOKING_UP
from hooks.modules.tape import PlainWatched

OnCompile = Callable[[nn.Module], bool]
"""Called with a module whose call is in progress; returns whether it knows the module."""

_CALLS = (nn.Module._call_impl.__code__, nn.Module._wrapped_call_impl.__code__)


class CompilationWatch:
    """Calls back when compilation starts, before any code is looked at.

    Code that is compiled while a run is in progress would find the stand-ins, and guard on them or break at
    them. At the start of its compilation they can still be taken away.

    Args:
        on_compile: called with the modules whose calls are in progress in this thread, innermost first, until
            it knows one.
    """

    def __init__(self, on_compile: OnCompile) -> None:
        self._on_compile = on_compile

    def enter(self) -> None:
        """Begin to watch. ``generate`` has loaded the compiler; without it nothing can be compiled."""
        if _compiler() is not None:
            _compile_only_below(PlainWatched.__call__.__code__, *LOOKING_UP)
            _compiler().callback_handler.register_start_callback(self._start)

    def leave(self) -> None:
        """Watch no more."""
        if _compiler() is not None and self._start in _compiler().callback_handler.start_callbacks:
            _compiler().callback_handler.remove_start_callback(self._start)

    def _start(self, _args: Any) -> None:
        frame = sys._getframe(1)
        while frame is not None:
            if frame.f_code in _CALLS and self._on_compile(frame.f_locals["self"]):
                return
            frame = frame.f_back  # type: ignore[assignment]


def _compile_only_below(*codes: CodeType) -> None:
    """Let what frames call be compiled, and not the frames.

    The first of a module's frames that the compiler meets would be that of its stand-in, which is gone by the
    next call: the module's own would be compiled once more.
    """
    skip_code = getattr(_compiler().decorators, "skip_code", None)
    if skip_code is not None:
        for code in codes:
            skip_code(code)


def _compiler() -> Any:
    return sys.modules.get("torch._dynamo")
