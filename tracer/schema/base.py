"""The base class of records: frozen, closed to unknown fields, plain data."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Base of all records that are stored as JSON in a trace file.

    Records are immutable, and a field that this version does not know is refused, not dropped.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")
