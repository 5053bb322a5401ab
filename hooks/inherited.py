"""The method that an instance has from its class, also where the class gets another one meanwhile."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from types import CodeType, FrameType, FunctionType, MethodDescriptorType
from typing import Any


class Inherited:
    """A method that an instance has from its class, as something that stands over it finds it.

    Without a trace, a method is looked up when somebody asks the instance for it, and what was got stays what
    it is whatever the class gets afterwards. What stands in the instance's dictionary is called in both
    cases. Which of them it is can only be guessed, by the code of the caller: one that mentions the method's
    name, as torch does, has asked just now; one that does not has kept what it calls, as code does that wraps
    a method, and so has the new method itself.

    Compiled code (``native/stand_in.c``) makes one where the class has another method.

    Args:
        target: the instance.
        name: the method.
        found: what its class has now, a function.
    """

    __slots__ = ("__weakref__", "found", "method", "name", "target")  # torch.compile refers to it weakly

    def __init__(self, target: object, name: str, found: Any) -> None:
        self.target = target
        self.name = name
        self.found = found
        self.method: Callable[..., Any] = found.__get__(target, type(target))
        """Of the time when this was made."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """The method of the copied instance; also of a built-in one, which would not be copied itself."""
        return getattr(copy.deepcopy(self.target, memo), self.name)

    def called(self) -> Callable[..., Any]:
        """The method that the nearest caller outside of this package calls.

        Raises:
            AttributeError: the class has none any more.
        """
        if getattr(type(self.target), self.name, None) is self.found:
            return self.method
        found = _in_class(self.target, self.name)
        if found is self.found or not _has_asked(self.name, found):
            return self.method
        method: Callable[..., Any] = _bound(found, self.target, self.name)
        return method


_NOTHING = object()


def method_of(target: object, name: str) -> Callable[..., Any] | Inherited:
    """What is below something that is put over a method: the instance's own, or that of its class.

    Args:
        target: an instance with a ``__dict__``.
        name: the method.
    """
    found = _in_class(target, name)
    usual = type(target).__getattribute__ is object.__getattribute__
    if usual and type(found) in (FunctionType, MethodDescriptorType) and name not in vars(target):
        return Inherited(target, name, found)
    method: Callable[..., Any] = getattr(target, name)
    return method


def as_made(method: Callable[..., Any] | Inherited) -> Callable[..., Any]:
    """The method of the time when something was put over it.

    Args:
        method: of :func:`method_of`.
    """
    return method.method if type(method) is Inherited else method  # type: ignore[return-value]


def as_called(method: Callable[..., Any] | Inherited) -> Callable[..., Any]:
    """The method that is to be called now.

    Args:
        method: of :func:`method_of`.
    """
    return method.called() if type(method) is Inherited else method  # type: ignore[return-value]


def _has_asked(name: str, found: Any) -> bool:
    """Whether the nearest caller outside of this package has asked an instance for a method just now.

    Args:
        name: of the method; Python itself asks for those whose names are its own.
        found: what the class has; while that runs, what it calls is what it has kept.
    """
    if name.startswith("__"):
        return True
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and str(frame.f_globals.get("__name__")).startswith("hooks."):
        frame = frame.f_back
    if frame is None or _runs(getattr(found, "__code__", None), frame):
        return False
    code = frame.f_code
    of_torch = frame.f_globals.get("__name__") == "torch.nn.modules.module"  # also in functions within
    return of_torch or name in code.co_names or name in code.co_consts


def _runs(code: CodeType | None, frame: FrameType | None) -> bool:
    """Whether code runs in a frame or in one below it."""
    while code is not None and frame is not None:
        if frame.f_code is code:
            return True
        frame = frame.f_back
    return False


def _in_class(target: object, name: str) -> Any:
    """What the class of an instance has under a name, not bound to anything."""
    for each in type(target).__mro__:
        if name in vars(each):
            return vars(each)[name]
    return _NOTHING


def _bound(found: Any, target: object, name: str) -> Any:
    """What an instance gives for what its class has, by Python's rules."""
    kind = type(target)
    bind = getattr(type(found), "__get__", None)
    if bind is None and found is not _NOTHING:  # such as a built-in function
        return found
    fault = AttributeError(f"{kind.__name__!r} object has no attribute {name!r}")
    if bind is not None:
        try:
            return bind(found, target, kind)
        except AttributeError as error:
            fault = error
    if not hasattr(kind, "__getattr__"):
        raise fault
    return kind.__getattr__(target, name)


LOOKING_UP: tuple[CodeType, ...] = tuple(
    each.__code__ for each in (as_made, as_called, Inherited.called, _in_class, _has_asked, _runs, _bound)
)
"""Code that runs between a stand-in and its method."""
