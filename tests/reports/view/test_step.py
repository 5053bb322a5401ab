from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np
import pytest

from reports.view import step_line, step_view
from reports.view.blocks import (
    CacheTable,
    CandidateList,
    ChoiceTable,
    CriterionTable,
    Note,
    OtherRows,
    StageTable,
    TokenStrip,
    Variable,
    VariableTable,
)
from reports.view.card import StopCard
from tests.reports.records import TOKENS, header, steps, with_head
from tests.support.synthetic import merged_header
from tracer.schema.cache import CacheState
from tracer.schema.changes import Intervention
from tracer.schema.checks import Check, Violation
from tracer.schema.faults import CaptureError, Uncaptured
from tracer.schema.run import STOPS
from tracer.schema.step import Criterion, Step

B = TypeVar("B")


def block(card: StopCard, kind: type[B]) -> B:
    return next(item for item in card.blocks if isinstance(item, kind))


def variables(card: StopCard) -> dict[str, Variable]:
    return {
        item.name: item for part in card.blocks if isinstance(part, VariableTable) for item in part.variables
    }


def notes(card: StopCard, level: str | None = None) -> list[str]:
    return [item.text for item in card.blocks if isinstance(item, Note) and level in (None, item.level)]


def test_one_card_a_stop_in_order() -> None:
    run = header()
    view = step_view(run, steps(run, 1)[0], TOKENS)
    assert [card.stop for card in view.cards] == list(STOPS[1:])
    assert [card.number for card in view.cards] == list(range(1, 12))
    assert (view.phase, view.new_tokens) == ("prefill", 29)


def test_anchors_stand_only_where_the_header_has_them() -> None:
    run = header()
    anchored = {card.stop for card in step_view(run, steps(run, 1)[0], TOKENS).cards if card.anchor}
    assert anchored == {anchor.stop for anchor in run.anchors}
    bare = run.model_copy(update={"anchors": tuple(a for a in run.anchors if a.stop != "forward-result")})
    assert step_view(bare, steps(bare, 1)[0], TOKENS).card("forward-result").anchor is None


def test_model_inputs_of_prefill_and_decode() -> None:
    run = header()
    first, second = steps(run, 2)
    card = step_view(run, first, TOKENS).card("model-call")
    ids = variables(card)["input_ids"]
    assert ids.info is not None
    assert (ids.info.shape, ids.info.dtype, ids.value) == ((1, 29), "int64", "100 … 128")
    assert variables(card)["attention_mask"].value == "1 (29 times)"
    assert variables(card)["use_cache"].value == "True"
    assert block(card, CacheTable).length == 0
    assert len(block(card, TokenStrip).tokens) == 29
    card = step_view(run, second, TOKENS).card("model-call")
    assert block(card, CacheTable).length == 29
    strip = block(card, TokenStrip)
    assert (strip.start, [token.id for token in strip.tokens]) == (29, [11])


def test_without_a_cache_only_the_last_token_is_new() -> None:
    run = header()
    first, second = steps(run, 2)
    none = CacheState(kind="none", length=0)
    ids = first.head.inputs.tensors[0]
    inputs = second.head.inputs.model_copy(update={"tensors": (ids,)})
    step = with_head(second, inputs=inputs, cache_before=none, cache_after=none)
    card = step_view(run, step, TOKENS).card("model-call")
    assert "reads every token of each row again" in notes(card)[0]
    assert [token.id for token in block(card, TokenStrip).tokens] == [128]


def test_the_reference_figures() -> None:
    run = header()
    view = step_view(run, steps(run, 1)[0], TOKENS)
    found = block(view.card("softmax"), CandidateList)
    assert found.total == 2
    assert [f"{row.score:.4f} {row.probability:.4f}" for row in found.rows] == [
        "35.8929 0.8067",
        "34.4643 0.1933",
    ]
    assert [row.raw for row in found.rows] == [25.125, 24.125]
    cache = block(view.card("update"), CacheTable)
    assert (cache.length, cache.layers, cache.rows[0].key.shape) == (29, 28, (1, 4, 29, 128))
    assert variables(view.card("update"))["cache_position"].value == "[29]"
    assert variables(view.card("append"))["input_ids after"].value == "…, 128, 11"


def test_processors_and_warpers() -> None:
    run = header()
    view = step_view(run, steps(run, 1)[0], TOKENS)
    processors = block(view.card("processors"), StageTable)
    assert [(stage.class_name, stage.changed, stage.removed) for stage in processors.stages] == [
        ("RepetitionPenaltyLogitsProcessor", 1, 0)
    ]
    warpers = block(view.card("warpers"), StageTable)
    assert [stage.removed for stage in warpers.stages] == [0, 2028, 18]
    assert warpers.stages[1].settings == ("top_k=20",)
    top = warpers.paths[0]
    assert top.chosen
    assert [f"{value:.4f}" for value in top.scores] == ["25.1250", "35.8929", "35.8929", "35.8929"]
    third = warpers.paths[2]
    assert third.scores[-1] == -np.inf
    assert third.token in warpers.stages[2].removed_tokens


def test_tokens_that_a_processor_moved_are_followed() -> None:
    run = header()
    step = steps(run, 1)[0]
    assert step.scores is not None
    moved = step.scores.scores.copy()
    moved[1:, 0, 9] -= 5
    step = replace(step, scores=replace(step.scores, scores=moved))
    table = block(step_view(run, step, TOKENS).card("processors"), StageTable)
    ids = [path.token.id for path in table.paths]
    assert int(step.scores.tokens[0, 9]) == ids[6] if step.scores is not None else False


def test_of_one_list_what_the_warpers_moved_is_not_followed() -> None:
    run = header()
    infos = tuple(info.model_copy(update={"list_name": "logits_processor"}) for info in run.processors)
    run = merged_header(infos)
    step = steps(run, 1)[0]
    assert step.scores is not None
    moved = step.scores.scores.copy()
    moved[1:, 0, 9] -= 5
    moved[2:, 0, 10] -= 9
    step = replace(step, scores=replace(step.scores, scores=moved))
    view = step_view(run, step, TOKENS)
    assert [card.stop for card in view.cards] == [*run.stops[1:]]
    table = block(view.card("processors"), StageTable)
    assert len(table.stages) == 4
    ids = [path.token.id for path in table.paths]
    assert step.scores is not None
    assert int(step.scores.tokens[0, 9]) in ids
    assert int(step.scores.tokens[0, 10]) not in ids


def test_logits_of_the_last_position_alone() -> None:
    run = header()
    step = steps(run, 1)[0]
    forward = step.head.forward
    assert forward is not None
    length, vocabulary = step.head.inputs.sequence_length, forward.logits.shape[-1]
    logits = forward.logits.model_copy(update={"shape": (1, 1, vocabulary)})
    step = with_head(step, forward=forward.model_copy(update={"logits": logits}))
    card = step_view(run, step, TOKENS).card("forward-result")
    assert f"The other {length - 1} leave their keys and values" in notes(card)[0]
    assert notes(card)[0].endswith("their logits are not computed.")
    assert "last position" in (variables(card)["logits"].meaning or "")
    # Of a single new position nothing is left out.
    one = step.head.inputs.model_copy(update={"new_start": length - 1})
    card = step_view(run, with_head(step, inputs=one), TOKENS).card("forward-result")
    assert "One position went in" in notes(card)[0]


def test_greedy_runs_skip_the_warpers_and_say_so() -> None:
    run = header(do_sample=False)
    view = step_view(run, steps(run, 1)[0], TOKENS)
    card = view.card("warpers")
    assert card.skipped
    assert "greedy" in notes(card)[0]
    assert "argmax" in notes(view.card("choice"))[0]
    assert "computed for this report" in notes(view.card("softmax"))[0]


def test_the_draw_says_where_its_state_comes_from() -> None:
    run = header()
    first, second = steps(run, 2)
    assert "the run's first" in notes(step_view(run, first, TOKENS).card("choice"), "fact")[0]
    assert (
        "the state after the draw of step 1"
        in notes(step_view(run, second, TOKENS).card("choice"), "fact")[0]
    )
    draw = second.head.draw
    assert draw is not None
    other = with_head(second, draw=draw.model_copy(update={"follows": False}))
    assert "other random numbers" in notes(step_view(run, other, TOKENS).card("choice"), "fact")[0]


def test_a_batch_shows_one_row_in_full_and_the_others_in_short() -> None:
    run = header(rows=3)
    view = step_view(run, steps(run, 1)[0], TOKENS, row=1)
    assert (view.row, view.rows) == (1, 3)
    card = view.card("model-call")
    assert variables(card)["attention_mask"].value == "row 1: 0, 1 (28 times)"
    assert block(card, TokenStrip).title.startswith("row 1: ")
    assert block(view.card("softmax"), CandidateList).row == 1
    for stop in ("next-logits", "processors", "warpers", "softmax"):
        found = next(card for card in view.cards if card.stop == stop)
        assert [row for row, _ in block(found, OtherRows).rows] == [0, 2]
    assert [row.row for row in block(view.card("choice"), ChoiceTable).rows] == [0, 1, 2]


def test_a_row_that_has_ended_gets_padding() -> None:
    run = header(rows=2)
    step = steps(run, 1)[0]
    assert step.scores is not None
    step = replace(step, scores=replace(step.scores, finished=np.array([False, True])))
    card = step_view(run, step, TOKENS).card("choice")
    assert [row.padding for row in block(card, ChoiceTable).rows] == [False, True]
    assert any("padding token" in note for note in notes(card))
    assert [row.padding for row in step_line(step, TOKENS).rows] == [False, True]


def test_stopping_says_who_fired_and_who_goes_on() -> None:
    run = header(rows=2)
    step = with_head(steps(run, 1)[0], criteria=(Criterion(index=1, fired=(1,)),), unfinished=(0,))
    card = step_view(run, step, TOKENS).card("stopping")
    assert block(card, CriterionTable).rows[0].fired == (1,)
    assert notes(card)[-1] == "Row 0 goes on with step 2."
    last = with_head(step, unfinished=())
    assert "the last one" in notes(step_view(run, last, TOKENS).card("stopping"))[-1]


def test_findings_stand_where_they_belong() -> None:
    run = header()
    step = with_head(
        steps(run, 1)[0],
        checks=(
            Check.made("cache", holds=False, checked=28, total=28),
            Check.made("finite", holds=False, checked=1, total=1),
        ),
        violations=(Violation(check="cache", message="slot 3 changed", layer=7, row=0),),
        errors=(CaptureError(stop="softmax", message="ValueError: \x1b[2J"),),
        interventions=(Intervention(kind="force", detail="force Large"),),
    )
    view = step_view(run, step, TOKENS)
    assert notes(view.card("update"), "error") == ["violation (cache, row 0, layer 7): slot 3 changed"]
    assert notes(view.card("softmax"), "error")[0].endswith("ValueError: \\x1b[2J")
    assert "force Large" in notes(view.card("choice"), "warning")[0]
    assert notes(view.card("layers"), "error") == [
        "check failed again (finite): no NaN and no infinite value"
    ]
    assert len(view.alerts) == 4
    assert step_line(step, TOKENS).alerts == view.alerts


@pytest.mark.parametrize(("module", "named"), [(2, "model.embed_tokens"), (9999, "module 9999")])
def test_a_violation_names_its_module(module: int, named: str) -> None:
    run = header()
    violation = Violation(check="finite", message="NaN", module=module)
    view = step_view(run, with_head(steps(run, 1)[0], violations=(violation,)), TOKENS)
    assert named in view.alerts[0].text


def test_a_bare_step_still_has_every_card() -> None:
    run = header()
    full = steps(run, 1)[0]
    step = Step(
        head=full.head.model_copy(update={"forward": None, "update": None, "ids_after": None}), scores=None
    )
    view = step_view(run, step, {})
    assert len(view.cards) == 11
    for stop in ("next-logits", "processors", "warpers", "softmax", "choice"):
        card = next(card for card in view.cards if card.stop == stop)
        assert "The scores of this step were not recorded." in notes(card, "warning")
    assert step_line(step, {}).rows == ()


def test_what_changed_since_the_step_before_is_marked() -> None:
    run = header()
    second, third = steps(run, 3)[1:]
    marked = variables(step_view(run, third, TOKENS, second).card("model-call"))
    assert marked["attention_mask"].changed
    assert not marked["use_cache"].changed
    unmarked = variables(step_view(run, third, TOKENS).card("model-call"))
    assert not any(variable.changed for variable in unmarked.values())


def test_a_line_names_choice_and_runner_up() -> None:
    run = header()
    line = step_line(steps(run, 3)[2], TOKENS)
    row = line.rows[0]
    assert (line.number, line.cache_length) == (3, 31)
    assert (row.token.text, row.rank, f"{row.probability:.4f}") == ("␣word13", 1, "0.8067")
    assert row.runner_up is not None
    assert (row.runner_up.id, f"{row.runner_up_probability:.4f}") == (43, "0.1933")


@pytest.mark.parametrize(
    ("candidates", "finished", "said"),
    [
        ((1,), (), "draws from one candidate: there is nothing to choose."),
        ((3,), (), "draws one of 3 candidates at random"),
        ((1, 3, 2), (), "Row 0 has one candidate only"),
        ((2, 1, 1), (), "Rows 1, 2 have one candidate only"),
        ((1, 1, 1), (), "one candidate in every row: there is nothing to choose."),
        ((3, 2, 4), (), "draws one candidate a row at random, each as often as its probability says."),
        ((3, 1, 4), (1,), "draws one candidate a row at random, each as often as its probability says."),
    ],
)
def test_the_draw_is_described_for_every_row(
    candidates: tuple[int, ...], finished: tuple[int, ...], said: str
) -> None:
    run = header(rows=len(candidates))
    step = steps(run)[1]
    assert step.scores is not None
    scores = replace(
        step.scores,
        candidates=np.array(candidates, dtype=np.int32),
        finished=np.array([row in finished for row in range(len(candidates))]),
    )
    for row in range(len(candidates)):
        found = notes(step_view(run, replace(step, scores=scores), TOKENS, row=row).card("choice"))
        assert found[0].endswith(said) if said.endswith(".") else said in found[0]


def test_what_was_not_checked_and_not_captured_is_said_at_its_stop() -> None:
    run = header()
    step = with_head(
        steps(run, 1)[0],
        checks=(
            Check.not_made("cache", "Mamba2Cache: it is a recurrent state"),
            Check(name="finite", result="held", checked=3, total=4, note="without statistics: gate"),
        ),
        uncaptured=(Uncaptured(capture="kv", stop="update", reason="it has no KV cache"),),
    )
    notes = {
        card.stop: [each.text for each in card.blocks if isinstance(each, Note)]
        for card in step_view(run, step, TOKENS).cards
    }
    assert any(text.endswith("Mamba2Cache: it is a recurrent state") for text in notes["update"])
    assert "not captured (KV cache): it has no KV cache" in notes["update"]
    assert any(text.endswith("(3 of 4 module calls); without statistics: gate") for text in notes["layers"])


def test_a_state_is_no_table_of_slots() -> None:
    run = header()
    state = CacheState(kind="Mamba2Cache", length=12, state=True)
    step = with_head(steps(run, 2)[1], cache_before=state, cache_after=state)
    cards = step_view(run, step, TOKENS).cards
    texts = [each.text for card in cards for each in card.blocks if isinstance(each, Note)]
    said = "Mamba2Cache, a state of 12 tokens without keys and values"
    assert f"past_key_values: {said}" in texts
    assert f"KV cache before the forward pass: {said}" in texts
    assert not any(isinstance(each, CacheTable) for card in cards for each in card.blocks)
