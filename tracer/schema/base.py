"""The base class of records: frozen, closed to unknown fields, plain data."""

from __future__ import annotations

from typing import Any, TypeVar

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


_R = TypeVar("_R", bound=Record)
_set = object.__setattr__


def of_valid(kind: type[_R], **fields: Any) -> _R:
    """A record of values that need no validation, as when they come from other records.

    It is what ``model_construct`` makes, which takes longer than to validate does.

    Args:
        kind: class of the record.
        fields: the values of all its fields in their order, each of its field's own type.
    """
    record = kind.__new__(kind)
    _set(record, "__dict__", fields)
    _set(record, "__pydantic_fields_set__", {*fields})
    _set(record, "__pydantic_extra__", None)
    _set(record, "__pydantic_private__", None)
    return record
