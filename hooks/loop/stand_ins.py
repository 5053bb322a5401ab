"""Stand-ins for callable objects: like the original in everything, but every call is seen.

The library looks at what it is given: at the signature of a processor's ``__call__`` to decide on keyword
arguments, at attributes of criteria, at classes. A stand-in is therefore an instance of a subclass of the
original's class that shares the original's ``__dict__``; a call goes to the original itself.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from types import FunctionType
from typing import Any

After = Callable[[Any], None]
"""Called with the result of each call."""


def stand_in(original: Any, after: After) -> Any:
    """A stand-in for a callable object.

    Args:
        original: a processor, a criterion or a plain function.
        after: called with the result of each call.
    """
    if isinstance(original, FunctionType):
        return functools.wraps(original)(_seen(original, after))
    try:
        return _of_subclass(original, after)
    except Exception:  # noqa: BLE001 - whatever a class does when a subclass is made
        return _Proxy(original, after)


def list_like(original: list[Any], elements: Iterable[Any], call: Callable[..., Any]) -> Any:
    """A list of the original's own class with other elements.

    Args:
        original: a list that is called, such as ``LogitsProcessorList``.
        elements: the elements.
        call: called in place of its ``__call__``, with the new list's own ``__call__`` and the arguments.
    """
    kind: Any = type(original)

    @functools.wraps(kind.__call__)
    def called(self: Any, *args: Any, **kwargs: Any) -> Any:
        return call(functools.partial(kind.__call__, self), *args, **kwargs)

    made = list.__new__(_subclass(kind, called))
    list.extend(made, elements)
    vars(made).update(vars(original))
    return made


def _seen(original: Any, after: After) -> Callable[..., Any]:
    def called(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        after(result)
        return result

    return called


def _of_subclass(original: Any, after: After) -> Any:
    kind: Any = type(original)
    seen = _seen(original, after)

    @functools.wraps(kind.__call__)
    def called(_self: Any, *args: Any, **kwargs: Any) -> Any:
        return seen(*args, **kwargs)

    made = object.__new__(_subclass(kind, called))
    made.__dict__ = original.__dict__
    return made


def _subclass(kind: Any, called: Any) -> Any:
    # The library asks for the signature at every call: found once, it costs less than the original's.
    called.__signature__ = _signature(kind)
    names = {name: getattr(kind, name) for name in ("__module__", "__qualname__", "__doc__")}
    return type(kind)(kind.__name__, (kind,), {**names, "__call__": called})


@functools.lru_cache(maxsize=256)
def _signature(kind: Any) -> inspect.Signature:
    return inspect.signature(kind.__call__)


class _Proxy:
    """A stand-in for an object whose class takes no subclass, or that has no ``__dict__``."""

    def __init__(self, original: Any, after: After) -> None:
        self._original = original
        self._seen = functools.wraps(original.__call__)(_seen(original, after))

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self._original)

    @property
    def __call__(self) -> Callable[..., Any]:
        return self._seen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)

    def __repr__(self) -> str:
        return repr(self._original)
