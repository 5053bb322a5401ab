"""What the papers and CI say of the releases of transformers is what the table of releases says."""

from __future__ import annotations

import re
from importlib import metadata

from tests.docs.papers import MANUAL, README, blocks, first_column, section, text_of
from tracer.library.decoding_modes import _NAMES
from tracer.library.release import ANY, REFERENCE, RELEASES

KEEP = "Use another release of transformers"


def rows() -> list[tuple[str, str]]:
    """Releases and the tested one of each line of the README's table."""
    found = re.findall(r"^\| (\d+\.\d[^|]*) \| (.*) \|$", section(README, "What it shows"), re.MULTILINE)
    return [(releases, tested) for releases, tested in found]


def test_the_table_of_the_readme_has_every_family() -> None:
    spans = [release.versions for release in RELEASES]
    expected = [each[0] if len(each) == 1 else f"{each[0]} to {each[-1]}" for each in spans]
    assert [re.split(", ", releases)[0] for releases, _ in rows()] == expected


def test_the_tested_releases_are_those_of_ci() -> None:
    script = text_of(".ci/run")
    (listed,) = re.findall(r"^for release in (.+); do$", script, re.MULTILINE)
    assert listed.split() == [tested for _, tested in rows() if tested[0].isdigit()]
    for release, (_, tested) in zip(RELEASES, rows(), strict=True):
        assert tested in (*release.versions, "all tests")
    assert REFERENCE in RELEASES[0].versions


def test_the_list_for_pip_is_that_of_the_package() -> None:
    required = {each for each in metadata.requires("trace-generate") or [] if ";" not in each}
    (command,) = [block for block in blocks(MANUAL, "sh") if "--no-deps" in block]
    listed = re.findall(r'"([^"]+)"', command)
    assert listed[0].startswith("transformers==")
    assert {_parts(each) for each in listed[1:]} == {
        _parts(each) for each in required if not each.startswith("transformers")
    }


def test_the_variable_is_in_the_manual() -> None:
    assert ANY in section(MANUAL, KEEP)
    assert f"`{ANY}=1`" in first_column(section(MANUAL, "Environment"))


def test_the_table_of_decoding_modes_is_that_of_the_releases() -> None:
    names = {"greedy_search": "greedy decoding", "sample": "sampling", **_NAMES}
    expected = {
        name.replace("`", ""): [
            "refused" if release.loop_of(mode) is None else "traced" for release in RELEASES
        ]
        for mode, name in names.items()
    }
    lines = [line for line in section(MANUAL, "Decoding modes").splitlines() if line.startswith("| ")]
    heading, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    assert heading == ["mode", *(release.name for release in RELEASES)]
    assert {mode.replace("`", ""): cells for mode, *cells in rows} == expected
    assert len(rows) == len(expected)


def _parts(requirement: str) -> tuple[str, frozenset[str]]:
    name, bounds = re.fullmatch(r"([\w-]+)(.*)", requirement).groups()  # type: ignore[union-attr]
    return name, frozenset(bounds.split(","))
