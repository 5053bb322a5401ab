"""The page about conditions says what the language is."""

from __future__ import annotations

import re
from pathlib import Path

from tracer.analysis.conditions.condition import parse_condition
from tracer.analysis.conditions.names import FUNCTIONS, NAMES

PAGE = (Path(__file__).parents[2] / "docs/conditions.md").read_text(encoding="utf-8")


def test_every_name_is_listed_with_its_meaning() -> None:
    rows = re.findall(r"^\| `(\w+)(?:\(TOKEN\))?` \| ([\w ]+) \| (.+) \|$", PAGE, re.MULTILINE)
    known = [(name, each.kind, each.meaning) for name, each in NAMES.items()]
    known += [(name, each.kind, each.meaning) for name, each in FUNCTIONS.items()]
    assert rows == [
        (name, "yes or no" if kind == "truth" else kind, meaning) for name, kind, meaning in known
    ]


def test_examples_are_conditions() -> None:
    (block,) = re.findall(r"^```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for line in block.splitlines():
        parse_condition(line)
