"""Which modules run inside code that was compiled, where nothing can be watched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import nn

from hooks.patches import below_layers
from tracer.schema.run import NotSeenReason

OF_LIBRARY = "_compiled_call"
"""What the library itself has made of a model's call, for decode steps alone: other calls do without it."""

_FUNCTIONS = frozenset({FunctionType, MethodType})


COMPILED = "_compiled_call_impl"
"""What ``module.compile()`` has made of a module's call; ``torch`` calls it in place of ``forward``."""


def is_compiled(module: nn.Module) -> bool:
    """Whether the module's own ``forward`` runs inside a compiled graph: ``module.compile()``.

    Args:
        module: the module.
    """
    return getattr(module, COMPILED, None) is not None


def find_unseen(modules: Sequence[nn.Module]) -> dict[int, NotSeenReason]:
    """The modules that run inside compiled code, by index.

    Args:
        modules: all modules; each stands before its children.
    """
    inside: dict[int, NotSeenReason] = {}
    found: dict[int, NotSeenReason] = {}
    classes = _reasons_of_classes(modules)
    for index, module in enumerate(modules):
        of_class = classes[type(module)]
        if not inside and _is_plain(module, of_class):
            continue
        reason = inside.get(id(module))
        below = reason or _reason_inside(module, of_class)
        if below is not None:
            inside.update((id(child), below) for child in module.children())
        if reason is not None or is_compiled(module):
            found[index] = reason or "compiled"
    return found


def _reasons_of_classes(modules: Sequence[nn.Module]) -> dict[type, NotSeenReason | None]:
    return {kind: _reason_of_class(kind) for kind in {*map(type, modules)}}


def _reason_of_class(kind: type[nn.Module]) -> NotSeenReason | None:
    """Why the modules below a module of a class cannot be watched; None where that depends on the module."""
    if issubclass(kind, torch.jit.ScriptModule):
        return "scripted"
    compiled = getattr(kind, COMPILED, None) is not None
    return "compiled" if compiled or any(map(is_compiled_function, _methods_of(kind))) else None


def _is_plain(module: nn.Module, of_class: NotSeenReason | None) -> bool:
    """Whether nothing of a module can be compiled: none of its attributes is a function.

    Hundreds of modules have a dozen attributes each, of which hardly one is.
    """
    attributes = vars(module)
    if of_class is not None or "forward" in attributes:
        return False
    return _FUNCTIONS.isdisjoint(map(type, attributes.values()))


def _reason_inside(module: nn.Module, of_class: NotSeenReason | None) -> NotSeenReason | None:
    """Why the modules below a module cannot be watched; None if they can.

    That is so too where a method was compiled (``model.forward = torch.compile(model.forward)``, or as a
    decorator), which is called from outside of the graph. A compiled function that is no method of the module
    is taken to work on tensors alone, until it turns out to call modules.

    Args:
        module: the module.
        of_class: why it is so for all modules of its class.
    """
    if of_class is not None:
        return of_class
    if is_compiled(module):
        return "compiled"
    attributes = vars(module)
    if is_compiled_function(below_layers(attributes, "forward")):
        return "compiled"
    return "compiled" if _has_compiled_method(module) else None


def _methods_of(kind: type) -> Iterator[Any]:
    for each in kind.__mro__:
        if each is nn.Module:
            return
        yield from vars(each).values()


def is_compiled_function(function: Any) -> bool:
    """Whether a function or method is what ``torch.compile`` made of another.

    Args:
        function: the function.
    """
    # torch.compile leaves the original at its result, in this attribute since torch 2.0.
    if isinstance(function, MethodType):
        function = function.__func__
    if not isinstance(function, FunctionType) or getattr(function, "_torchdynamo_disable", False):
        return False
    return hasattr(function, "_torchdynamo_orig_callable")


def _has_compiled_method(module: nn.Module) -> bool:
    functions = [each for each in vars(module).items() if type(each[1]) in _FUNCTIONS]
    return any(_is_compiled_method(each, module) for each in functions)


def _is_compiled_method(attribute: tuple[str, Any], module: nn.Module) -> bool:
    name, value = attribute
    if name == OF_LIBRARY or not is_compiled_function(value):
        return False
    return getattr(value._torchdynamo_orig_callable, "__self__", None) is module
