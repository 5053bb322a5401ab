"""Call ``forward`` of a watched module without the method of torch that would do nothing else.

``nn.Module._call_impl`` asks for hooks and, where there are none, as in nearly all modules, calls
``forward``. In the middle of a forward pass these few lines of Python take two microseconds for each of
hundreds of modules, more than to note the call: the weights have swept them out of the caches. So where
``forward`` has a stand-in in compiled code, this method gets one too (``native/direct_call.c``). For each
call it makes sure that there is nothing else to do, and calls the other stand-in; else it calls the method.
Where the method of this torch is another than the one known here, it gets none.

What can be seen stays: the traceback of an exception shows the method, and it is called while a debugger, a
profiler or a compiler looks at frames.
"""

from __future__ import annotations

import ast
import dis
import linecache
import sys
import textwrap
from functools import cache
from types import FunctionType
from typing import Any

from torch import nn
from torch.nn.modules import module as torch_module

from hooks.method_layer import Layer
from hooks.modules import tape
from hooks.native import compiled
from hooks.native.torch_library import address_of, find_library

NAME = "_call_impl"
"""The method."""

_USUAL: Any = nn.Module._call_impl

_GETATTRIBUTE = object.__getattribute__

_GLOBAL_HOOKS = (
    "_global_backward_pre_hooks",
    "_global_backward_hooks",
    "_global_forward_hooks",
    "_global_forward_pre_hooks",
)

_READ = ("forward", "_backward_hooks", "_backward_pre_hooks", "_forward_hooks", "_forward_pre_hooks")
"""Attributes of the module that the method reads where there are no hooks."""

_BEGINNING = """
def _call_impl(self, *args, **kwargs):
    forward_call = (self._slow_forward if torch._C._get_tracing_state() else self.forward)
    if not (self._backward_hooks or self._backward_pre_hooks or self._forward_hooks or self._forward_pre_hooks
            or _global_backward_pre_hooks or _global_backward_hooks
            or _global_forward_hooks or _global_forward_pre_hooks):
        return forward_call(*args, **kwargs)
"""
"""How the method begins where it is known."""


def direct_call(module: nn.Module, watched: Layer) -> Layer | None:
    """A stand-in for the method of a module; None where the method has to be called.

    Args:
        module: the module.
        watched: what stands in for its ``forward``, in place already.
    """
    new = tape.parts.direct
    if new is None or not _are_possible() or NAME in vars(module) or not is_usual(type(module)):
        return None
    made: Layer = new(module._call_impl, module, watched)
    return made


def is_usual(kind: type[Any]) -> bool:
    """Whether modules of a class call ``forward`` in the way of ``nn.Module``.

    Args:
        kind: the class.
    """
    if _of_class(kind, NAME) is not _USUAL or _of_class(kind, "__getattribute__") is not _GETATTRIBUTE:
        return False
    # What a class has under such a name may stand before what the module has.
    return not any(hasattr(type(_of_class(kind, name)), "__set__") for name in _READ)


def _of_class(kind: type[Any], name: str) -> Any:
    """What a class or one of its bases has under a name; None if none has."""
    return next((vars(each)[name] for each in kind.__mro__ if name in vars(each)), None)


def _are_possible() -> bool:
    """Whether the method is known, and nobody has asked Python to be told of what runs."""
    monitoring = getattr(sys, "monitoring", None)
    if monitoring is not None and any(map(monitoring.get_tool, range(6))):
        return False
    return _set_up()


@cache
def _set_up() -> bool:
    """Tell the compiled code what it has to know of torch; whether there is all of that."""
    found = _find_call()
    if compiled.use_direct_calls is None or found is None:
        return False
    try:
        tracing_state = address_of(find_library()._ZN5torch3jit6tracer15getTracingStateEv)
    except (OSError, AttributeError):
        return False
    hooks = [getattr(torch_module, name) for name in _GLOBAL_HOOKS]
    compiled.use_direct_calls(is_usual, tracing_state, _USUAL, *found, *hooks)
    return True


def _find_call() -> tuple[int, int] | None:
    """Where the method calls ``forward`` if there are no hooks; None where the method is another.

    Returns:
        The instruction, as an offset in its code, and the line.
    """
    if not isinstance(_USUAL, FunctionType):
        return None
    code = _USUAL.__code__
    lines = linecache.getlines(code.co_filename)[code.co_firstlineno - 1 :]
    length = next((at for at, line in enumerate(lines, start=1) if "return forward_call(" in line), 0)
    if not _are_alike("".join(lines[:length]), _BEGINNING):
        return None
    line = code.co_firstlineno + length - 1
    instructions = iter(dis.get_instructions(code))
    for each in instructions:
        if each.starts_line == line:
            break
    return next((each.offset, line) for each in instructions if each.opname == "CALL_FUNCTION_EX")


def _are_alike(one: str, other: str) -> bool:
    """Whether two sources differ in comments, spaces and line breaks at most."""
    try:
        return ast.dump(ast.parse(textwrap.dedent(one))) == ast.dump(ast.parse(other))
    except SyntaxError:
        return False
