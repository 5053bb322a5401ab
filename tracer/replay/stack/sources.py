"""Source text of the library: the installed file where it has the recorded lines, else what the trace has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from tracer.errors import UsageError
from tracer.schema.run import Anchor, RunHeader, StopName

_MAX_LINES = 200_000
"""Lines that a file of the trace may claim; a damaged number must not become a huge text."""


@dataclass(frozen=True)
class Source:
    """A source file that stops are in.

    Attributes:
        number: its number among the files of the run, from 1.
        file: path from the package root.
        path: the file on this machine that has the recorded lines; None if there is none.
        anchors: its anchors.
        note: where its text comes from; empty for the file itself.
    """

    number: int
    file: str
    path: Path | None
    anchors: tuple[Anchor, ...]
    note: str = ""

    def text(self) -> str:
        """The whole text; of a file that is not on this machine, the recorded lines at their places."""
        if self.path is not None:
            return self.path.read_text(encoding="utf-8", errors="replace")
        return "\n".join(self._recorded()) + "\n"

    def lines_around(self, line: int, around: int) -> list[tuple[int, str]]:
        """Lines with their numbers.

        Args:
            line: the line in the middle.
            around: number of lines before and after.
        """
        lines = self.text().splitlines()
        low, high = max(1, line - around), min(len(lines), line + around)
        return [(number, lines[number - 1]) for number in range(low, high + 1)]

    def is_at(self, path: str) -> bool:
        """Whether a path that a client names is this file, here or on the machine of the recording.

        Args:
            path: the path.
        """
        parts = PurePosixPath(path.replace("\\", "/")).parts
        own = PurePosixPath(self.file).parts
        recorded = {anchor.path for anchor in self.anchors}
        return path in recorded or path == str(self.path) or (bool(own) and parts[-len(own) :] == own)

    def _recorded(self) -> list[str]:
        lines: dict[int, str] = {}
        for anchor in self.anchors:
            lines[anchor.line] = anchor.text
            lines.update(enumerate(anchor.excerpt, anchor.excerpt_start))
        last = max((number for number in lines if 0 < number <= _MAX_LINES), default=0)
        return [lines.get(number, "") for number in range(1, last + 1)]


class Sources:
    """The source files of a run.

    Args:
        header: the run's header.
    """

    def __init__(self, header: RunHeader) -> None:
        files: dict[str, list[Anchor]] = {}
        for anchor in header.anchors:
            files.setdefault(anchor.file, []).append(anchor)
        self.all = tuple(
            _source(number, file, tuple(anchors)) for number, (file, anchors) in enumerate(files.items(), 1)
        )

    def __iter__(self) -> Iterator[Source]:
        return iter(self.all)

    def of(self, stop: StopName) -> Source | None:
        """The file that a stop is in; None where the recording has no line for it."""
        return next((each for each in self.all if any(a.stop == stop for a in each.anchors)), None)

    def numbered(self, number: int) -> Source:
        """A file by its number.

        Raises:
            UsageError: there is none.
        """
        if not 1 <= number <= len(self.all):
            raise UsageError(f"there is no source {number}; the recording has {len(self.all)}")
        return self.all[number - 1]

    def at(self, path: str) -> Source | None:
        """The file that a client's path means; None if no stop is in it."""
        return next((each for each in self.all if each.is_at(path)), None)


def _source(number: int, file: str, anchors: tuple[Anchor, ...]) -> Source:
    path = next((path for path in _places(file, anchors) if _has_lines(path, anchors)), None)
    note = "" if path else "from the trace: no installed file has these lines"
    return Source(number, file, path, anchors, note)


def _places(file: str, anchors: Iterable[Anchor]) -> Iterator[Path]:
    """Where the file may be: where it was when the run was recorded, and in the installed package."""
    yield from {Path(anchor.path) for anchor in anchors if Path(anchor.path).is_absolute()}
    package, _, rest = file.partition("/")
    if not rest or not package.isidentifier() or ".." in PurePosixPath(file).parts:
        return
    try:
        found = find_spec(package)  # of a package on top, which imports nothing
    except (ImportError, ValueError):
        return
    if found is not None and found.origin:
        yield Path(found.origin).parent / rest


def _has_lines(path: Path, anchors: Iterable[Anchor]) -> bool:
    """Whether a Python file has the recorded lines at their places."""
    if path.suffix != ".py":
        return False
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError, ValueError):
        return False
    return all(_has(lines, anchor) for anchor in anchors)


def _has(lines: list[str], anchor: Anchor) -> bool:
    low = anchor.excerpt_start - 1
    there = low >= 0 and tuple(lines[low : low + len(anchor.excerpt)]) == anchor.excerpt
    at_line = 0 < anchor.line <= len(lines) and lines[anchor.line - 1].strip() == anchor.text
    return at_line and (there or not anchor.excerpt)
