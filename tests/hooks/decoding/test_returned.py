"""What a beam search returns is compared with what its steps lead to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationMixin, LogitsProcessor

from tests.support.command import call_main
from tests.support.decoding import BEAMS, CONSTRAINED, GROUPS, search
from tests.support.models import CollectedRun, batch, collected, tiny_model
from tracer import open_trace, trace
from tracer.schema.checks import Check

MODES = {"beams": BEAMS["ending"], "groups": GROUPS["two"], "constrained": CONSTRAINED["phrase"]}


def swapped(name: str) -> Callable[[Any], None]:
    """Give each sequence what belongs to another."""

    def change(output: Any) -> None:
        output[name] = output[name].roll(1, dims=0)

    return change


def other(name: str, place: tuple[int, int]) -> Callable[[Any], None]:
    """Change a single id or row."""

    def change(output: Any) -> None:
        output[name] = output[name].clone()
        output[name][place] += 1

    return change


def cut_short(output: Any) -> None:
    """Leave out the last ids."""
    output["sequences"] = output["sequences"][:, :-3]


CHANGES: dict[str, tuple[Callable[[Any], None], str]] = {
    "sequences swapped": (swapped("sequences"), "the ids are not those"),
    "scores swapped": (swapped("sequences_scores"), "its score is"),
    "beam indices swapped": (swapped("beam_indices"), "the beam indices are not those"),
    "an id of the prompt": (other("sequences", (0, 2)), "the ids are not those"),
    "the last id": (other("sequences", (1, -1)), "the ids are not those"),
    "a row": (other("beam_indices", (0, 1)), "the beam indices are not those"),
    "ids left out": (cut_short, "the ids are not those"),
}


def changing_output(method: str, change: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a loop return something else than what it has come to."""
    from hooks.loop import installation

    run = installation.Installation._run

    def changed(self: Any, runs: Any, inner: Any, input_ids: Any, kwargs: Any) -> Any:
        def other_inner(*args: Any, **given: Any) -> Any:
            output = inner(*args, **given)
            change(output)
            return output

        return run(self, runs, other_inner, input_ids, kwargs)

    assert hasattr(GenerationMixin, method)
    monkeypatch.setattr(installation.Installation, "_run", changed)


def check_of(run: CollectedRun) -> Check:
    (check,) = run.ends[0].checks
    return check


@pytest.mark.parametrize("which", CHANGES)
def test_something_else_than_the_hypotheses_is_seen(which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    change, said = CHANGES[which]
    changing_output("_beam_search", change, monkeypatch)
    model = tiny_model()
    with collected(model) as run:
        search(model, batch(3), **MODES["beams"], num_return_sequences=2)
    assert check_of(run).failed
    assert any(said in each.message for each in run.ends[0].violations)
    assert not any(check.failed for step in run.steps for check in step.head.checks)


@pytest.mark.reference_only
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["sequences", "sequence_scores", "beam_indices"])
def test_what_a_scorer_finalizes_is_compared(mode: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    kind = "ConstrainedBeamSearchScorer" if mode == "constrained" else "BeamSearchScorer"
    scorer = getattr(transformers, kind)
    finalize = scorer.finalize

    def wrong(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = finalize(self, *args, **kwargs)
        result[name] = result[name].roll(1, dims=0)
        return result

    monkeypatch.setattr(scorer, "finalize", wrong)
    model = tiny_model()
    with collected(model) as run:
        search(model, batch(3), **MODES[mode])
    if (mode, name) == ("groups", "beam_indices"):
        assert check_of(run).held
        assert "numbers them within a group" in (check_of(run).note or "")
    else:
        assert check_of(run).failed


@pytest.mark.parametrize("asked", [True, False])
def test_sequences_alone_are_compared_too(asked: bool) -> None:
    model = tiny_model()
    with collected(model) as run:
        model.generate(
            **batch(3),
            **BEAMS["several"],
            max_new_tokens=4,
            pad_token_id=0,
            return_dict_in_generate=asked,
        )
    assert run.problems() == []
    assert (check_of(run).held, check_of(run).checked) == (True, 9)


class _Nothing(LogitsProcessor):  # type: ignore[misc]
    """Makes the scores of a token NaN."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        found = scores.clone()
        found[:, 3] = torch.nan
        return found


def test_scores_without_an_order_lead_to_nothing() -> None:
    model = tiny_model()
    with collected(model) as run:
        search(model, batch(2), **BEAMS["greedy"], logits_processor=[_Nothing()])
    assert check_of(run).reason == "scores are NaN, which have no order"


def test_a_search_that_was_not_followed_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise KeyError("ours")

    monkeypatch.setattr("hooks.decoding.beam_book.Book.step", broken)
    monkeypatch.setattr("hooks.decoding.beam_rules.Ledger.after", broken)
    model = tiny_model()
    with collected(model) as run:
        search(model, batch(), **BEAMS["greedy"], max_new_tokens=3)
    assert check_of(run).reason == "what the search decided was not followed to its end"


def test_a_fault_in_comparing_is_no_fault_of_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise KeyError("ours")

    monkeypatch.setattr("hooks.decoding.returned._Returned.read", broken)
    model = tiny_model()
    with collected(model) as run:
        search(model, batch(), **BEAMS["greedy"], max_new_tokens=3)
    assert "KeyError" in (check_of(run).reason or "")
    assert run.ends[0].beams is not None


def test_other_loops_return_what_their_steps_append() -> None:
    model = tiny_model()
    with collected(model) as run:
        model.generate(**batch(), max_new_tokens=2, do_sample=False, pad_token_id=0)
    assert run.ends[0].checks == ()


def test_every_report_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, path = tiny_model(), tmp_path / "run.trace"
    with monkeypatch.context() as patched:
        changing_output("_beam_search", swapped("sequences_scores"), patched)
        with trace(model, path=path) as session:
            search(model, batch(2), **BEAMS["greedy"])
    assert session.violated
    with open_trace(path) as recording:
        assert recording.end is not None
        assert [each.row for each in recording.end.violations] == [0, 1]
    shown = " ".join(call_main(capsys, "show", path).stdout.split())
    assert "violation (returned, row 0): sequence 0: its score is" in shown
    assert "check failed: returned" in call_main(capsys, "verify", path).stdout
