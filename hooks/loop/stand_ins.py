"""Stand-ins for callable objects: like the original in everything, but every call is seen.

The library looks at what it is given: at the signature of a processor's ``__call__`` to decide on keyword
arguments, at attributes of criteria, at classes. No subclass of the original's class is made for an element:
making one may run code of the class.
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
    """A stand-in for a callable object; what cannot be called is returned as it is.

    Args:
        original: a processor, a criterion or a plain function.
        after: called with the result of each call.
    """
    if not callable(original):
        return original
    seen = _seen(original, after)
    return functools.wraps(original)(seen) if isinstance(original, FunctionType) else _Proxy(original, seen)


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

    names = {name: getattr(kind, name) for name in ("__module__", "__qualname__", "__doc__")}
    made: Any = list.__new__(type(kind)(kind.__name__, (kind,), {**names, "__call__": called}))
    list.extend(made, elements)
    vars(made).update(vars(original))
    return made


def _seen(original: Any, after: After) -> Any:
    def called(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        after(result)
        return result

    return called


class _Proxy:
    """Passes everything on to an object; calls are seen."""

    __slots__ = ("_original", "_seen")

    def __init__(self, original: Any, seen: Any) -> None:
        try:
            # The library asks for the signature at every call: found once, it costs less than the original's.
            seen.__signature__ = inspect.signature(original.__call__)
        except (TypeError, ValueError):
            seen.__wrapped__ = original.__call__
        object.__setattr__(self, "_original", original)
        object.__setattr__(self, "_seen", seen)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return self._original.__class__

    @property
    def __call__(self) -> Callable[..., Any]:
        return self._seen  # type: ignore[no-any-return]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._original, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._original, name)

    def __eq__(self, other: object) -> bool:
        return bool(self._original == other)

    def __hash__(self) -> int:
        return hash(self._original)

    def __repr__(self) -> str:
        return repr(self._original)
