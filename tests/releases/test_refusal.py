"""A release that is in no row of the table is refused in one line, or tried when asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from tests.support.command import trace_generate
from tracer.errors import UnsupportedError, UsageError
from tracer.library.decoding_modes import require_traced_mode
from tracer.library.release import ANY, REFERENCE, RELEASES, installed_release


@pytest.fixture
def found_anew() -> Iterator[None]:
    installed_release.cache_clear()
    yield
    installed_release.cache_clear()


def test_the_command_refuses_it_in_one_line(tmp_path: Path) -> None:
    information = tmp_path / "transformers-9.9.9.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: transformers\nVersion: 9.9.9\n")
    first = {"PYTHONPATH": os.pathsep.join((str(tmp_path), *sys.path))}
    done = trace_generate("--prompt", "x", "--model", tmp_path, variables=first)
    assert done.returncode == UnsupportedError.exit_code
    assert done.stderr.count("\n") == 1, done.stderr
    for word in ("9.9.9", RELEASES[1].versions[-1], RELEASES[-1].versions[0], f"=={REFERENCE}", f"{ANY}=1"):
        assert word in done.stderr


def test_it_is_tried_like_the_newest(monkeypatch: pytest.MonkeyPatch, found_anew: None) -> None:
    monkeypatch.setattr(metadata, "version", lambda _: "9.9.9")
    with pytest.raises(UnsupportedError, match=r"9\.9\.9 cannot be traced"):
        installed_release()
    monkeypatch.setenv(ANY, "1")
    assert installed_release() is RELEASES[-1]


@pytest.mark.parametrize("release", ["4.57.6", "5.24.0"])
def test_a_setting_that_its_loop_refuses(
    release: str, monkeypatch: pytest.MonkeyPatch, found_anew: None
) -> None:
    monkeypatch.setattr(metadata, "version", lambda _: release)
    require_traced_mode({"num_beams": 2})
    with pytest.raises(UsageError, match=r"low_memory, which x sets, is not possible: the beam search of"):
        require_traced_mode({"num_beams": 2, "low_memory": True}, "x")


def test_none_at_all(monkeypatch: pytest.MonkeyPatch, found_anew: None) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    monkeypatch.setenv(ANY, "1")
    with pytest.raises(UnsupportedError, match="is not installed"):
        installed_release()
