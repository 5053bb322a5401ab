"""Rows of scores and processors to which every implementation of the warpers is held.

There are three: transformers' own (as :class:`hooks.scores.replay.TorchReplayer` makes them), NumPy's, and
the page's, in JavaScript.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.tracer.analysis.library import Case, warper
from tracer.analysis.processors.edits import RepetitionPenalty, Temperature
from tracer.analysis.processors.filters import MinP, TopK, TopP
from tracer.analysis.processors.processor import PlacedProcessor, Processor
from tracer.schema.arrays import F32

PROCESSORS: dict[str, list[Processor]] = {
    "penalty": [RepetitionPenalty(1.3)],
    "reward": [RepetitionPenalty(0.8)],
    "cold": [Temperature(0.3)],
    "hot": [Temperature(1.7)],
    "top_k 1": [TopK(1)],
    "top_k 20": [TopK(20)],
    "top_k of all": [TopK(5000)],
    "top_p 0": [TopP(0.0)],
    "top_p 0.8": [TopP(0.8)],
    "top_p 0.95, three kept": [TopP(0.95, min_tokens_to_keep=3)],
    "min_p 0.1": [MinP(0.1)],
    "min_p 1": [MinP(1.0)],
    "min_p 0.3, three kept": [MinP(0.3, min_tokens_to_keep=3)],
    "the walkthrough": [RepetitionPenalty(1.05), Temperature(0.7), TopK(20), TopP(0.8)],
    "all": [RepetitionPenalty(0.9), Temperature(1.3), TopK(50), TopP(0.9), MinP(0.02)],
    "filters alone": [TopK(12), TopP(0.99), MinP(0.001)],
}


def _rows() -> Iterator[tuple[str, F32]]:
    rng = np.random.default_rng(20)
    yield "narrow", rng.normal(0, 0.5, 200).astype(np.float32)
    yield "usual", rng.normal(0, 3, 1000).astype(np.float32)
    yield "wide", rng.normal(-20, 15, 300).astype(np.float32)
    gaps = rng.normal(0, 2, 120).astype(np.float32)
    gaps[rng.permutation(120)[:70]] = -np.inf
    yield "mostly removed", gaps
    yield "one token", np.array([3.0], dtype=np.float32)
    yield "equal scores", np.array([1.0, 2.0, 2.0, 2.0, 0.5, 0.5, -1.0, 3.5], dtype=np.float32)


def _cases() -> Iterator[tuple[str, Case]]:
    for row_name, row in _rows():
        history = np.random.default_rng(row.size).integers(0, row.size, 8)
        for name, processors in PROCESSORS.items():
            pipeline: tuple[PlacedProcessor, ...] = tuple(warper(each) for each in processors)
            yield f"{row_name}: {name}", Case(row, history, pipeline)


VECTORS: dict[str, Case] = dict(_cases())
"""Cases by name."""
