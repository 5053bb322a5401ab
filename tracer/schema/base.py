"""The base class of records: frozen, closed to unknown fields, plain data."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


def short_repr(text: str, limit: int = 80) -> str:
    """A text of a record as a short line in which nothing acts on a terminal.

    Args:
        text: any text.
        limit: longer ones are cut.
    """
    shown = repr(text)[1:-1]
    return shown if len(shown) <= limit else f"{shown[:limit]}…"


class Record(BaseModel):
    """Base of all records that are stored as JSON in a trace file.

    Records are immutable, and a field that this version does not know is refused, not dropped.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")
