"""What is counted over a run."""

from __future__ import annotations

from reports.view.run.totals import RunTotals
from tests.reports.records import header, steps, with_head
from tracer.schema.changes import Intervention

SET = Intervention(kind="set", detail="temperature 0.5")
OTHER = Intervention(kind="set", detail="temperature 0.9")
FORCE = Intervention(kind="force", detail='"A" (32)')


def changes(*found: tuple[Intervention, ...]) -> int:
    totals = RunTotals()
    for step, made in zip(steps(header(), len(found)), found, strict=True):
        totals.add(with_head(step, interventions=made))
    return totals.interventions


def test_a_setting_that_stays_changed_is_one_change() -> None:
    assert changes((), (SET,), (SET,), (SET,)) == 1
    assert changes((SET,), (SET, FORCE), (SET, FORCE)) == 3
    assert changes((SET,), (OTHER,), (SET,)) == 3


def test_tokens_are_counted_without_padding() -> None:
    totals = RunTotals()
    for step in steps(header(rows=3), 2):
        totals.add(step)
    assert totals.generated == 6
