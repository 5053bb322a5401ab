"""Call ``forward`` of a watched module without torch's look for hooks, where there are none.

``nn.Module._call_impl`` asks for hooks and, where there are none, as in nearly all modules, calls
``forward``. In the middle of a forward pass these few lines of Python take two microseconds for each of
hundreds of modules, more than to note the call: the weights have swept them out of the caches. So where
``forward`` has a stand-in in compiled code, this method gets one too (``native/direct_call.c``). For each
call it makes sure that there is nothing else to do, and calls a twin of the method, whose frame is like that
of the method but has nothing left to ask; else it calls the method. Where the method of this torch is another
than the one known here, it gets none.

Tracebacks, warnings that count frames, and whoever walks the stack find the frame where it would be, and the
method itself is called while a debugger, a profiler or a compiler looks at frames.
"""

from __future__ import annotations

import ast
import linecache
import sys
import textwrap
from collections.abc import Mapping, Sequence
from functools import cache
from types import CodeType, FunctionType
from typing import Any

from torch import nn

from hooks.inherited import method_of
from hooks.method_layer import Layer
from hooks.modules import tape
from hooks.native import compiled
from hooks.native.torch_library import address_of, find_library

NAME = "_call_impl"
"""The method."""

_USUAL: Any = nn.Module._call_impl

_CALL = "return forward_call("

_BEGINNING = """
def _call_impl(self, *args, **kwargs):
    forward_call = (self._slow_forward if torch._C._get_tracing_state() else self.forward)
    if not (self._backward_hooks or self._backward_pre_hooks or self._forward_hooks or self._forward_pre_hooks
            or _global_backward_pre_hooks or _global_backward_hooks
            or _global_forward_hooks or _global_forward_pre_hooks):
        return forward_call(*args, **kwargs)
"""
"""How the method begins where it is known."""


def direct_calls(watched: Mapping[int, Layer], modules: Sequence[nn.Module]) -> dict[int, Layer]:
    """Stand-ins for the method of modules, by index; modules that have a method of their own get none.

    Args:
        watched: what stands in for their ``forward``, in place already, by index.
        modules: all modules.
    """
    new = tape.parts.direct
    if new is None or _is_monitored() or twin() is None:
        return {}
    return {
        index: new(method_of(module, NAME), module, layer)
        for index, layer in watched.items()
        if NAME not in vars(module := modules[index]) and getattr(type(module), NAME, None) is _USUAL
    }


def _is_monitored() -> bool:
    """Whether somebody has asked Python to be told of what runs, as debuggers do since Python 3.12."""
    monitoring = getattr(sys, "monitoring", None)
    return monitoring is not None and any(map(monitoring.get_tool, range(6)))


@cache
def twin() -> CodeType | None:
    """The code that runs in place of the method's; None where nothing does.

    Compiled code is told of it, and of what else it has to know of torch.
    """
    code = None if compiled.use_direct_calls is None else _twin_of(_USUAL)
    if code is None:
        return None
    try:
        tracing_state = address_of(find_library()._ZN5torch3jit6tracer15getTracingStateEv)
    except (OSError, AttributeError):
        return None
    compiled.use_direct_calls(_USUAL, FunctionType(code, _USUAL.__globals__, NAME), tracing_state)
    return code


def _twin_of(method: Any) -> CodeType | None:
    """Code that only calls ``forward``, at the place where the method does if there are no hooks.

    Args:
        method: the method of ``nn.Module``; None is returned where it is not the one known here.
    """
    if not isinstance(method, FunctionType):
        return None
    known = method.__code__
    lines = linecache.getlines(known.co_filename)[known.co_firstlineno - 1 :]
    length = next((at for at, line in enumerate(lines, start=1) if _CALL in line), 0)
    if not _are_alike("".join(lines[:length]), _BEGINNING):
        return None
    head = f"def {NAME}(self, forward_call, args, kwargs):\n"
    source = "\n" * (known.co_firstlineno - 1) + head + "\n" * (length - 2) + lines[length - 1]
    made: dict[str, Any] = {}
    exec(compile(source, known.co_filename, "exec", dont_inherit=True), made)  # noqa: S102 - our own source
    code: CodeType = made[NAME].__code__
    # It mentions what the method mentions: the instance's method has been asked for just now.
    code = code.replace(co_consts=(*code.co_consts, *known.co_names))
    return code.replace(co_qualname=known.co_qualname) if sys.version_info >= (3, 11) else code


def _are_alike(one: str, other: str) -> bool:
    """Whether two sources differ in comments, spaces and line breaks at most."""
    try:
        return ast.dump(ast.parse(textwrap.dedent(one))) == ast.dump(ast.parse(other))
    except SyntaxError:
        return False
