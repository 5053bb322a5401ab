"""The variables of a recorded stop are those that the library's frame had there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.caches import cache_argument
from tests.support.models import GREEDY, SAMPLING
from tests.tracer.replay.recordings import Recorded, recorded
from tracer.library.release import installed_release
from tracer.replay.moment import Moment
from tracer.replay.timeline import Position, passed_stops, stops_in
from tracer.replay.values.elements import Whole
from tracer.replay.values.library import FrameKind, later_variables, local_variables
from tracer.replay.values.tensor import Tensor
from tracer.replay.values.value import Fields, Listed, Value
from tracer.schema.run import StopName

(CACHE,) = cache_argument(None)
"""The name of the cache among the arguments of the model."""

EVERYTHING = ("logits", "kv", "hidden")
CONTRASTIVE = {"penalty_alpha": 0.6, "top_k": 4}
DOLA = {"dola_layers": "high", "repetition_penalty": 1.2}
RUNS = {
    "sampling, all saved": (2, EVERYTHING, SAMPLING),
    "sampling": (3, (), SAMPLING),
    "greedy": (1, (), GREEDY),
    "greedy, all saved": (1, EVERYTHING, {"do_sample": False}),
    "embeddings": (2, EVERYTHING, {"do_sample": False, "embedded": True}),
    "cache of fixed size": (
        2,
        EVERYTHING,
        {**GREEDY, "cache_implementation": "static", "model_name": "llama"},
    ),
    "cache as a tuple": (2, EVERYTHING, {**SAMPLING, "model_name": "gpt2"}),
    "hybrid cache": (2, EVERYTHING, {**SAMPLING, "model_name": "gemma2"}),
    "without a cache": (2, ("logits",), {"do_sample": False, "use_cache": False}),
    "DoLa": (2, EVERYTHING, {**SAMPLING, **DOLA}),
    "DoLa, greedy": (1, (), {**GREEDY, **DOLA}),
    "beam search": (2, EVERYTHING, {**GREEDY, "num_beams": 3}),
    "beam search, low memory": (2, EVERYTHING, {**GREEDY, "num_beams": 3, "low_memory": True}),
    "beam sampling": (1, (), {**SAMPLING, "num_beams": 2}),
    "group search": (
        2,
        (),
        {**GREEDY, "num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.5},
    ),
    "group search, whole": (
        1,
        EVERYTHING,
        {**GREEDY, "num_beams": 3, "num_beam_groups": 3, "diversity_penalty": 0.5},
    ),
    "constrained search": (2, (), {**GREEDY, "num_beams": 3, "force_words_ids": ((30, 31),)}),
    "assisted": (1, EVERYTHING, {**GREEDY, "prompt_lookup_num_tokens": 2}),
    "assisted, sampling": (1, (), {**SAMPLING, "prompt_lookup_num_tokens": 2}),
    "contrastive search": (2, EVERYTHING, {**GREEDY, **CONTRASTIVE}),
    "contrastive search, low memory": (1, EVERYTHING, {**GREEDY, **CONTRASTIVE, "low_memory": True}),
    "contrastive search, tuples": (1, (), {**GREEDY, **CONTRASTIVE, "model_name": "gpt2"}),
}
ONLY_HERE = (
    *("DoLa", "DoLa, greedy", "assisted", "assisted, sampling"),
    *("group search", "group search, whole", "constrained search"),
    *("contrastive search", "contrastive search, tuples"),
    *("beam search, low memory", "contrastive search, low memory"),
)
"""Those that are compared under the required release alone."""

COMPARED = {
    "input_ids",
    "model_inputs",
    "model_kwargs",
    "outputs",
    "next_token_logits",
    "next_token_scores",
    "probs",
    "next_tokens",
    "unfinished_sequences",
    "beam_scores",
    "running_beam_scores",
    "flat_running_sequences",
    "model_outputs",
    "log_probs",
    "topk_log_probs",
    "topk_indices",
    "topk_ids",
    "next_token_hits_stopping_criteria",
    "next_token_scores_processed",
    "next_indices",
    "beam_next_tokens",
    "beam_idx",
    "candidate_input_ids",
    "valid_tokens",
    "logit_for_next_step",
    "processed_logit_for_next_step",
    "next_probs",
    "top_k_ids",
    "top_k_probs",
    "selected_idx",
}


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.reference_only) if name in ONLY_HERE else name for name in RUNS
    ],
    scope="module",
)
def run(request: pytest.FixtureRequest) -> Recorded:
    rows, save, mode = RUNS[request.param]
    return recorded(rows, save, **mode)


def moments(run: Recorded) -> Iterator[Moment]:
    shelf = run.shelf()
    stops = passed_stops(shelf.run.header)
    for number in shelf.run.steps.numbers:
        for stop in stops_in(shelf.run.header, stops, "prefill" if number == 1 else "decode"):
            yield Moment(shelf, Position(number, stop), stops)


def kind_of(stop: StopName) -> FrameKind:
    return "forward" if stop == "forward-result" else "sample"


def known(value: Tensor) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The elements of a tensor, and which of them the recording holds."""
    found = [value.elements.at(place) for place in np.ndindex(value.shape)]
    there = np.array([each is not None for each in found], np.bool_).reshape(value.shape)
    return np.array([0 if each is None else each for each in found]).reshape(value.shape), there


def assert_tensor(value: Value, real: torch.Tensor, *, close: bool = False) -> None:
    assert isinstance(value, Tensor)
    assert value.shape == tuple(real.shape)
    assert value.attribute("dtype").text == str(real.dtype)
    found, there = known(value)
    expected = real.numpy()
    if close:
        np.testing.assert_allclose(found[there], expected[there], rtol=1e-5)
    else:
        np.testing.assert_array_equal(found[there], expected[there])
    assert there.all() or value.elements.missing


def assert_cache(value: Value, real: Any) -> None:
    if not isinstance(value, Listed):
        # With use_cache=False nothing is recorded of it, and of one among arguments its class alone.
        assert value.text in ("DynamicCache", "tuple")
        return
    assert value.count == len(real)
    for layer, pair in enumerate(real):
        for part, tensor in enumerate(pair):
            assert_tensor(value.at(layer).at(part), tensor)
            if isinstance(real, list):
                assert_tensor(own_part(value, layer, part), tensor)


def own_part(cache: Value, layer: int, part: int) -> Value:
    """Keys or values as the library's own object has them."""
    if installed_release().layered_caches:
        return cache.attribute("layers").at(layer).attribute(("keys", "values")[part])
    return cache.attribute(("key_cache", "value_cache")[part]).at(layer)


def assert_same(value: Value, real: Any, name: str) -> None:
    if value.text.startswith("not recorded: "):
        # The mask is of a model that is given one of its own.
        assert name in ("attention_mask", "candidate_premature_logits") or (
            "once for each of its candidates" in value.text
            or "the step that begins with it" in value.text
            or "one candidate after the other" in value.text
            or "forward passes, and each has its own" in value.text
        )
    elif isinstance(real, torch.Tensor):
        assert_tensor(value, real, close=name in ("probs", "next_probs", "top_k_probs"))
    elif isinstance(real, list | tuple):
        assert_cache(value, real)
    elif isinstance(real, dict):
        assert isinstance(value, Fields)
        for item in value.names():
            if item.name in real:
                assert_same(item.value, real[item.name], item.name)
    else:
        assert value.text == str(real)


def test_every_variable_of_every_stop_is_the_frames_own(run: Recorded) -> None:
    compared = set()
    for moment in moments(run):
        position = moment.position
        frame = run.frames[position.step, position.stop]
        for name, make in local_variables(moment, kind_of(position.stop)).items():
            if name in ("logits_processor", "logits_warper", "stopping_criteria", "hidden_states"):
                continue
            assert name in frame, (position, name)
            assert_same(make(), frame[name], name)
            compared.add(name)
        if position.stop != "forward-result":
            there = set(local_variables(moment, "sample"))
            # A name that the frame has from the step before is not assigned in this one yet.
            assert there >= COMPARED & set(frame) or position.step > 1, position
    own = (frame for (step, stop), frame in run.frames.items() if step == 1 and stop != "forward-result")
    assert compared >= COMPARED & {name for frame in own for name in frame}


def test_what_was_saved_is_there_to_the_last_element() -> None:
    run = recorded(2, EVERYTHING, **SAMPLING)
    for moment in moments(run):
        if moment.position.stop == "stopping":
            variables = local_variables(moment, "sample")
            logits = variables["next_token_logits"]()
            assert isinstance(logits, Tensor)
            assert known(logits)[1].all()
            key = variables["model_kwargs"]().at(CACHE).at(1).at(0)
            assert isinstance(key, Tensor)
            assert known(key)[1].all()


def test_scores_of_recorded_tokens_are_there_without_saved_logits() -> None:
    run = recorded(3, (), **SAMPLING)
    moment = next(each for each in moments(run) if each.position == Position(2, "append"))
    scores = local_variables(moment, "sample")["next_token_scores"]()
    assert isinstance(scores, Tensor)
    # Top-k leaves fewer tokens than are recorded, so that every other is known to be removed.
    assert known(scores)[1].all()
    raw = local_variables(moment, "sample")["next_token_logits"]()
    assert isinstance(raw, Tensor)
    assert 0 < known(raw)[1].sum() < known(raw)[1].size
    assert "--save logits" in raw.attribute("values").text


def test_a_score_that_is_no_number_leaves_the_others_unknown() -> None:
    run = recorded(1, (), **GREEDY)
    moment = next(each for each in moments(run) if each.position == Position(1, "append"))
    scores = moment.step.scores
    assert scores is not None
    # As though a hundred tokens were kept of a hundred and one: the one may be anything.
    object.__setattr__(moment.step.head, "vocab_size", 101)
    value = local_variables(moment, "sample")["next_token_scores"]()
    assert isinstance(value, Tensor)
    assert value.elements.missing


def test_variables_that_come_later_in_the_step() -> None:
    run = recorded(1, (), **GREEDY)
    moment = next(each for each in moments(run) if each.position.step == 2)
    now, later = local_variables(moment, "sample"), later_variables(moment)
    assert "next_tokens" not in now
    assert {"next_tokens", "logits", "hidden_states", *now} <= set(later)


def test_an_array_is_read_when_it_is_looked_at() -> None:
    run = recorded(2, EVERYTHING, **SAMPLING)
    moment = next(each for each in moments(run) if each.position == Position(3, "append"))
    shelf = moment.shelf
    value = local_variables(moment, "sample")["model_kwargs"]().at(CACHE)
    assert "2 layers" in value.text
    reads: list[tuple[int, str]] = []

    def tensor(step: int, name: str) -> Any:
        reads.append((step, name))
        return shelf.run.tensor(step, name)

    shelf.tensor = tensor  # type: ignore[method-assign]
    key = value.at(1).at(0)
    assert set(reads) == {(1, "kv/1/key"), (1, "kv/1/value")}  # for the preview
    assert isinstance(key, Tensor)
    key.at((0, 0, -1, 0))
    assert (3, "kv/1/key") in reads
    assert not isinstance(key.elements, Whole)
