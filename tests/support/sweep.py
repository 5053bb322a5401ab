"""Trace every class of models that transformers generates text with, in every way that it supports.

``python -m tests.support.sweep`` prints what came of it as a table.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tests.support.causal_models import CANNOT_BE_MADE, CANNOT_GENERATE, STATIC_FAILS, model_of, prompt_of
from tests.support.models import CollectedRun, collected
from tracer.errors import UnsupportedError
from tracer.tracefile.encoding.validity import check_step

CLASSES = sorted(set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()))
CAPTURES = ("logits", "kv", "hidden", "attention", "lens")
TOKENS = 4


@dataclass
class Outcome:
    """What came of one class.

    Attributes:
        refused: captures that were refused at the start, with what was said.
        faults: what must not be: violations, capture errors, other tokens, missing steps.
        uncaptured: reasons why captures could not be had.
        unchecked: checks that were not made, with the reason.
        ways: in how many ways it generated.
    """

    refused: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    uncaptured: set[str] = field(default_factory=set)
    unchecked: set[str] = field(default_factory=set)
    ways: list[str] = field(default_factory=list)


def ways_of(name: str, model: PreTrainedModel) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and settings of the ways in which a class generates.

    Other cache implementations cannot be had: in this release ``sliding_window`` cannot be made at all,
    ``offloaded`` needs a GPU, and ``quantized`` a library.
    """
    yield "greedy", {"do_sample": False}
    yield "sampling", {"do_sample": True, "top_k": 20, "temperature": 0.8}
    yield "no cache", {"do_sample": False, "use_cache": False}
    if model._supports_static_cache and name not in STATIC_FAILS:
        yield "static", {"do_sample": False, "cache_implementation": "static"}
    if name == "Gemma2ForCausalLM":
        yield "hybrid", {"do_sample": False, "cache_implementation": "hybrid"}
    if name == "MambaForCausalLM":
        yield "mamba", {"do_sample": False, "cache_implementation": "mamba"}


def hindrance(name: str) -> str | None:
    """Why a class generates nothing, untraced, with what is installed; None where it does.

    Args:
        name: the class.
    """
    try:
        _generate(model_of(name), name, {"do_sample": False})
    except (ImportError, TypeError) as error:
        known = CANNOT_BE_MADE.get(name) or CANNOT_GENERATE.get(name)
        if known is None or known not in str(error):
            raise
        return known
    return None


def sweep(name: str) -> Outcome:
    """Trace a class in all its ways, with all captures that are not refused.

    Args:
        name: the class.
    """
    outcome, model = Outcome(), model_of(name)
    refusals = {capture: _refusal(model, capture) for capture in CAPTURES}
    outcome.refused = {capture: said for capture, said in refusals.items() if said is not None}
    save = tuple(capture for capture in CAPTURES if capture not in outcome.refused)
    for way, settings in ways_of(name, model):
        outcome.ways.append(way)
        untraced = _generate(model, name, settings)
        with collected(model, level="tensors", save=save) as run:
            traced = _generate(model, name, settings)
        if not torch.equal(untraced, traced):
            outcome.faults.append(f"{way}: other tokens")
        _add(outcome, way, run)
    return outcome


def _refusal(model: PreTrainedModel, capture: str) -> str | None:
    try:
        with collected(model, level="tensors", save=(capture,)):
            return None
    except UnsupportedError as error:
        return str(error)


def _generate(model: PreTrainedModel, name: str, settings: dict[str, Any]) -> torch.Tensor:
    torch.manual_seed(1)
    found: torch.Tensor = model.generate(**prompt_of(name), max_new_tokens=TOKENS, **settings)
    return found


def _add(outcome: Outcome, way: str, run: CollectedRun) -> None:
    outcome.faults += [f"{way}: {problem}" for problem in run.problems()]
    if len(run.steps) != TOKENS or any(step.scores is None or step.modules is None for step in run.steps):
        outcome.faults.append(f"{way}: {len(run.steps)} steps, some of them bare")
    for step in run.steps:
        check_step(step, run.header)  # what a trace refuses to store
        outcome.uncaptured |= {f"{each.capture}: {each.reason}" for each in step.head.uncaptured}
        outcome.unchecked |= {f"{check.name}: {check.reason}" for check in step.head.checks if check.reason}


def table() -> Iterator[str]:
    """What came of every class, as the lines of a table."""
    yield "| class | ways | faults | refused at the start | checks not made | captures not had |"
    yield "|---|---|---|---|---|---|"
    for name in CLASSES:
        reason = hindrance(name)
        if reason is not None:
            yield f"| {name} | none: {reason} | | | | |"
            continue
        found = sweep(name)
        cells = [found.ways, found.faults or ["none"], found.refused.values()]
        cells += [sorted(found.unchecked), sorted(found.uncaptured)]
        yield f"| {name} | {' | '.join('; '.join(cell) for cell in cells)} |"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for line in table():
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
