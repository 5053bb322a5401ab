"""Every released version of the format stays readable."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.support.synthetic import synthetic_header, synthetic_steps
from tests.tracer.tracefile.make_fixture import FIXTURES
from tests.tracer.tracefile.samples import slots
from tracer.schema.checks import Check
from tracer.schema.step import StepHead
from tracer.tracefile import TraceFile, check_file
from tracer.tracefile.format import HISTORY, SCHEMA_VERSION
from tracer.tracefile.reading.queries import VERSIONS
from tracer.tracefile.reading.upgrade import head_of_version_1


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
        if version >= 7:
            expected = slots(2).array()
            np.testing.assert_array_equal(first.tensor(2, "kv/1/key"), expected[1])
            np.testing.assert_array_equal(first.tensor(2, "kv/0/value"), expected[2])
        assert recording.tokens[12].text == "sub12"
        assert [stamp.summary for stamp in first.stamps] == ["all digests hold"]
        assert second.stamps == ()


def test_a_head_of_version_1_is_brought_to_the_form_of_today() -> None:
    head = next(synthetic_steps(synthetic_header(), 1)).head
    old = head.model_dump(mode="json") | {
        "checks": [
            {"name": "cache", "ok": True, "checked": 2, "total": 2},
            {"name": "finite", "ok": False, "checked": 3, "total": 5},
        ],
        "errors": [
            {"stop": "layers", "message": "lens: the output of layer 1 was not seen"},
            {"stop": "layers", "message": "attention: layer 2 was not seen"},
            {"stop": "softmax", "message": "lens"},
        ],
        "interventions": [
            {"kind": "set", "detail": "top_k 5"},
            {"kind": "set", "detail": "penalty 1.5"},
            {"kind": "ban", "detail": '"top_p 1" (7)'},
        ],
    }
    new = StepHead.model_validate_json(head_of_version_1(json.dumps(old).encode()))
    assert new.checks == (
        Check.made("cache", holds=True, checked=2, total=2),
        Check.made("finite", holds=False, checked=3, total=5),
    )
    assert [error.capture for error in new.errors] == ["lens", "attention", None]
    assert [(each.setting, each.value) for each in new.interventions] == [
        ("top_k", 5),
        ("penalty", 1.5),
        (None, None),
    ]
    assert type(new.interventions[0].value) is int


@pytest.mark.parametrize("text", [b"[1]", b"7", b'{"checks": 3, "errors": [1], "interventions": {}}', b"{"])
def test_an_old_head_that_is_none_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"valid|EOF|object|list"):
        StepHead.model_validate_json(head_of_version_1(text))
