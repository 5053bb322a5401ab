"""Processes that generate together: each traces itself, and its trace says which it was."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GenerationMixin

from hooks.scores.stages import ScoreStages
from reports.view.run.header import header_view
from tests.support.models import batch, collected, tiny_model
from tracer import open_trace, trace
from tracer.tracefile import check_file

NEW: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}


@pytest.mark.parametrize(
    ("rank", "world_size", "name"),
    [
        ("1", "2", "run.rank1.trace"),
        ("0", "1", "run.trace"),
        ("x", "2", "run.trace"),
        ("2", "2", "run.trace"),
    ],
)
def test_each_rank_has_a_trace_of_its_own(
    rank: str, world_size: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", world_size)
    model = tiny_model()
    with trace(model) as session:
        model.generate(**batch(), **NEW)
    assert str(session.path) == name
    with open_trace(session.path) as recording:
        header = recording.header
    shown = {each.name: each.value for each in header_view(header, {}).metadata}
    if "rank" in name:
        assert (header.rank, header.world_size) == (1, 2)
        assert shown["process"] == "1 of 2"
    else:
        assert header.rank is None
        assert "process" not in shown


def test_a_path_that_was_asked_for_is_used_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with trace(tiny_model(), path=tmp_path / "mine.trace") as session:
        pass
    assert session.path == tmp_path / "mine.trace"


@pytest.mark.parametrize("sample", [False, True])
def test_passes_after_the_end_are_no_steps(sample: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model, left = tiny_model(), [0]

    def unfinished(_self: Any, this_peer_finished: bool, *_: Any, **__: Any) -> bool:
        """As if another process had two more steps to go."""
        left[0] += bool(this_peer_finished)
        return left[0] < 3

    monkeypatch.setattr(GenerationMixin, "_has_unfinished_sequences", unfinished)
    settings = {**NEW, "do_sample": sample, "synced_gpus": True}
    torch.manual_seed(0)
    expected = model.generate(**batch(), **settings)
    left[0] = 0
    torch.manual_seed(0)
    with collected(model) as run:
        assert torch.equal(model.generate(**batch(), **settings), expected)
    assert len(run.steps) == run.ends[0].steps == 5
    assert left == [3]
    assert all(step.scores is not None for step in run.steps)
    assert run.problems() == []


def test_a_step_whose_scores_cannot_be_taken_is_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise NotImplementedError("this kind of tensor cannot be copied")

    monkeypatch.setattr(GenerationMixin, "_has_unfinished_sequences", lambda _, over, *__, **___: not over)
    monkeypatch.setattr(ScoreStages, "__init__", refuse)
    model = tiny_model()
    with collected(model) as run:
        model.generate(**batch(), **NEW, synced_gpus=True)
    assert len(run.steps) == run.ends[0].steps == 5
    for step in run.steps:
        assert step.scores is None
        assert [error.stop for error in step.head.errors] == ["processors"]


LAUNCHERS = {
    "torchrun": ("torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
    "accelerate launch": (
        *("accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"),
        *("--mixed_precision", "no", "--dynamo_backend", "no"),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_ranks(launcher: str, tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    command = [sys.executable, "-m", *LAUNCHERS[launcher]]
    done = subprocess.run(
        [*command, str(Path(__file__).parent / "two_ranks.py")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for rank in (0, 1):
        for name in (f"run.rank{rank}.trace", f"saved{rank}.trace", f"synced{rank}.trace"):
            assert check_file(tmp_path / name).ok
        _check_tensor_parallel(tmp_path / f"run.rank{rank}.trace", rank)
        _check_tensor_parallel(tmp_path / f"saved{rank}.trace", rank)
        with open_trace(tmp_path / f"saved{rank}.trace") as recording:
            names = set(recording.runs[0].tensor_names(2))
            assert {"logits", "hidden/0", "kv/0/key", "lens/tokens"} <= names
            assert recording.runs[0].tensor(2, "modules/model.layers.0.mlp.gate_proj").shape == (1, 1, 32)
        with open_trace(tmp_path / f"synced{rank}.trace") as recording:
            assert len(recording.runs[0].steps) == (3, 6)[rank]
    with (
        open_trace(tmp_path / "run.rank0.trace") as ours,
        open_trace(tmp_path / "run.rank1.trace") as theirs,
    ):
        assert ours.diff(theirs).same
    with (
        open_trace(tmp_path / "saved0.trace") as ours,
        open_trace(tmp_path / "saved1.trace") as theirs,
    ):
        assert ours.diff(theirs).same


def _check_tensor_parallel(path: Path, rank: int) -> None:
    """Of distributed outputs this process's part is recorded, and these modules are named."""
    with open_trace(path) as recording:
        (run,) = recording.runs
        header, names = run.header, [module.name for module in run.header.modules]
        assert (header.rank, header.world_size) == (rank, 2)
        spread = {names[each.module] for each in run.steps[0].head.not_seen}
        assert {each.reason for each in run.steps[0].head.not_seen} == {"spread"}
        assert len(spread) == 6
        assert all(".mlp" in name for name in spread)
        assert not any(step.head.not_seen for step in list(run.steps)[1:])
        for step in run.steps:
            assert step.choice() is not None
            assert not step.head.errors
            assert not step.head.violations
            assert step.layout is not None
            assert step.modules is not None
            without = {
                names[module]
                for module, count in zip(step.layout.modules, step.modules.nonfinite, strict=True)
                if count < 0
            }
            assert not {name for name in without if "rotary" not in name}
            assert np.isfinite(step.modules.mean).sum() > len(spread)
