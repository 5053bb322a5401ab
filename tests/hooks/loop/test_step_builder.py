"""What a builder keeps of one step changes nothing in the record of the next."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hooks.caught_step import CaughtStep
from hooks.loop.generation_watch import GenerationWatch
from hooks.loop.step_builder import StepBuilder
from hooks.scores.random_state import digest
from hooks.token_texts import TokenTexts
from tests.support.models import CollectedRun, batch, generate, tiny_model
from tracer.library.release import REFERENCE, installed_release
from tracer.schema.arrays import Bools
from tracer.schema.calls import CallShape
from tracer.schema.columns import ModuleColumns
from tracer.schema.run import CaptureSettings, RunHeader, TokenText
from tracer.schema.step import Step, StepHead

SAMPLING: dict[str, Any] = {"do_sample": True, "temperature": 0.9, "top_k": 30}
GREEDY: dict[str, Any] = {"do_sample": False, "repetition_penalty": 1.2}
ENDING: dict[str, Any] = {**SAMPLING, "eos_token_id": [*range(20, 60)]}

RUNS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "sample": (SAMPLING, {}),
    "ending": (ENDING, {}),
    "greedy": (GREEDY, {}),
    "no cache": ({**GREEDY, "use_cache": False}, {}),
    "shapes": (ENDING, {"level": "shapes"}),
    "beams": ({**GREEDY, "num_beams": 3}, {}),
    "assisted": ({**SAMPLING, "prompt_lookup_num_tokens": 2}, {}),
}
"""Settings of the generation and of the capture."""

if REFERENCE in installed_release().versions:  # other releases have no contrastive search of their own
    RUNS["contrastive"] = ({**GREEDY, "penalty_alpha": 0.6, "top_k": 3}, {})


class Spelling:
    """A tokenizer that spells every id."""

    all_special_ids = (0, 1)

    def convert_ids_to_tokens(self, token: int) -> str:
        return f"t{token}"

    def decode(self, ids: list[int], **_: Any) -> str:
        return " ".join(f"t{token}" for token in ids)


class Kept(CollectedRun):
    """Keeps each step as it was caught, beside its record and the texts that came with it."""

    def __init__(self) -> None:
        super().__init__()
        self._texts = TokenTexts(Spelling())
        self.caught: list[CaughtStep] = []
        self.new: list[tuple[TokenText, ...]] = []
        self.decoder = 0

    def begin(self, header: RunHeader, decoder: int) -> CollectedRun:
        self.decoder = decoder
        return super().begin(header, decoder)

    def put(self, caught: CaughtStep) -> bool:
        self.caught.append(caught.copy())
        step, new = self._builder.build(caught)
        self.steps.append(step)
        self.new.append(new)
        return False


def finished_before(run: Kept, at: int) -> Bools:
    """Rows that had ended before a step."""
    finished = np.zeros(len(run.header.prompt), dtype=np.bool_)
    for before in run.caught[:at]:
        if before.tensors.done is not None:
            finished = finished | before.tensors.done.numpy()
    return finished


def built_alone(run: Kept, at: int) -> tuple[Step, tuple[TokenText, ...]]:
    """The record of a step by a builder that has seen no other, given what a record depends on."""
    draws = [before.rng for before in run.caught[:at] if before.rng]
    builder = StepBuilder(
        run.number,
        len(run.header.prompt),
        run.header.modules,
        TokenTexts(Spelling()),
        decoder=run.decoder,
        candidates=run.header.capture.candidates,
        finished=finished_before(run, at),
        state_after=digest(draws[-1].after) if draws else "",
    )
    return builder.build(run.caught[at].copy())


def assert_same_columns(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    for field in dataclasses.fields(one) if one is not None else ():
        found, expected = getattr(one, field.name), getattr(other, field.name)
        if isinstance(one, ModuleColumns) and field.name == "shapes":
            continue  # numbers of the run; their shapes are compared
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert found.tobytes() == expected.tobytes(), field.name


def shapes_of(step: Step) -> list[Any]:
    """The shape of each module call."""
    return [] if step.modules is None else [step.shapes[number] for number in step.modules.shapes.tolist()]


def assert_as_if_alone(run: Kept) -> None:
    known: set[TokenText] = set()
    said = False
    for at, (step, new) in enumerate(zip(run.steps, run.new, strict=True)):
        alone, mentioned = built_alone(run, at)
        # A layout has another number in another run; where values are not finite is said once a run.
        violations = tuple(each for each in alone.head.violations if each.check != "finite" or not said)
        once = {"layout": step.head.layout, "violations": violations}
        said = said or any(each.check == "finite" for each in step.head.violations)
        assert step.head.model_dump_json() == alone.head.model_copy(update=once).model_dump_json()
        # Records that were made without validation are none the less valid.
        assert StepHead.model_validate(step.head.model_dump(), strict=True) == step.head
        for shape in step.shapes.values():
            assert CallShape.model_validate(shape.model_dump(), strict=True) == shape
        for name in ("scores", "modules", "cache"):
            assert_same_columns(getattr(step, name), getattr(alone, name))
        if step.scores is not None:
            assert step.scores.finished.tolist() == finished_before(run, at).tolist()
        assert shapes_of(step) == shapes_of(alone)
        assert step.layout == alone.layout
        assert new == tuple(each for each in mentioned if each not in known)
        known.update(mentioned)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(sorted(RUNS)), st.integers(1, 3), st.integers(1, 6), st.integers(0, 1000), st.booleans()
)
def test_a_step_is_what_it_is_alone(
    both_ways: str, name: str, rows: int, length: int, seed: int, spoiled: bool
) -> None:
    options, capture = RUNS[name]
    model, run = tiny_model(), Kept()
    if spoiled:
        with torch.no_grad():
            model.model.layers[1].mlp.down_proj.weight[seed % 32, 0] = float("nan")
    inputs = batch(1 if name == "assisted" else rows, rows + length, seed=seed)
    with GenerationWatch(model, CaptureSettings(**capture)).into(run), suppress(RuntimeError):
        # To draw from probabilities that are NaN fails; the step that did is recorded all the same.
        generate(model, inputs, seed=seed, **options)
    assert run.steps
    assert any(step.head.violations for step in run.steps) == (spoiled and "level" not in capture)
    assert_as_if_alone(run)
