"""The examples run."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.network import demo_checkpoint
from tracer import open_trace

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_own_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load("own_model").main(tmp_path / "own.trace")
    assert "logits of step 3: (1, 512) float32" in capsys.readouterr().out
    with open_trace(tmp_path / "own.trace") as recording:
        assert [run.header.do_sample for run in recording.runs] == [False, True]


@pytest.mark.demo
def test_walkthrough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo_checkpoint()
    load("walkthrough").main(tmp_path / "walkthrough.trace", max_new_tokens=3)
    printed = capsys.readouterr().out
    assert "generation/utils.py:2982" in printed
    assert "run 1 complete" in printed
    with open_trace(tmp_path / "walkthrough.trace") as recording:
        assert len(recording.header.prompt[0].token_ids) == 30


@pytest.mark.slow
@pytest.mark.demo
def test_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo_checkpoint()
    load("report").main(tmp_path / "report.html", max_new_tokens=2)
    assert "data-section" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_committed_report_is_made_by_this_version_of_the_page() -> None:
    from reports.html.bundle import bundle, page_modules, page_style
    from reports.html.page import ENTRY

    page = (EXAMPLES / "report.html").read_text(encoding="utf-8")
    assert bundle(page_modules(), ENTRY) in page
    assert page_style() in page
