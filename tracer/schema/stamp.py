"""Stamps: results of verifications, added to a trace after its run."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tracer.schema.base import Record
from tracer.version import __version__


class Stamp(Record):
    """The result of one verification.

    Attributes:
        kind: ``file`` (the file itself) or ``rerun`` (an untraced run was compared).
        ok: whether it held.
        made_at: UTC, ISO 8601.
        summary: one line for the user.
        run: number of the verified run, None for all.
        details: further results as text, e.g. ``{"ids": "128 of 128 equal"}``.
        product_version: version of the program that verified.
    """

    kind: Literal["file", "rerun"]
    ok: bool
    made_at: str
    summary: str
    run: int | None = None
    details: dict[str, str] = Field(default_factory=dict)
    product_version: str = __version__
