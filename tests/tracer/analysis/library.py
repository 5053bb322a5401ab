"""Random scores and settings, and what transformers itself makes of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import strategies as st
from transformers.generation import logits_process

from hooks.scores.replay import make_processor
from tracer.analysis.processors.edits import RepetitionPenalty, Temperature
from tracer.analysis.processors.filters import Epsilon, Eta, MinP, TopH, TopK, TopP, Typical
from tracer.analysis.processors.processor import PlacedProcessor, Processor
from tracer.schema.arrays import F32, I64


@dataclass(frozen=True, eq=False)
class Case:
    """One row of logits and what is done with it."""

    logits: F32
    history: I64
    placed: tuple[PlacedProcessor, ...]
    seed: int = 0

    def __repr__(self) -> str:
        return f"Case({self.logits.tolist()}, {self.history.tolist()}, {self.placed}, {self.seed})"


def transformers_stages(case: Case) -> list[F32]:
    """The row after each of transformers' own processors."""
    ids, scores = torch.from_numpy(case.history)[None], torch.from_numpy(case.logits.copy())[None]
    stages = []
    for placed in case.placed:
        scores = make_processor(placed)(ids, scores)
        stages.append(scores[0].clone().numpy())
    return stages


def warper(processor: Processor) -> PlacedProcessor:
    return PlacedProcessor("warper", processor)


keep = st.integers(1, 3)
shares = st.one_of(
    st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.8, 0.9, 0.95, 1.0]), st.floats(0, 1, allow_subnormal=False)
)
inner = st.one_of(st.sampled_from([0.1, 0.25, 0.5, 0.9]), st.floats(1e-4, 0.9999))
FILTERS: dict[str, st.SearchStrategy[Processor]] = {
    "top_k": st.builds(TopK, top_k=st.integers(1, 70)),
    "top_p": st.builds(TopP, top_p=shares, min_tokens_to_keep=keep),
    "min_p": st.builds(MinP, min_p=shares, min_tokens_to_keep=keep),
    "typical": st.builds(Typical, mass=inner, min_tokens_to_keep=keep),
    "epsilon": st.builds(Epsilon, epsilon=inner, min_tokens_to_keep=keep),
    "eta": st.builds(Eta, epsilon=inner, min_tokens_to_keep=keep),
}
if hasattr(logits_process, "TopHLogitsWarper"):
    FILTERS["top_h"] = st.builds(TopH, top_h=inner)
EDITS: dict[str, st.SearchStrategy[Processor]] = {
    "temperature": st.builds(
        Temperature, temperature=st.one_of(st.sampled_from([0.5, 0.7, 2.0]), st.floats(0.01, 100))
    ),
    "repetition_penalty": st.builds(
        RepetitionPenalty, penalty=st.one_of(st.sampled_from([1.05, 1.2, 0.8]), st.floats(0.1, 10))
    ),
}
finite = st.floats(-60, 60, width=32, allow_subnormal=False)
few = st.sampled_from([0.0, 1.0, 2.0, -1.0, 25.125, 24.125])  # many ties
gone = st.just(-math.inf)
usual_scores = st.one_of(finite, few, gone)


@st.composite
def rows(draw: st.DrawFn, score: st.SearchStrategy[float], largest: int = 60) -> F32:
    """A row: drawn one by one, or random and wide."""
    if draw(st.booleans()):
        seed, size = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([1, 2, 33, 257, 1000]))
        return np.random.default_rng(seed).normal(0, draw(st.floats(0.01, 20)), size).astype(np.float32)
    values = draw(st.lists(score, min_size=1, max_size=largest))
    return np.array(values, dtype=np.float32)


@st.composite
def cases(
    draw: st.DrawFn,
    processors: st.SearchStrategy[list[Processor]],
    score: st.SearchStrategy[float] = usual_scores,
) -> Case:
    """A row, a history and processors."""
    logits = draw(rows(score))
    history = draw(st.lists(st.integers(0, logits.size - 1), min_size=1, max_size=8))
    placed = tuple(warper(each) for each in draw(processors))
    return Case(logits, np.array(history, dtype=np.int64), placed, draw(st.integers(0, 2**31)))


@st.composite
def usual(draw: st.DrawFn) -> list[Processor]:
    """Processors in the order of ``generate()``, each there or not."""
    made = [draw(EDITS["repetition_penalty"])] if draw(st.booleans()) else []
    made += [draw(EDITS["temperature"])] if draw(st.booleans()) else []
    for name in ("top_k", "top_p", "min_p"):
        if draw(st.booleans()):
            made.append(draw(FILTERS[name]))
    return made
