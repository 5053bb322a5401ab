"""A class for one instance alone: like its own in everything, but calls of some methods are seen.

Newer releases look the decoding loop up on the model's class, where an attribute of the instance is not
seen, and the class itself belongs to every other model of its kind.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

Handler: TypeAlias = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]
"""Called with the method below, and the arguments of a call."""


_MARK = "_of_one_instance"
"""Attribute of a class that is made here."""


class _Base:
    """Stands for the class of the program while one is derived from it, so that no code of it runs then."""


def give_class(target: Any, handlers: Mapping[str, Handler]) -> None:
    """Give an instance a class of its own, with the name, module and everything else of its class.

    Args:
        target: the instance.
        handlers: by the name of a method of its class, what is called in its place. Copies of the instance
            are not concerned, even where they come to have this class.
    """
    kind: Any = type(target)
    reference = weakref.ref(target)
    own = {name: getattr(kind, name) for name in ("__module__", "__qualname__", "__doc__")}
    methods = {name: _method(kind, name, reference, handler) for name, handler in handlers.items()}
    metaclass: Any = type(kind)
    made = metaclass(kind.__name__, (_Base,), {**own, **methods, _MARK: True})
    made.__bases__ = (kind,)
    target.__class__ = made


def take_class(target: Any) -> None:
    """Put the class back. Where something has derived from it meanwhile it stays, and passes all calls on.

    Args:
        target: the instance.
    """
    target.__class__ = untouched_class(type(target))


def untouched_class(kind: type) -> type:
    """The class that an instance has without this module's doing.

    Args:
        kind: its class.
    """
    return kind.__bases__[0] if _MARK in vars(kind) else kind


def _method(kind: type, name: str, target: weakref.ref[Any], handler: Handler) -> Callable[..., Any]:
    below = getattr(kind, name)

    @functools.wraps(below)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        # Looked up at the call: a patch of the class that is made meanwhile holds here too.
        inner = getattr(kind, name).__get__(self)
        return handler(inner, args, kwargs) if self is target() else inner(*args, **kwargs)

    return method
