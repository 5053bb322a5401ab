"""Values of records and reports as JSON has them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any


def json_ready(value: Any) -> Any:
    """A value made of what JSON has.

    Numbers that JSON has no sign for become the texts ``NaN``, ``Infinity`` and ``-Infinity``; dataclasses,
    records and mappings become objects with text keys, tuples and arrays become lists.

    Args:
        value: plain values, containers, dataclasses, records, arrays.
    """
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else _sign_of(value)
    if isinstance(value, Mapping):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    return _object_ready(value)


def _sign_of(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _object_ready(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {field.name: json_ready(getattr(value, field.name)) for field in fields}
    for dump in ("model_dump", "tolist"):
        if hasattr(value, dump):
            return json_ready(getattr(value, dump)())
    return value
