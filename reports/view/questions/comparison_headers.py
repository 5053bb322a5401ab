"""The headers of two runs, value by value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from reports.view.run.header import HeaderView
from reports.view.run.named_value import NamedValue
from reports.view.text import plain
from tracer.schema.run import CaptureSettings

ABSENT = "-"


@dataclass(frozen=True)
class ValuePair:
    """One value of both run headers.

    Attributes:
        name: what.
        a: its value in run A; a dash where it has none.
        b: its value in run B.
        differs: whether the values are not the same.
    """

    name: str
    a: str
    b: str
    differs: bool


@dataclass(frozen=True)
class HeaderGroup:
    """Values of one kind.

    Attributes:
        title: the kind.
        values: in run A's order, then what only run B has.
    """

    title: str
    values: tuple[ValuePair, ...]


def header_groups(
    a: HeaderView, b: HeaderView, captures: tuple[CaptureSettings, CaptureSettings]
) -> tuple[HeaderGroup, ...]:
    """Pair the headers of two runs.

    Args:
        a: header of run A.
        b: header of run B.
        captures: what each of them recorded.
    """
    ours, theirs = captures
    groups = (
        ("Model", _model(a), _model(b)),
        ("Generation settings", a.settings, b.settings),
        ("Logits pipeline", a.pipeline, b.pipeline),
        ("Stopping criteria", a.criteria, b.criteria),
        ("Recording", _recording(ours), _recording(theirs)),
        ("Versions", a.versions, b.versions),
    )
    return tuple(
        HeaderGroup(title, tuple(_paired(left, right))) for title, left, right in groups if left or right
    )


def _model(header: HeaderView) -> tuple[NamedValue, ...]:
    return (NamedValue("name", header.model), NamedValue("class", header.class_name), *header.metadata)


def _recording(capture: CaptureSettings) -> tuple[NamedValue, ...]:
    return (
        NamedValue("capture", capture.level),
        NamedValue("saved tensors", ", ".join(map(plain, capture.save)) or "none"),
        NamedValue("candidates", str(capture.candidates)),
    )


def _paired(a: Iterable[NamedValue], b: Iterable[NamedValue]) -> Iterator[ValuePair]:
    """Pair values by name; where a name occurs several times, the first with the first, and so on."""
    ours, theirs = _numbered(a), _numbered(b)
    for key in dict.fromkeys([*ours, *theirs]):
        left, right = (side[key] or "in use" if key in side else ABSENT for side in (ours, theirs))
        yield ValuePair(key[0], left, right, left != right)


def _numbered(values: Iterable[NamedValue]) -> dict[tuple[str, int], str]:
    found: dict[tuple[str, int], str] = {}
    for each in values:
        count = sum(1 for name, _ in found if name == each.name)
        found[each.name, count] = each.value
    return found
