"""Which call of a module is in progress, read from the frames of torch."""

from __future__ import annotations

import sys
from types import CodeType, FrameType

from torch import nn

from hooks.modules.direct_call import twin

_CALL = nn.Module._call_impl.__code__
_INSIDE = tuple(code for code in _CALL.co_consts if isinstance(code, CodeType))
_CALLS = (_CALL, *_INSIDE)
_WITH_HOOKS = _INSIDE or _CALLS
"""Where torch runs forward hooks. A call that found no hooks when it began runs none, even if some were added
meanwhile; it has no function inside."""


def hooks_follow(module: nn.Module) -> bool:
    """Whether torch runs a module's forward hooks when the ``forward`` in progress has returned.

    It does not where ``forward`` is called by itself.

    Args:
        module: the module.
    """
    calls = (*_CALLS, twin())
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code in calls:
            return frame.f_code in _WITH_HOOKS and frame.f_locals.get("self") is module
        frame = frame.f_back
    return False
