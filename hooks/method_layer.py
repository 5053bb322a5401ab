"""What stands in for a method: it calls the method below, and is like it in all else."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from hooks.inherited import Inherited, as_called, as_made


class Layer(Protocol):
    """A callable that stands in for a method and calls the one below it.

    Attributes:
        inner: the callable below; it changes when a layer below is removed.
    """

    inner: Callable[..., Any] | Inherited

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method below."""


Handler: TypeAlias = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]
"""Called with the method below, and the arguments of a call."""


class MethodLayer:
    """A layer that in all but its own attributes is the method below: name, ``__self__``, signature.

    Args:
        inner: the method below.
        handler: called in its place; without one every call is passed on.
    """

    def __init__(self, inner: Callable[..., Any] | Inherited, handler: Handler | None = None) -> None:
        self.inner = inner
        self._handler = handler
        method = as_made(inner)
        self.__doc__ = method.__doc__
        self.__module__ = getattr(method, "__module__", type(method).__module__)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return as_made(self.inner).__class__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the handler, or else the method below."""
        method = as_called(self.inner)
        if self._handler is None:
            return method(*args, **kwargs)
        return self._handler(method, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(as_made(self.inner), name)

    @property
    def _torchdynamo_orig_callable(self) -> Callable[..., Any]:
        """What ``torch.compile`` of the method compiles, found as through wrappers of its own."""
        return as_made(self.inner)

    @property
    def _torchdynamo_wrapper_id(self) -> int:
        return id(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        # A copy of an instance gets the method of its own that is below this one.
        return copy.deepcopy(self.inner, memo)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return as_made(self.inner).__reduce_ex__(protocol)
