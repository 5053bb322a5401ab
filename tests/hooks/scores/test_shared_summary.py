"""The summary of scores is shared out to the threads of torch; its bits do not depend on their number."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hooks.native.team import NO_TEAM, find_team
from hooks.scores import stages as _  # noqa: F401 - tells the compiled part of the team
from tracer.analysis.scores.native import compiled_summary

VOCABULARY, CAP = 30_000, 20

pytestmark = pytest.mark.skipif(
    not compiled_summary.available or find_team() == NO_TEAM, reason="no compiled code, or no team"
)


@pytest.mark.parametrize("rows", [1, 2, 7])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_bits_do_not_depend_on_the_threads(rows: int, threads: int) -> None:
    random = np.random.default_rng(rows)
    raw = random.normal(0, 3, (rows, VOCABULARY)).astype(np.float32)
    raw[0, 17], raw[-1, 23] = np.nan, np.inf
    cut = np.where(raw < 1, np.float32(-np.inf), raw / np.float32(0.7))
    pipeline, chosen = [raw, raw / np.float32(0.7), cut, cut], np.arange(rows)
    alone = compiled_summary.packed_summary(pipeline, chosen, CAP)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        together = compiled_summary.packed_summary(pipeline, chosen, CAP, shares=True)
    finally:
        torch.set_num_threads(before)
    assert together == alone
