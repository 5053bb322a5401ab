"""The pages about the code say what the code is."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
import xml.etree.ElementTree as ET
from types import ModuleType

import pytest

from tests.docs.papers import ROOT, first_column, section, text_of
from tests.docs.test_paths import committed
from tracer.schema.run import LOOPS

ARCHITECTURE, GLOSSARY = "docs/architecture.md", "docs/glossary.md"


@pytest.fixture
def drawing(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script that draws the picture."""
    spec = importlib.util.spec_from_file_location("draw_architecture", ROOT / "docs/draw_architecture.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # where dataclasses look names up
    spec.loader.exec_module(module)
    return module


def contracts() -> dict[str, list[list[str]]]:
    """Layers by the package that a contract is about; the empty name stands for all packages."""
    found = {}
    for part in text_of("pyproject.toml").split("[[tool.importlinter.contracts]]")[1:]:
        layers = re.search(r"^layers = (\[.*?^\])", part, re.MULTILINE | re.DOTALL)
        container = re.search(r'^containers = \["([\w.]+)"\]', part, re.MULTILINE)
        if layers is not None:
            rows = [[name.strip() for name in row.split("|")] for row in ast.literal_eval(layers[1])]
            found[container[1] if container else ""] = rows
    return found


def test_the_picture_is_what_the_script_draws(drawing: ModuleType) -> None:
    assert text_of("docs/architecture.svg") == drawing.picture()


def test_files_in_the_picture_exist() -> None:
    # The picture is this repository's own.
    titles = [
        each.text or ""
        for each in ET.parse(ROOT / "docs/architecture.svg").iter()
        if each.tag.endswith("title")
    ]
    paths = [title for title in titles if "/" in title]
    assert len(paths) > 15
    assert not {path for path in paths if path not in committed()}


def test_floors_are_those_of_import_linter() -> None:
    floors, rooms = section(ARCHITECTURE, "Rooms and floors").split("Inside the rooms")
    rows = re.findall(r"^\| (\d+) \| (.+?) \|", floors, re.MULTILINE)
    expected = contracts()
    assert [re.findall(r"`([\w.]+)`", names) for _, names in rows] == expected.pop("")
    assert [int(floor) for floor, _ in rows] == [*range(len(rows), 0, -1)]
    inside = re.findall(r"^\| `([\w.]+)` \| (.+) \|$", rooms, re.MULTILINE)
    assert {
        room: [re.findall(r"`(\w+)`", floor) for floor in row.split("·")] for room, row in inside
    } == expected
    assert len(first_column(rooms)) == len(expected)


def test_glossary_is_in_order_and_names_a_file_for_each_term() -> None:
    parts = text_of(GLOSSARY).split("\n### ")[1:]
    terms = [part.split("\n")[0] for part in parts]
    assert terms == sorted(set(terms), key=str.lower)
    assert len(terms) > 60
    for part in parts:
        assert re.search(r"`[\w./-]+/[\w.-]+`|`pyproject\.toml`", part), part


def test_adding_a_loop_names_every_file_that_names_one() -> None:
    said = section(ARCHITECTURE, "A decoding loop")
    added = {f'"{loop}"' for loop in LOOPS if loop != "_sample"}
    naming = {
        path.relative_to(ROOT)
        for folder in ("tracer", "hooks", "reports")
        for path in (ROOT / folder).rglob("*.py")
        if any(name in path.read_text(encoding="utf-8") for name in added)
    }
    assert len(naming) > 5
    assert [
        str(path) for path in naming if path.as_posix() not in said and f"`{path.parent}`" not in said
    ] == []
