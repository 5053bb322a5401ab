"""A class for one instance alone: like its own in everything, but calls of some methods are seen.

Newer releases look the decoding loop up on the model's class, where an attribute of the instance is not
seen, and the class itself belongs to every other model of its kind.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from hooks.method_layer import Handler, MethodLayer

_MARK = "_of_one_instance"
"""Attribute of a class that is made here."""


class _Base:
    """Stands for the class of the program while one is derived from it, so that no code of it runs then."""


def instance_class(target: Any, handlers: Mapping[str, Handler]) -> type:
    """Make a class for an instance, with the name, module and everything else of its class.

    Args:
        target: the instance.
        handlers: by the name of a method of its class, what is called in its place. Copies of the instance
            are not concerned, even where they come to have this class.
    """
    kind: Any = type(target)
    reference = weakref.ref(target)
    own = {name: getattr(kind, name) for name in ("__module__", "__qualname__", "__doc__")}
    methods = {name: _Seen(kind, name, reference, handler) for name, handler in handlers.items()}
    metaclass: Any = type(kind)
    content = {**own, **methods, "__class__": _shown_class(untouched_class(kind)), _MARK: True}
    made: type = metaclass(kind.__name__, (_Base,), content)
    made.__bases__ = (kind,)
    return made


def put_class(target: Any, made: type) -> None:
    """Give an instance the class that was made for it.

    Args:
        target: the instance.
        made: what :func:`instance_class` returned.
    """
    _set_class(target, made)


def take_class(target: Any, made: type) -> None:
    """Put the class from before back. Where another one stands above it stays, and passes all calls on.

    Args:
        target: the instance.
        made: what :func:`instance_class` returned.
    """
    if type(target) is made:
        _set_class(target, made.__bases__[0])


def release_class(made: type) -> None:
    """Let a class pass all calls on for good: caches of the program may keep it, but not what it held.

    Args:
        made: what :func:`instance_class` returned.
    """
    for seen in vars(made).values():
        if isinstance(seen, _Seen):
            seen.release()


def untouched_class(kind: type) -> type:
    """The class that an instance has without this module's doing.

    Args:
        kind: its class.
    """
    while _MARK in vars(kind):
        kind = kind.__bases__[0]
    return kind


class _Seen:
    """A method of such a class.

    Args:
        kind: the class of the program.
        name: the method.
        target: the instance.
        handler: called in its place.
    """

    def __init__(self, kind: type, name: str, target: weakref.ref[Any], handler: Handler) -> None:
        self._kind = kind
        self._name = name
        self._target = target
        self._handler: Handler | None = handler

    def release(self) -> None:
        """Pass all calls on from now on."""
        self._handler = None

    def __get__(self, instance: Any, owner: type) -> Any:
        # Looked up at each access: a patch of the class that is made meanwhile holds here too.
        below = getattr(self._kind, self._name)
        if instance is None:
            return self._function(below)
        return self._of(instance, below)

    def _of(self, instance: Any, below: Any) -> Any:
        bound = below.__get__(instance)
        seen = self._handler is not None and instance is self._target()
        return MethodLayer(bound, self._handler) if seen else bound

    def _function(self, below: Any) -> Callable[..., Any]:
        """As the library takes it from the class, to be called with the instance."""

        @functools.wraps(below)
        def function(instance: Any, *args: Any, **kwargs: Any) -> Any:
            return self._of(instance, below)(*args, **kwargs)

        return function


def _shown_class(kind: type) -> property:
    """``__class__`` of the instance: that of the program, which is what pickle, say, goes by."""
    return property(lambda _self: kind, lambda self, value: _set_class(self, value))


def _set_class(target: Any, kind: type) -> None:
    object.__dict__["__class__"].__set__(target, kind)
