"""A fork as a user words it: texts or ids of tokens, and values that may be of any kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tracer.errors import UsageError
from tracer.forking.plan import Fork

_WHOLE = ("row", "step", "seed", "max_new_tokens")
"""What must be a whole number, by its name in :class:`~tracer.forking.plan.Fork`."""

_LARGEST = {"seed": 2**64 - 1}


def wished_fork(wanted: Mapping[str, Any], find: Callable[[str], int]) -> Fork:
    """The fork that is meant.

    Args:
        wanted: ``token`` and ``ban``, as ids or texts; ``row``, ``step``, ``seed``, ``max_new_tokens``, each
            None where it is left open; and generation settings.
        find: gives the id of the token with a text.

    Raises:
        UsageError: a value is no whole number, or a text does not mean one token.
    """
    numbers = {name: _whole(name, wanted[name]) for name in _WHOLE if wanted.get(name) is not None}
    token, ban = wanted.get("token"), wanted.get("ban")
    banned: Iterable[Any] = () if ban is None else ban if isinstance(ban, Iterable) else [ban]
    return Fork(
        **numbers,
        token=None if token is None else _token(token, find),
        banned=tuple(_token(each, find) for each in ([ban] if isinstance(ban, str) else banned)),
        settings={name: value for name, value in wanted.items() if name not in (*_WHOLE, "token", "ban")},
    )


def _token(token: object, find: Callable[[str], int]) -> int:
    return token if isinstance(token, int) and not isinstance(token, bool) else find(str(token))


def _whole(name: str, value: object) -> int:
    most = _LARGEST.get(name, 2**31 - 1)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise UsageError(f"fork {name}={str(value)[:40]}: it must be a whole number from 0 to {most}.")
    return value
