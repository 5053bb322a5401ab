"""Texts for one-line error messages, from paths, files and errors of libraries."""

from __future__ import annotations

import os

from tracer.harmless_text import harmless

MAX_TEXT = 200
"""Characters of a text that a message quotes, at most."""


def one_line(text: object, limit: int = MAX_TEXT) -> str:
    """A text without line breaks, with everything visible that would act on a terminal, cut to a length.

    Args:
        text: anything; text from a hostile file may hold terminal escapes.
        limit: most characters to return.
    """
    raw = str(text)[: limit + 1]
    clean = harmless("".join(" " if char.isspace() else char for char in raw))
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def shown(path: str | os.PathLike[str]) -> str:
    """A path for an error message."""
    return one_line(os.fspath(path), 1000)


def reason(error: BaseException) -> str:
    """Why something failed, in one line; of pydantic's list of errors, the first."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    errors = getattr(error, "errors", None)
    if callable(errors):
        first = errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        return one_line(f"{place}: {first['msg']}" if place else first["msg"])
    return one_line(error) or type(error).__name__


def first_line(error: BaseException) -> str:
    """The first line of an error's text that is not empty; the error's class where there is none.

    Args:
        error: any error, whose text may have several lines.
    """
    lines = (line.strip() for line in str(error).splitlines())
    return one_line(next((line for line in lines if line), type(error).__name__))


def named(error: BaseException) -> str:
    """Class and first line of an error, e.g. ``ValueError: no such token``."""
    name, line = type(error).__name__, first_line(error)
    return name if line == name else f"{name}: {line}"
