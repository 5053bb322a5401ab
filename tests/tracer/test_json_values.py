"""Values of reports as JSON has them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import numpy as np

from tracer.json_values import json_ready
from tracer.schema.run import TokenText


@dataclass(frozen=True)
class Point:
    x: float
    names: tuple[str, ...]


def test_what_json_lacks_becomes_text() -> None:
    found = json_ready(
        {1: (math.nan, math.inf, -math.inf, 0.5), "array": np.array([1.5, np.inf], dtype=np.float32)}
    )
    assert found == {"1": ["NaN", "Infinity", "-Infinity", 0.5], "array": [1.5, "Infinity"]}
    json.dumps(found, allow_nan=False)


def test_objects_become_their_fields() -> None:
    token = TokenText(id=1, text="a", piece="a", special=False)
    assert json_ready(Point(math.nan, ("a", "b"))) == {"x": "NaN", "names": ["a", "b"]}
    assert json_ready([token, True, None]) == [token.model_dump(), True, None]
