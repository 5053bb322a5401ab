"""Every path, module, link and anchor that a paper names is there."""

from __future__ import annotations

import re
import subprocess
from functools import cache

import pytest

from tests.docs.papers import PAPERS, ROOT, text_of, without_blocks

ABOUT_TODAY = [paper for paper in PAPERS if paper != "CHANGELOG.md"]
"""A change log may name what is gone."""

FOLDERS = ("tracer", "hooks", "reports", "tests", "docs", "examples", r"\.vscode", r"\.ci")
PATH = re.compile(rf"(?<![\w./-])(?:{'|'.join(FOLDERS)})/[\w./-]*[\w-]")
MODULE = re.compile(r"`((?:tracer|hooks|reports|tests)(?:\.\w+)+)`")
FILE = re.compile(r"`(\w[\w-]*\.(?:md|py|toml|json|yml|c|h))`")
LINK = re.compile(r"\]\(([^)\s]+)\)")


@cache
def committed() -> frozenset[str]:
    """All files that are, or are about to be, part of the repository, and their folders."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):  # unpacked from an archive
        listed = [path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if path.is_file()]
    files = [name for name in listed if (ROOT / name).exists()]
    folders = {"/".join(name.split("/")[:depth]) for name in files for depth in range(1, name.count("/") + 1)}
    return frozenset({*files, *folders})


def anchors(paper: str) -> set[str]:
    """Anchors of the headings of a paper, as a Markdown host makes them."""
    found: set[str] = set()
    for title in re.findall(r"^#+ (.+)$", without_blocks(text_of(paper)), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        number = 1
        while (numbered := slug if number == 1 else f"{slug}-{number - 1}") in found:
            number += 1
        found.add(numbered)
    return found


@pytest.mark.parametrize("paper", ABOUT_TODAY)
def test_paths_exist(paper: str) -> None:
    named = set(PATH.findall(text_of(paper)))
    assert not {path for path in named if path not in committed()}


@pytest.mark.parametrize("paper", ABOUT_TODAY)
def test_file_names_without_a_folder_exist(paper: str) -> None:
    names = {path.rpartition("/")[2] for path in committed()}
    assert not {name for name in FILE.findall(text_of(paper)) if name not in names}


@pytest.mark.parametrize("paper", ABOUT_TODAY)
def test_modules_exist(paper: str) -> None:
    assert not {name for name in MODULE.findall(text_of(paper)) if not is_known(name)}


def is_known(name: str) -> bool:
    """Whether a dotted name is a module, or a name that stands in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        stem = "/".join(parts[:length])
        for file in (f"{stem}.py", f"{stem}/__init__.py"):
            if file in committed():
                rest, source = parts[length:], text_of(file)
                return all(re.search(rf"\b{re.escape(part)}\b", source) for part in rest)
    return False


@pytest.mark.parametrize("paper", PAPERS)
def test_links_and_anchors_lead_somewhere(paper: str) -> None:
    folder = (ROOT / paper).parent
    for link in LINK.findall(without_blocks(text_of(paper))):
        if re.match(r"\w+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (folder / name).resolve() if name else ROOT / paper
        place = target.relative_to(ROOT).as_posix()
        assert place in committed(), f"{paper}: {link}"
        if anchor:
            assert anchor in anchors(place), f"{paper}: {link}"


@pytest.mark.parametrize("paper", PAPERS)
def test_nothing_of_one_machine_is_named(paper: str) -> None:
    assert not re.search(r"(?<![\w.])/(?:home|root|tmp|work|Users)/", text_of(paper))


def test_every_paper_can_be_reached_from_the_readme() -> None:
    linked = {link.partition("#")[0] for link in LINK.findall(text_of("README.md"))}
    assert {paper for paper in PAPERS if paper != "README.md"} <= linked
