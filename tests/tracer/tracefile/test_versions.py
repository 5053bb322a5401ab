"""Every released version of the format stays readable."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.tracer.tracefile.make_fixture import FIXTURES
from tracer.tracefile import TraceFile, check_file
from tracer.tracefile.format import HISTORY, SCHEMA_VERSION
from tracer.tracefile.reading.queries import VERSIONS


def test_every_version_has_a_history_entry_and_its_queries() -> None:
    assert sorted(HISTORY) == sorted(VERSIONS) == list(range(1, SCHEMA_VERSION + 1))


@pytest.mark.parametrize("version", sorted(HISTORY))
def test_a_file_of_each_version_is_read(tmp_path: Path, version: int) -> None:
    path = shutil.copy(FIXTURES / f"version-{version}.trace", tmp_path / "run.trace")
    report = check_file(path)
    assert report.problems == ()
    assert report.info.format_version == version
    assert [run.complete for run in report.runs] == [True, False]
    with TraceFile(path) as recording:
        first, second = recording.runs
        assert first.header.model.class_name == "Qwen2ForCausalLM"
        assert [step.number for step in first.steps] == [1, 2, 3]
        assert [step.number for step in second.steps] == [1]
        step = first.steps[1]
        assert step.candidates_of(1)[0].raw == pytest.approx(25.125)
        assert step.layout is not None
        assert step.modules is not None
        assert step.head.violations[0].message == "slot 3 changed"
        assert first.tensor(2, "logits").tolist() == [[float(value + 2) for value in range(12)]]
        assert recording.tokens[12].text == "sub12"
        assert [stamp.summary for stamp in first.stamps] == ["all digests hold"]
        assert second.stamps == ()
