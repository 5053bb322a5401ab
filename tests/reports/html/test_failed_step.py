"""The page of a run that failed in the middle of a step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import LogitsProcessorList

from tests.reports.html.conftest import Opened
from tests.reports.html.samples import page_of
from tests.support.models import batch, tiny_model
from tracer import trace

pytestmark = pytest.mark.browser


class _Breaks:
    calls = 0

    def __call__(self, _: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls == 3:
            raise ValueError("no third time")
        return scores


def test_the_failed_step_says_where_and_what_it_did_not_reach(tmp_path: Path, opened: Opened) -> None:
    path, model = tmp_path / "run.trace", tiny_model()
    processors = LogitsProcessorList([_Breaks()])
    with pytest.raises(ValueError, match="no third time"), trace(model, path=path):
        model.generate(
            **batch(), max_new_tokens=5, eos_token_id=None, do_sample=True, logits_processor=processors
        )
    page = opened.open(page_of(path), "#run=1&step=3&stop=processors&row=0")
    opened.shown("1/3/0/processors")
    assert "failed here: ValueError: no third time" in page.locator(".pane").inner_text()
    assert "the run failed at processors: ValueError" in page.locator("#step .banners").first.inner_text()
    for _ in range(3):
        page.keyboard.press("j")
    opened.shown("1/3/0/choice")
    assert "Not reached: the run failed at logits processors." in page.locator(".pane").inner_text()
    assert page.locator(".chip[data-place='2']").inner_text() == "\N{EN DASH}"
    page.keyboard.press("ArrowLeft")
    opened.shown("1/2/0/choice")
    assert page.locator(".pane table").count() == 1
    page.keyboard.press("ArrowRight")
    opened.shown("1/3/0/choice")
