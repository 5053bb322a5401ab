"""Keep our own operations on tensors out of the program's modes, and its modes out of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext
from torch.utils._python_dispatch import _disable_current_modes

Called = TypeVar("Called", bound=Callable[..., Any])

_dispatch_modes = torch._C._len_torch_dispatch_stack
_function_modes = torch._C._len_torch_function_stack
_any_autocast: Callable[[], bool] = getattr(
    torch._C,
    "_is_any_autocast_enabled",
    lambda: torch.is_autocast_enabled() or torch.is_autocast_cpu_enabled(),
)
_mode_stack: Callable[[], Any] = _get_current_function_mode_stack


def sees_attributes() -> bool:
    """Whether a mode of the program sees every attribute of a tensor that is asked for.

    A default device is a mode too, but one that looks at functions that make tensors alone.
    """
    modes: Any = _mode_stack() if _function_modes() else ()
    return not all(isinstance(mode, DeviceContext) for mode in modes)


def outside_autocast(function: Called) -> Called:
    """A function whose operations on tensors keep their dtypes, also where the program has them exchanged.

    Args:
        function: a function of ours.
    """

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        if not _any_autocast():
            return function(*args, **kwargs)
        with torch._C._DisableAutocast():
            return function(*args, **kwargs)

    return cast(Called, called)


def unseen_by_modes(function: Called) -> Called:
    """A function that modes of the program do not see at work; without such a mode it costs nothing more.

    Args:
        function: a function of ours.
    """

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        if not _dispatch_modes() and not _function_modes():
            return function(*args, **kwargs)
        with _disable_current_modes(), torch._C.DisableTorchFunction():
            return function(*args, **kwargs)

    return cast(Called, called)
