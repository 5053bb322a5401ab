"""A fork repeats a run bit for bit, and goes on as a fresh generation from there would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from hooks.scores.replay import TorchReplayer
from tests.support.checkpoints import tiny_checkpoint
from tests.support.models import batch, tiny_model
from tracer import open_trace, trace
from tracer.analysis.conditions.condition import parse_condition
from tracer.analysis.draw import DrawStates
from tracer.errors import UsageError
from tracer.forking.forking import Onlookers, fork_with, generate_forks
from tracer.forking.plan import Fork
from tracer.halting.live_run import LiveRun
from tracer.interrupts import LeftRun
from tracer.loading.models import LoadedModel
from tracer.tracefile import TraceRun, check_file

FAMILIES = ("qwen2", "llama", "gemma2", "gpt2")
SAMPLING: dict[str, Any] = {"do_sample": True, "temperature": 1.5, "top_k": 30}
GREEDY: dict[str, Any] = {"do_sample": False, "repetition_penalty": 1.2}
STEPS = 7


def recorded(
    folder: Path, family: str = "qwen2", rows: int = 3, **settings: Any
) -> tuple[PreTrainedModel, Path]:
    """A run of a model that lies in a folder."""
    checkpoint = tiny_checkpoint(folder / "model")
    if family != "qwen2":
        tiny_model(family).save_pretrained(checkpoint)
    model = AutoModelForCausalLM.from_pretrained(checkpoint).eval()
    path = folder / "run.trace"
    options = {"max_new_tokens": STEPS, "eos_token_id": None, "pad_token_id": 0, **settings}
    with trace(model, path=path, capture="tensors", save=["logits", "kv"], seed=5, name=str(checkpoint)):
        torch.manual_seed(5)
        model.generate(**batch(rows), **options)
    return model, path


def ids(run: TraceRun) -> list[list[int]]:
    assert run.end is not None
    return [list(row) for row in run.end.sequences]


def fork_of(path: Path, fork: Fork, **options: Any) -> tuple[TraceRun, TraceRun]:
    (made,) = generate_forks(path, 1, [fork], **options)
    with open_trace(path) as recording, open_trace(made.path) as forked:
        original, run = recording.run(1), forked.run(made.run)
        assert ids(original)
        assert ids(run)
        list(original.steps)
        if fork.step > 1 and not fork.settings:
            assert made.same_prefix
        assert made.notes == ()
        return original, run


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("settings", [GREEDY, SAMPLING], ids=["greedy", "sampling"])
def test_without_a_change_it_is_the_run(
    family: str, rows: int, settings: dict[str, Any], tmp_path: Path
) -> None:
    _, path = recorded(tmp_path, family, rows, **settings)
    made = generate_forks(path, 1, [Fork(step) for step in (1, 4, STEPS)])
    assert check_file(path).whole
    with open_trace(path) as recording:
        original = recording.run(1)
        for each in made:
            run = recording.run(each.run)
            assert ids(run) == ids(original)
            for step in original.steps:
                names = original.tensor_names(step.number)
                assert names == run.tensor_names(step.number)
                for name in names:
                    assert np.array_equal(
                        run.tensor(step.number, name), original.tensor(step.number, name), equal_nan=True
                    )
            assert not any(step.head.interventions or step.head.violations for step in run.steps)
            assert run.header.fork is not None


@pytest.mark.parametrize("settings", [GREEDY, SAMPLING], ids=["greedy", "sampling"])
def test_with_a_token_it_goes_on_as_a_fresh_generation_would(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    model, path = recorded(tmp_path, rows=1, **settings)
    original, run = fork_of(path, Fork(3, token=40))
    with open_trace(path) as recording:
        original, run = recording.run(1), recording.run(2)
        length = len(original.header.prompt[0].token_ids)
        prefix = [*ids(original)[0][: length + 2], 40]
        assert ids(run)[0][: length + 3] == prefix
        if settings["do_sample"]:
            torch.set_rng_state(
                torch.frombuffer(
                    bytearray(DrawStates(original, TorchReplayer()).before(4)), dtype=torch.uint8
                )
            )
        fresh = model.generate(
            torch.tensor([prefix]), max_new_tokens=STEPS - 3, eos_token_id=None, pad_token_id=0, **settings
        )
        assert ids(run)[0] == fresh[0].tolist()
        (change,) = run.steps[2].head.interventions
        assert (change.kind, change.token) == ("force", 40)
        assert check_file(path).whole


def test_only_the_row_that_was_changed_differs(tmp_path: Path) -> None:
    _, path = recorded(tmp_path, **GREEDY)
    original, run = fork_of(path, Fork(3, row=1, token=40))
    before, after = ids(original), ids(run)
    assert (after[0], after[2]) == (before[0], before[2])
    length = len(original.header.prompt[1].token_ids)
    assert after[1][: length + 2] == before[1][: length + 2]
    assert after[1][length + 2] == 40 != before[1][length + 2]


def test_a_banned_token_is_not_chosen(tmp_path: Path) -> None:
    _, path = recorded(tmp_path, rows=1, **GREEDY)
    with open_trace(path) as recording:
        chosen = recording.run(1).steps[3].choice()
    assert chosen is not None
    original, run = fork_of(path, Fork(4, banned=(chosen.token,)))
    length = len(original.header.prompt[0].token_ids)
    assert ids(run)[0][: length + 3] == ids(original)[0][: length + 3]
    assert ids(run)[0][length + 3] != chosen.token


def test_rows_that_had_ended_stay_ended(tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_checkpoint(tmp_path / "other")).eval()
    greedy = model.generate(
        **batch(3), max_new_tokens=STEPS, eos_token_id=None, pad_token_id=0, do_sample=False
    )
    length = batch(3)["input_ids"].shape[1]
    end = int(greedy[1, length + 1])  # row 1 ends in step 2
    _, path = recorded(tmp_path, do_sample=False, eos_token_id=[end])
    original, run = fork_of(path, Fork(4))
    assert ids(run) == ids(original)
    assert ids(run)[1][length + 2 :] == [0] * (len(ids(run)[1]) - length - 2)


def test_other_settings_hold_from_the_fork_on(tmp_path: Path) -> None:
    _, path = recorded(tmp_path, rows=1, **SAMPLING)
    original, run = fork_of(path, Fork(3, settings={"do_sample": False}))
    length = len(original.header.prompt[0].token_ids)
    assert ids(run)[0][: length + 2] == ids(original)[0][: length + 2]
    with open_trace(path) as recording:
        steps = recording.run(2).steps
        assert [len(step.head.interventions) for step in steps] == [1, 1, *[0] * (STEPS - 2)]
        assert all(step.choice() and step.choice().rank == 1 for step in list(steps)[2:])  # type: ignore[union-attr]
        fork = recording.run(2).header.fork
        assert fork is not None
        assert fork.settings == {"do_sample": "False"}


def test_conditions_are_watched_from_the_fork_on(tmp_path: Path) -> None:
    model, path = recorded(tmp_path, rows=1, **SAMPLING)
    breaks = (parse_condition("step in (1, 4)"),)
    loaded = LoadedModel(model, None, str(tmp_path / "model"))
    made = fork_with(loaded, path, 1, Fork(3), Onlookers(breaks=breaks, on_break="stop"))
    assert [hit.step for hit in made.hits] == [4]
    assert (made.run, made.same_prefix, made.faults) == (2, True, ())
    with open_trace(path) as recording:
        assert len(recording.run(2).steps) == 4


def test_a_fork_that_is_left_on_the_way_to_its_step(tmp_path: Path) -> None:
    class Leaving:
        """A stop handler with which the user goes on from elsewhere at once."""

        def begin(self, live: LiveRun) -> None:
            pass

        def between_steps(self) -> None:
            raise LeftRun("left for a fork at step 1")

        def end(self) -> None:
            pass

    model, path = recorded(tmp_path, rows=1, **SAMPLING)
    loaded = LoadedModel(model, None, str(tmp_path / "model"))
    made = fork_with(loaded, path, 1, Fork(3), Onlookers(halt=Leaving()))
    assert (made.run, made.same_prefix, made.notes) == (2, None, ())
    with open_trace(path) as recording:
        end = recording.run(2).end
        assert end is not None
        assert (end.status, end.error, end.steps) == ("interrupted", "left for a fork at step 1", 1)


def test_another_seed_draws_otherwise_and_the_same_again(tmp_path: Path) -> None:
    _, path = recorded(tmp_path, rows=1, **SAMPLING)
    original, first = fork_of(path, Fork(3, seed=11, max_new_tokens=20))
    _, second = fork_of(path, Fork(3, seed=11, max_new_tokens=20))
    length = len(original.header.prompt[0].token_ids)
    assert ids(first) == ids(second)
    assert len(ids(first)[0]) == length + 2 + 20
    assert ids(first)[0][: length + 2] == ids(original)[0][: length + 2]
    assert ids(first)[0][: length + STEPS] != ids(original)[0]


def test_a_fork_of_a_fork_in_another_file(tmp_path: Path) -> None:
    _, path = recorded(tmp_path, rows=1, **SAMPLING)
    fork_of(path, Fork(3, token=40))
    (again,) = generate_forks(path, 2, [Fork(5, token=41)], out=tmp_path / "again.trace")
    with open_trace(path) as recording, open_trace(again.path) as other:
        parent, run = recording.run(2), other.run()
        length = len(parent.header.prompt[0].token_ids)
        assert ids(run)[0][: length + 4] == ids(parent)[0][: length + 4]
        assert ids(run)[0][length + 4] == 41
        assert run.header.fork is not None
        assert (run.header.fork.trace, run.header.fork.run) == ("run.trace", 2)
    with pytest.raises(Exception, match="exists"):
        generate_forks(path, 2, [Fork(5, token=41)], out=tmp_path / "again.trace")


def test_from_python(tmp_path: Path) -> None:
    _, path = recorded(tmp_path, rows=1, **GREEDY)
    with open_trace(path) as recording:
        forked = recording.fork(3, 40, max_new_tokens=4, repetition_penalty=1.0)
    with forked:
        run = forked.runs[-1]
        assert run.header.fork is not None
        assert (run.header.fork.step, run.header.fork.token) == (3, 40)
        assert len(run.steps) == 6


@pytest.mark.parametrize(
    ("fork", "message"),
    [
        (Fork(99), "step 99 was not recorded"),
        (Fork(0), "step 0 was not recorded"),
        (Fork(3, row=5), "row"),
        (Fork(3, token=10**6), "there is no token 1000000"),
        (Fork(3, token=4, banned=(4,)), "forced and banned"),
        (Fork(3, max_new_tokens=0), "at least"),
        (Fork(3, settings={"temperature": -1.0, "do_sample": True}), "temperature"),
    ],
)
def test_what_cannot_be_done_is_refused_and_leaves_the_file_as_it_is(
    fork: Fork, message: str, tmp_path: Path
) -> None:
    _, path = recorded(tmp_path, rows=1, **GREEDY)
    before = path.read_bytes()
    with pytest.raises(UsageError, match=message):
        generate_forks(path, 1, [fork])
    assert path.read_bytes() == before


def test_a_run_whose_caller_had_a_processor_of_its_own_is_refused(tmp_path: Path) -> None:
    class Own:
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            return scores - 1

    _, path = recorded(tmp_path, rows=1, logits_processor=[Own()], **GREEDY)
    for settings in ({}, {"temperature": 2.0, "do_sample": True}):
        with pytest.raises(UsageError, match="Own came from the caller"):
            generate_forks(path, 1, [Fork(3, settings=settings)])


def test_other_weights_are_said(tmp_path: Path) -> None:
    model, path = recorded(tmp_path, rows=1, **GREEDY)
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight += 0.5
    model.save_pretrained(tmp_path / "model")
    (made,) = generate_forks(path, 1, [Fork(4)])
    assert made.same_prefix is False
    assert "the weights are not those that the run had" in made.notes[0]
    assert "their tokens were put back" in made.notes[-1]
    with open_trace(path) as recording:
        length = len(recording.run(1).header.prompt[0].token_ids)
        assert ids(recording.run(2))[0][: length + 3] == ids(recording.run(1))[0][: length + 3]


def test_tokens_that_were_given_to_the_parent_are_marked_in_its_forks_as_well(tmp_path: Path) -> None:
    _, path = recorded(tmp_path, rows=1, **SAMPLING)
    generate_forks(path, 1, [Fork(3, token=40)])
    (made,) = generate_forks(path, 2, [Fork(5)])
    with open_trace(path) as recording:
        parent, run = recording.run(2), recording.run(made.run)
        assert ids(run) == ids(parent)
        marks = [
            [(each.kind, each.token, each.detail) for each in step.head.interventions] for step in run.steps
        ]
    assert marks == [[], [], [("force", 40, "given by run 2")], *[[]] * (STEPS - 3)]
    assert made.notes == ()


@pytest.mark.parametrize(
    ("parent", "fork", "notes"),
    [
        (Fork(3, token=40), Fork(3), ["what was changed in step 3 of run 2 or later is not repeated"]),
        (Fork(3, token=40), Fork(3, token=41), []),
        (Fork(3, seed=9), Fork(2), ["run 2 drew with seed 9 from step 3 on, which is not repeated"]),
        (Fork(3, seed=9), Fork(3), []),
    ],
)
def test_what_a_fork_of_a_fork_does_not_repeat_is_said(
    parent: Fork, fork: Fork, notes: list[str], tmp_path: Path
) -> None:
    _, path = recorded(tmp_path, rows=1, **SAMPLING)
    generate_forks(path, 1, [parent])
    (made,) = generate_forks(path, 2, [fork])
    assert list(made.notes) == notes


def test_settings_that_change_nothing_without_draws_are_said(tmp_path: Path) -> None:
    _, path = recorded(tmp_path, rows=1, **GREEDY)
    (made,) = generate_forks(path, 1, [Fork(3, seed=4, settings={"temperature": 2.0})])
    assert made.notes == (
        "temperature, seed: without effect, since the best token is taken each time; --sample draws",
    )


def test_a_fork_that_its_settings_end_before_its_step_says_so(tmp_path: Path) -> None:
    _, path = recorded(tmp_path, rows=1, **GREEDY)
    with open_trace(path) as recording:
        chosen = recording.steps[1].choice()
        length = len(recording.header.prompt[0].token_ids)
    assert chosen is not None
    for settings in ({"eos_token_id": chosen.token}, {"max_length": length + 2}):
        (made,) = generate_forks(path, 1, [Fork(4, settings=settings)])
        assert made.notes == ("it ended with step 2, before step 4: its settings hold for those before too",)


@pytest.mark.parametrize(
    "wanted",
    [
        {"step": "3"},
        {"step": True},
        {"step": 3, "seed": -1},
        {"step": 3, "max_new_tokens": "x"},
        {"step": 3, "token": 2.5},
        {"step": 3, "row": -1},
    ],
)
def test_values_of_another_kind_are_refused_from_python(wanted: dict[str, Any], tmp_path: Path) -> None:
    _, path = recorded(tmp_path, rows=1, **GREEDY)
    before = path.read_bytes()
    with open_trace(path) as recording, pytest.raises(UsageError, match=r"whole number|no token"):
        recording.fork(**wanted)
    assert path.read_bytes() == before


def test_one_token_can_be_banned_from_python_without_a_list(tmp_path: Path) -> None:
    _, path = recorded(tmp_path, rows=1, **GREEDY)
    with open_trace(path) as recording, recording.fork(3, ban=41) as forked:
        fork = forked.runs[-1].header.fork
    assert fork is not None
    assert fork.banned == (41,)


def test_what_is_to_be_known_of_a_fork_is_a_warning_in_python(tmp_path: Path) -> None:
    _, path = recorded(tmp_path, rows=1, **GREEDY)
    with open_trace(path) as recording, pytest.warns(RuntimeWarning, match="seed: without effect"):
        recording.fork(3, seed=4).close()
