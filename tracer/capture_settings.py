"""What is to be recorded, from what a user asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, cast, get_args

from tracer.errors import UsageError
from tracer.nearest_word import suggestion
from tracer.schema.run import CaptureSettings

Level = Literal["shapes", "stats", "tensors"]

SAVED_KINDS = ("logits", "hidden", "kv", "attention", "modules=REGEX", "lens")
"""What ``save`` may name."""

_MODULES = "modules="


def capture_settings(capture: str, save: Iterable[str], candidates: int, strict: bool) -> CaptureSettings:
    """Settings that make sense, as far as that can be said without a model.

    Args:
        capture: the capture level.
        save: tensors to store.
        candidates: maximum number of candidates recorded per row and step.
        strict: whether a check that does not hold ends the generation.

    Raises:
        UsageError: for an unknown level or kind, a regular expression that is none, a kind without its level,
            or too few candidates.
    """
    wanted = (save,) if isinstance(save, str) else tuple(save)
    if capture not in get_args(Level):
        near = suggestion(str(capture), get_args(Level))
        raise UsageError(f"capture {capture!r}: choose from {', '.join(get_args(Level))}.{near}")
    for kind in wanted:
        _check_kind(kind)
    if set(wanted) - {"lens"} and capture != "tensors":
        kinds = ", ".join(kind for kind in wanted if kind != "lens")
        raise UsageError(
            f"save={kinds} needs capture='tensors'.", command_line=f"--save {kinds} needs --capture tensors."
        )
    if candidates < 1:
        raise UsageError(
            f"candidates is {candidates}; it must be at least 1.",
            command_line=f"--candidates is {candidates}; it must be at least 1.",
        )
    return CaptureSettings(level=cast(Level, capture), save=wanted, candidates=candidates, strict=strict)


def unsaved(kind: str, problem: str) -> UsageError:
    """The error for something that cannot be saved.

    Args:
        kind: what was named.
        problem: what is wrong with it.
    """
    return UsageError(f"save={kind}: {problem}", command_line=f"--save {kind}: {problem}")


def _check_kind(kind: str) -> None:
    if kind.startswith(_MODULES):
        try:
            re.compile(kind.removeprefix(_MODULES))
        except (re.error, RecursionError, OverflowError) as error:
            raise unsaved(kind, f"not a regular expression: {error}.") from error
    elif kind not in SAVED_KINDS:
        raise unsaved(kind, f"unknown; choose from {', '.join(SAVED_KINDS)}.{suggestion(kind, SAVED_KINDS)}")
