"""What a debug console answers, and what it refuses."""

from __future__ import annotations

import builtins
import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.caches import cache_argument
from tests.support.models import SAMPLING
from tests.support.walkthrough import LOOP
from tests.tracer.replay.recordings import recorded
from tests.tracer.tracefile.samples import write_trace
from tracer.errors import UsageError
from tracer.replay.answers.console import Asked, answer, console_completions
from tracer.replay.answers.names import look_up, root_name
from tracer.replay.travel import Travel
from tracer.replay.values.value import Fields, Value, sequence
from tracer.schema.run import StopName
from tracer.tracefile import TraceFile

(CACHE,) = cache_argument(None)
"""The name of the cache among the arguments of the model."""

PROCESSORS = 1 if "warpers" in LOOP.stops else 4
"""Elements of the list of processors: a penalty, and three warpers where they are in no list of their own."""


def asked(stop: StopName = "choice", step: int = 2, row: int = 0) -> Asked:
    travel = recorded(2, ("logits",), **SAMPLING).travel()
    travel.go(travel.timeline.at(step, stop))
    return Asked(travel.moment, "forward" if stop == "forward-result" else "sample", row)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("outputs.logits.shape", "[2, 1, 100]"),
        ("outputs.logits.shape[2]", "100"),
        (" next_token_logits.dtype ", "torch.float32"),
        ("model_inputs['input_ids'].shape", "[2, 1]"),
        (f'model_kwargs["{CACHE}"][1][0].shape', "[2, 2, 7, 8]"),
        pytest.param("cur_len", "7", marks=pytest.mark.reference_only("a variable that newer loops lack")),
        ("do_sample", "True"),
        ("next_tokens.shape", "[2] (assigned later in this step)"),
        ("step", "2"),
        ("step == 2", "true"),
        ("step + 1", "3"),
        ("prefill", "false"),
        ("removed(5) or candidate(5)", "true"),
    ],
)
def test_answers(text: str, expected: str) -> None:
    assert answer(asked(), text).text == expected


def test_values_are_the_recordings() -> None:
    run = recorded(2, ("logits",), **SAMPLING)
    frame = run.frames[2, "choice"]
    for row in (0, 1):
        found = answer(asked(row=row), f"next_token_logits[{row}, 17]").text
        assert np.float32(found) == frame["next_token_logits"][row, 17].numpy()


def test_a_row_has_its_own_conditions() -> None:
    step = recorded(2, ("logits",), **SAMPLING).open().steps[1]
    choices = [step.choice(row) for row in (0, 1)]
    for row, choice in enumerate(choices):
        assert choice is not None
        assert answer(asked(row=row), "token_id").text == str(choice.token)


def test_why_and_whatif_are_the_commands_answers() -> None:
    assert "It was chosen" in answer(asked(), "why").text
    assert "row 1" in answer(asked(row=1), "why").text
    assert "row 1" in answer(asked(), "why id:5 row 1").text
    assert "temperature=1" in answer(asked(), "whatif temperature=1").text
    assert "step N" in answer(asked(), "help").text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prob", "there is no prob in a recording; did you mean probs?"),
        ("foo.bar[1]", "there is no foo in a recording"),
        ("probs[9, 0]", "index 9 is outside a dimension of 2"),
        ("probs.sum", "not .sum"),
        ("probs.sum()", "names with dots and brackets"),
        ("probs[f(1)]", "not f(1)"),
        ("probs[1.5]", "not 1.5"),
        ("outputs['logits']", "has no part 'logits'; it has .logits"),
        ("model_inputs.input_ids", "has no part 'input_ids'; it has ["),
        ("do_sample.real", "bool has no attribute real"),
        ("do_sample[0]", "bool has no parts to index"),
        ("logits_processor[7]", f"has the parts 0 to {PROCESSORS - 1}, not 7"),
        ("__import__('os').system('true')", "there is no __import__ in a recording"),
        ("fork(token=28)", "trace-generate fork goes on from it another way"),
        ("fork token=28", "trace-generate fork goes on from it another way"),
        ("(lambda: 1)()", "part of the language"),
        ("1 +", "cannot be read"),
        ("", "it is empty"),
        ("why zzzz", "zzzz"),
        ("why id:5 row 7", "There is no row 7"),
        ("whatif", "whatif needs settings"),
        ("whatif temperature=x", "expected NAME=VALUE"),
        ("probs[" + "(" * 200 + "0" + ")" * 200 + "]", ""),
        ("a" * 5000, "longer than 500"),
        ("[" * 400, ""),
    ],
    ids=lambda text: text[:30],
)
def test_refusals_are_one_line(text: str, words: str) -> None:
    with pytest.raises(UsageError) as error:
        answer(asked(), text)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@given(st.text(alphabet="outputs.lgi[]():,-1 'x\"\\\n", max_size=40))
def test_any_text_is_answered_or_refused(text: str) -> None:
    variables = {"outputs": lambda: Fields("", "x", {"logits": lambda: sequence([Value("1")])})}
    with contextlib.suppress(UsageError):
        assert isinstance(look_up(text, variables), Value)
    assert (root_name(text) or "") in text


def test_nothing_is_run_as_python(monkeypatch: pytest.MonkeyPatch) -> None:
    where = asked()

    def run(*_: object, **__: object) -> None:
        raise AssertionError("something was run")

    monkeypatch.setattr(builtins, "eval", run)
    monkeypatch.setattr(builtins, "exec", run)
    assert answer(where, "probs[0, :3].shape").text == "[3]"
    with pytest.raises(UsageError):
        answer(where, "probs[0].__class__.__mro__")


def test_names_complete_a_line() -> None:
    assert "next_token_scores" in console_completions(asked(), "probs + next_")
    assert "whatif" in console_completions(asked(), "wh")
    assert "logits" in console_completions(asked("forward-result"), "lo")


def test_a_run_that_was_cut_off_is_asked_alike(tmp_path: Path) -> None:
    write_trace(tmp_path / "run.trace", rows=2, end=False)
    with TraceFile(tmp_path / "run.trace") as recording:
        travel = Travel(recording.run())
        travel.go(travel.timeline.last)
        where = Asked(travel.moment, "sample", 1)
        assert "It was chosen" in answer(where, "why").text
        assert "step 4" in answer(where, "whatif temperature=1").text
        chosen = [step.scores.chosen[1] for step in recording.steps if step.scores is not None]
        found = [answer(where, f"input_ids[1, {place}]").text for place in (-4, -3, -2, -1)]
        assert found == [str(token) for token in chosen]
