"""The demo model under the required release and under the installed one: what differs first is said."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest

from tests.releases.make_traces import record_demo, unpacked
from tests.support.command import call_main
from tracer import open_trace
from tracer.analysis.diff import diff
from tracer.library.release import REFERENCE

pytestmark = pytest.mark.demo


def test_a_difference_is_put_down_to_the_release(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new, version = unpacked("demo", tmp_path), tmp_path / "new.trace", metadata.version("transformers")
    record_demo(new)
    with open_trace(old) as a, open_trace(new) as b:
        report = diff(a.run(), b.run())
    assert report.steps == 3
    assert report.reason in ("identical", "rounding")
    facts = {fact.name for fact in report.facts}
    assert ("transformers" in facts) == (version != REFERENCE)
    told = " ".join(call_main(capsys, "diff", old, new).stdout.split())
    if version != REFERENCE:
        assert f"versions transformers {REFERENCE} {version}" in told
    if report.reason == "rounding":
        # In which step depends on the processor that it runs on.
        assert re.search(r"the first number that differs step \d, stop next-logits, row 0", told)
