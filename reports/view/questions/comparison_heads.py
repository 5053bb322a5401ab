"""The heads of two runs, fact by fact."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from reports.view.run.header import Fact, HeaderView
from reports.view.text import plain
from tracer.schema.run import CaptureSettings

ABSENT = "-"


@dataclass(frozen=True)
class HeadFact:
    """One fact about both runs.

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
class HeadGroup:
    """Facts of one kind.

    Attributes:
        title: the kind.
        facts: in run A's order, then what only run B has.
    """

    title: str
    facts: tuple[HeadFact, ...]


def head_groups(
    a: HeaderView, b: HeaderView, captures: tuple[CaptureSettings, CaptureSettings]
) -> tuple[HeadGroup, ...]:
    """The heads of two runs.

    Args:
        a: head of run A.
        b: head of run B.
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
        HeadGroup(title, tuple(_paired(left, right))) for title, left, right in groups if left or right
    )


def _model(head: HeaderView) -> tuple[Fact, ...]:
    return (Fact("name", head.model), Fact("class", head.class_name), *head.facts)


def _recording(capture: CaptureSettings) -> tuple[Fact, ...]:
    return (
        Fact("capture", capture.level),
        Fact("saved tensors", ", ".join(map(plain, capture.save)) or "none"),
        Fact("candidates", str(capture.candidates)),
    )


def _paired(a: Iterable[Fact], b: Iterable[Fact]) -> Iterator[HeadFact]:
    """Facts of the same name beside one another; of several with one name the first with the first."""
    ours, theirs = _numbered(a), _numbered(b)
    for key in dict.fromkeys([*ours, *theirs]):
        left, right = (side[key] or "in use" if key in side else ABSENT for side in (ours, theirs))
        yield HeadFact(key[0], left, right, left != right)


def _numbered(facts: Iterable[Fact]) -> dict[tuple[str, int], str]:
    found: dict[tuple[str, int], str] = {}
    for fact in facts:
        count = sum(1 for name, _ in found if name == fact.name)
        found[fact.name, count] = fact.value
    return found
