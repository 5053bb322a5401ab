"""Output files appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tracer.errors import OutputError
from tracer.output_files import (
    check_output,
    check_target,
    is_standard_output,
    is_stream,
    new_file,
    write_text,
)


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
def test_a_pipe_is_written_to_and_never_replaced(tmp_path: Path, force: bool) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_text(pipe, "x", force=force)
        assert os.read(reader, 10) == b"x"
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    assert names(tmp_path) == ["pipe"]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("link", [False, True])
def test_a_socket_or_device_is_refused_without_advice_to_force(
    tmp_path: Path, force: bool, link: bool
) -> None:
    with special_nodes(tmp_path) as nodes:
        for node in nodes:
            target = node
            if link:
                target = tmp_path / f"{node.name}.html"
                target.symlink_to(node)
            before = node.stat()
            for refuse in (check_target, check_output):
                with pytest.raises(OutputError, match="not an ordinary file") as refused:
                    refuse(target, force=force)
                assert "force" not in refused.value.command_line
            with pytest.raises(OutputError, match="not an ordinary file"):
                write_text(target, "x", force=force)
            after = node.stat()
            assert (after.st_mode, after.st_ino) == (before.st_mode, before.st_ino)


@contextlib.contextmanager
def special_nodes(folder: Path) -> Iterator[list[Path]]:
    """A socket and, where the tests may make one, a device, both of this folder."""
    with socket.socket(socket.AF_UNIX) as bound:
        place = folder / "socket"
        bound.bind(os.path.relpath(place))
        nodes = [place]
        if os.geteuid() == 0:
            with contextlib.suppress(OSError):
                os.mknod(folder / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
                nodes.append(folder / "device")
        yield nodes


DESCRIPTORS = ("/dev/fd/{}", "/proc/self/fd/{}")


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_a_descriptor_is_gone_on_with(tmp_path: Path, name: str) -> None:
    """A file that the shell has opened keeps its place and what is in it already."""
    target = tmp_path / "steps.jsonl"
    with target.open("wb") as file:
        file.write(b"before ")
        file.flush()
        inode = target.stat().st_ino
        path = Path(name.format(file.fileno()))
        assert is_stream(path)
        with pytest.raises(OutputError, match="not an ordinary file"):
            check_target(path, force=True)
        link = tmp_path / "link"
        link.symlink_to(path)
        check_output(link, force=False)
        write_text(link, "ours ")
        write_text(path, "again", force=True)
    assert target.read_bytes() == b"before ours again"
    assert target.stat().st_ino == inode
    assert sorted(names(tmp_path)) == ["link", "steps.jsonl"]


def test_names_of_standard_output() -> None:
    assert is_standard_output(Path("/dev/stdout"))
    assert not is_standard_output(Path("/dev/stderr"))
    assert not is_standard_output(Path("1"))


@pytest.mark.parametrize("name", ["x" * 256, "x" * 5000, "é" * 128])
def test_a_name_that_is_too_long_is_said(tmp_path: Path, name: str) -> None:
    for force in (False, True):
        with pytest.raises(OutputError, match=r"(?i)name too long"):
            check_target(tmp_path / name, force=force)
        with pytest.raises(OutputError, match=r"(?i)name too long"):
            write_text(tmp_path / name, "x", force=force)
    assert names(tmp_path) == []


def test_room_for_the_files_beside_it(tmp_path: Path) -> None:
    name = "é" * 126  # 252 bytes
    assert not check_target(tmp_path / name, force=False)
    with pytest.raises(OutputError, match=r"(?i)name too long"):
        check_target(tmp_path / name, force=False, side_file="-wal")


@pytest.mark.parametrize("name", ["日" * 85, "é" * 127])
def test_a_long_name_of_many_bytes(tmp_path: Path, name: str) -> None:
    write_text(tmp_path / name, "one")
    write_text(tmp_path / name, "two", force=True)
    assert (tmp_path / name).read_text() == "two"
    assert names(tmp_path) == [name]


def test_links_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OutputError, match="exists already"):
        write_text(tmp_path / "a", "x")
    with pytest.raises(OutputError, match=r"(?i)symbolic links"):
        write_text(tmp_path / "a" / "page.html", "x")


def test_python_and_the_command_line_each_have_their_own_advice(tmp_path: Path) -> None:
    (tmp_path / "page.html").touch()
    with pytest.raises(OutputError, match="force=True") as refused:
        write_text(tmp_path / "page.html", "x")
    assert "--force" not in str(refused.value)
    assert "add --force" in refused.value.command_line


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.html").write_text("old")
    (tmp_path / "page.html").symlink_to("real.html")
    write_text(tmp_path / "page.html", "new", force=True)
    assert (tmp_path / "page.html").is_symlink()
    assert (tmp_path / "real.html").read_text() == "new"
