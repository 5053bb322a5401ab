"""A run of a release of transformers that is not in the table: every report says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.terminal.header import render_header
from reports.terminal.summary import render_summary
from reports.view.run.header import header_view
from reports.view.run.summary import summary
from tests.reports.html.samples import make_trace, page_of
from tests.reports.html.test_sections import sections, unpacked
from tests.reports.records import console, written
from tests.support.command import call_main
from tests.support.synthetic import synthetic_header
from tracer.schema.run import RunHeader

SENTENCE = "transformers 9.8.7 is none of the releases that are known; recorded like 5.24.0"


def of_release(version: str) -> RunHeader:
    header = synthetic_header()
    return header.model_copy(update={"versions": {**header.versions, "transformers": version}})


@pytest.mark.parametrize("version", ["4.44.2", "4.57.6", "5.24.0"])
def test_nothing_is_said_of_a_release_that_is_known(version: str) -> None:
    assert header_view(of_release(version), {}).notes == ()
    assert summary(None, header=of_release(version)).notes == summary(None).notes


def test_the_terminal_says_it_before_and_after_the_run() -> None:
    header, target = of_release("9.8.7"), console(100)
    target.print(render_header(header_view(header, {})))
    assert f"! {SENTENCE}" in " ".join(written(target).split())
    target = console(100)
    target.print(render_summary(summary(None, header=header)))
    assert f"! {SENTENCE}" in " ".join(written(target).split())


def test_the_page_and_verify_say_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_trace(tmp_path / "run.trace", header=of_release("9.8.7"))
    verified = call_main(capsys, "verify", path)
    assert f"! run 1: {SENTENCE}" in verified.stdout
    index, _ = unpacked(sections(page_of(path))["index"])
    banners = index["runs"][0]["banners"]
    assert any(banner["text"].startswith(SENTENCE) and banner["level"] == "warning" for banner in banners)
