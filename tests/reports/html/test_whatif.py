"""The page's what-if gives what transformers' own processors give on the same logits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    LogitsProcessor,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from tests.reports.html.conftest import Opened
from tests.reports.html.samples import make_trace, page_of
from tests.support.synthetic import VOCAB, synthetic_header, synthetic_steps
from tracer.analysis.scores.summary import summarise
from tracer.schema.run import RunHeader
from tracer.schema.step import Step

pytestmark = pytest.mark.browser

STEP = 3
RECORDED = {"repetition_penalty": 1.05, "temperature": 0.7, "top_k": 20, "top_p": 0.8, "min_p": 0.0}

EXACT: list[dict[str, float]] = [
    {},
    {"temperature": 1.7},
    {"top_k": 5},
    {"top_p": 0.5},
    {"top_p": 1.0},
    {"min_p": 0.05},
    {"repetition_penalty": 1.4},
    {"repetition_penalty": 1.0, "temperature": 1.0, "top_k": 3, "top_p": 1.0},
    {"repetition_penalty": 0.8, "temperature": 0.3, "top_k": 12, "top_p": 0.95, "min_p": 0.01},
    {"top_k": 0, "top_p": 1.0, "min_p": 0.2},
]
ESTIMATED: list[dict[str, float]] = [
    {"top_k": 0, "top_p": 0.9},
    {"top_k": 0, "top_p": 1.0},
    {"top_k": 0, "top_p": 1.0, "temperature": 2.0},
]


def processors(settings: dict[str, float]) -> list[LogitsProcessor]:
    """In the order of ``generate()``, each only where its setting does something."""
    found: list[Any] = []
    if settings["repetition_penalty"] != 1:
        found.append(RepetitionPenaltyLogitsProcessor(settings["repetition_penalty"]))
    if settings["temperature"] != 1:
        found.append(TemperatureLogitsWarper(settings["temperature"]))
    if settings["top_k"]:
        found.append(TopKLogitsWarper(int(settings["top_k"])))
    if settings["top_p"] < 1:
        found.append(TopPLogitsWarper(settings["top_p"]))
    if settings["min_p"] > 0:
        found.append(MinPLogitsWarper(settings["min_p"]))
    return found


def stages(logits: torch.Tensor, history: torch.Tensor, settings: dict[str, float]) -> list[torch.Tensor]:
    found = [logits]
    for processor in processors(settings):
        found.append(processor(history, found[-1].clone()))
    return found


def logits_of(number: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(number)
    return torch.randn(1, VOCAB, generator=generator) * 3


def history_of(header: RunHeader, number: int) -> torch.Tensor:
    chosen = [int(logits_of(step)[0].argmax()) for step in range(1, number)]
    return torch.tensor([[*header.prompt[0].token_ids, *chosen]])


def computed_steps(header: RunHeader) -> Iterator[Step]:
    """Synthetic steps whose scores come from transformers' processors."""
    for step in synthetic_steps(header, STEP + 1):
        found = stages(logits_of(step.number), history_of(header, step.number), RECORDED)
        chosen = np.array([int(found[0][0].argmax())], dtype=np.int32)
        arrays = [stage.numpy() for stage in found]
        yield replace(step, scores=summarise(arrays, chosen, np.zeros(1, dtype=np.bool_), 64))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    header = synthetic_header(layers=2)
    trace = tmp_path_factory.mktemp("whatif") / "run.trace"
    return page_of(make_trace(trace, header=header, steps=computed_steps(header)))


def shown(opened: Opened, report: Path, changes: dict[str, float]) -> tuple[dict[int, float], bool, int]:
    """Shares by token as the page gives them, whether it says that they are exact, and how many are left."""
    page = opened.open(report, f"#step={STEP}")
    for name, value in changes.items():
        page.fill(f"#knob-{name}", str(value))
    rows: list[list[str]] = page.evaluate(
        "[...document.querySelectorAll('.result tr[data-share]')].map(row => "
        "[row.querySelector('[data-token]').dataset.token, row.dataset.share])"
    )
    exact = page.locator(".result [data-exact]").get_attribute("data-exact") == "true"
    left = page.locator(".result .note.fact").inner_text().partition(" ")[0]
    return {int(token): float(share) for token, share in rows}, exact, int(left.replace(",", ""))


@pytest.mark.parametrize("changes", EXACT, ids=str)
def test_exact_figures_are_those_of_transformers(
    report: Path, opened: Opened, changes: dict[str, float]
) -> None:
    header = synthetic_header(layers=2)
    final = stages(logits_of(STEP), history_of(header, STEP), RECORDED | changes)[-1]
    expected = torch.softmax(final, dim=-1)[0]
    found, exact, left = shown(opened, report, changes)
    assert exact
    assert left == int((final > -torch.inf).sum())
    kept = {token: share for token, share in found.items() if share > 0}
    assert set(kept) <= set(torch.nonzero(expected)[:, 0].tolist())
    assert len(kept) == min(left, 20)
    for token, share in found.items():
        assert share == pytest.approx(float(expected[token]), rel=2e-6, abs=1e-12)


@pytest.mark.parametrize("changes", ESTIMATED, ids=str)
def test_an_estimate_says_so(report: Path, opened: Opened, changes: dict[str, float]) -> None:
    found, exact, _ = shown(opened, report, changes)
    assert not exact
    assert "An estimate" in opened.page.locator(".result .banner").inner_text()
    assert sum(found.values()) <= 1 + 1e-6


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"temperature": 0}, "above 0"), ({"top_p": 1.5}, "from 0 to 1"), ({"min_p": -1}, "from 0 to 1")],
    ids=str,
)
def test_an_impossible_setting_is_refused(
    report: Path, opened: Opened, changes: dict[str, float], message: str
) -> None:
    page = opened.open(report, f"#step={STEP}")
    for name, value in changes.items():
        page.fill(f"#knob-{name}", str(value))
    assert message in page.locator(".result .banner").inner_text()
