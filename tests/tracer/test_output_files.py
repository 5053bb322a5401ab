"""Output files appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tracer.errors import OutputError
from tracer.output_files import new_file, write_text


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_no_hard_link_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    write_text(tmp_path / "page.html", "one")
    assert (tmp_path / "page.html").read_text() == "one"
    assert names(tmp_path) == ["page.html"]


def test_a_file_that_appears_meanwhile_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "page.html"

    def interrupted() -> None:
        with new_file(target) as file:
            file.write(b"ours")
            target.write_bytes(b"theirs")

    with pytest.raises(OutputError, match="exists already"):
        interrupted()
    assert target.read_bytes() == b"theirs"
    assert names(tmp_path) == ["page.html"]


def test_a_fault_leaves_nothing_behind(tmp_path: Path) -> None:
    def failing() -> None:
        with new_file(tmp_path / "steps.csv") as file:
            file.write(b"half")
            raise ValueError("no such step")

    with pytest.raises(ValueError, match="no such step"):
        failing()
    assert names(tmp_path) == []


@pytest.mark.parametrize("force", [False, True])
def test_a_pipe_is_never_replaced(tmp_path: Path, force: bool) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="not an ordinary file"):
        write_text(tmp_path / "pipe", "x", force=force)
    assert (tmp_path / "pipe").is_fifo()


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.html").write_text("old")
    (tmp_path / "page.html").symlink_to("real.html")
    write_text(tmp_path / "page.html", "new", force=True)
    assert (tmp_path / "page.html").is_symlink()
    assert (tmp_path / "real.html").read_text() == "new"
