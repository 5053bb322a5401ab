"""The method that an instance has from its class, as it is whenever it is called."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import CodeType
from typing import Any


class Inherited:
    """The method that an instance has from its class; patches of the class hold here too.

    Compiled code (``native/stand_in.c``) reads the attributes, and binds the method anew after a change only.

    Args:
        target: the instance.
        name: the method.
    """

    __slots__ = ("__weakref__", "name", "target")  # torch.compile refers weakly to what it compiles

    def __init__(self, target: object, name: str) -> None:
        self.target = target
        self.name = name

    @property
    def method(self) -> Callable[..., Any]:
        """The method as it is now, bound to the instance."""
        kind = type(self.target)
        found: Any = _found(kind, self.name)
        bind = getattr(type(found), "__get__", None)  # built-in functions are not bound
        method: Callable[..., Any]
        try:
            method = found if bind is None else bind(found, self.target, kind)
        except AttributeError:
            if not hasattr(kind, "__getattr__"):
                raise
            method = kind.__getattr__(self.target, self.name)  # as Python does, and TorchScript relies on
        return method

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return self.method.__class__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method."""
        return self.method(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.method, name)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return copy.deepcopy(self.method, memo)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.method.__reduce_ex__(protocol)


def _found(kind: type, name: str) -> Any:
    """What a class has under a name, not bound to anything."""
    for each in kind.__mro__:
        if name in vars(each):
            return vars(each)[name]
    raise AttributeError(f"type object {kind.__name__!r} has no attribute {name!r}")


def method_of(target: object, name: str) -> Callable[..., Any]:
    """What a call of a method calls: the instance's own, or what its class has at the time of the call.

    Args:
        target: an instance with a ``__dict__``.
        name: the method.
    """
    if name in vars(target) or type(target).__getattribute__ is not object.__getattribute__:
        method: Callable[..., Any] = getattr(target, name)
        return method
    return Inherited(target, name)


def as_it_is(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method itself, where the class is asked for it at each call.

    Args:
        method: of :func:`method_of`.
    """
    return method.method if type(method) is Inherited else method


LOOKING_UP: tuple[CodeType, ...] = (
    as_it_is.__code__,
    _found.__code__,
    vars(Inherited)["method"].fget.__code__,
)
"""Code that runs between a stand-in and its method."""
