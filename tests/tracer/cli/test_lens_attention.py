"""`lens` and `attention` as commands, on traces of runs recorded with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.checkpoints import tiny_checkpoint
from tests.support.command import Ended, call_main, run_light
from tests.tracer.cli.test_bad_input import check
from tracer.tracefile import TraceFile

Call = Callable[..., Ended]
RUN = ("--prompt", "w10 w11 w12", "--prompt", "w20", "--max-new-tokens", "4", "--greedy", "--quiet")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("looks")
    tiny_checkpoint(folder / "tiny")
    return folder


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path) -> Call:
    monkeypatch.chdir(folder)
    return lambda *arguments: call_main(capsys, *arguments)


@pytest.fixture
def trace(call: Call, folder: Path) -> str:
    path = "both.trace"
    if not (folder / path).exists():
        done = call(
            *("--model", "tiny", *RUN, "--lens", "--capture", "tensors", "--save", "attention", "--out", path)
        )
        assert done.returncode == 0, done.stderr
    return path


@pytest.fixture
def bare(call: Call, folder: Path) -> str:
    path = "bare.trace"
    if not (folder / path).exists():
        assert call("--model", "tiny", *RUN, "--out", path).returncode == 0
    return path


def document(ended: Ended) -> Any:
    assert ended.stderr == ""
    return json.loads(ended.stdout)


def test_the_last_layer_predicts_what_the_step_recorded(call: Call, trace: str) -> None:
    with TraceFile(trace) as recording:
        for row in (0, 1):
            for step in recording.steps:
                assert step.scores is not None
                found = document(call("lens", trace, "--step", str(step.number), "--row", str(row), "--json"))
                assert found["chosen"] == int(step.scores.chosen[row])
                assert found["layers"][-1]["rank"] == int(step.scores.chosen_rank[0, row])


def test_every_token_of_the_lens_has_a_text(call: Call, trace: str) -> None:
    with TraceFile(trace) as recording:
        run = recording.runs[0]
        for number in run.steps.numbers:
            assert set(run.tensor(number, "lens/tokens").ravel().tolist()) <= set(run.tokens)
    page = call("lens", trace, "--step", "2").stdout
    assert "Chosen was" in page
    assert len(page.splitlines()) == 3 + 1 + 2


def test_the_lens_needs_no_tensors_level(call: Call, folder: Path) -> None:
    done = call("--model", "tiny", *RUN, "--lens", "--out", "lens.trace", "--force")
    assert done.returncode == 0
    assert call("lens", "lens.trace", "--step", "1").returncode == 0


def test_attention_of_layers_heads_and_positions(call: Call, trace: str) -> None:
    found = document(call("attention", trace, "--step", "2", "--row", "1", "--json"))
    with TraceFile(trace) as recording:
        run = recording.runs[0]
        padding = run.header.prompt[1].padding
        assert run.end is not None
        assert found["context"] == list(run.end.sequences[1][: len(found["context"])])
        saved = run.tensor(2, "attention/1")[1, :, -1]
    assert padding > 0
    weights = np.array(found["layers"][1]["weights"])
    np.testing.assert_allclose(weights, saved, atol=1e-7)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
    assert not weights[:, :padding].any()
    layers = call("attention", trace, "--step", "2").stdout.splitlines()
    heads = call("attention", trace, "--step", "2", "--layer", "1").stdout.splitlines()
    assert (len(layers), len(heads)) == (2 + 1 + 2, 2 + 1 + 4)
    positions = call("attention", trace, "--step", "2", "--layer", "1", "--head", "3").stdout
    assert len(positions.splitlines()) == 2 + len(found["context"])


def test_bad_input(call: Call, trace: str, bare: str) -> None:
    check(call("lens", bare, "--step", "1"), 2, ["not recorded", "--lens"])
    check(call("attention", bare, "--step", "1"), 2, ["not recorded", "--save attention"])
    check(call("lens", trace, "--step", "9"), 2, ["step 9"])
    check(call("lens", trace, "--step", "1", "--row", "2"), 2, ["row 2"])
    check(call("attention", trace, "--step", "1", "--row", "-1"), 2, ["row -1"])
    check(call("attention", trace, "--step", "1", "--layer", "2"), 2, ["layer 2", "0, 1"])
    check(call("attention", trace, "--step", "1", "--head", "0"), 2, ["--layer"])
    check(call("attention", trace, "--step", "1", "--layer", "0", "--head", "4"), 2, ["heads 0 to 3"])
    check(call("--model", "tiny", *RUN, "--save", "attention"), 2, ["--capture tensors"])


def test_reading_needs_no_torch(trace: str, folder: Path) -> None:
    commands = [(command, trace, "--step", "1") for command in ("lens", "attention")]
    for command, done in zip(commands, run_light(commands, folder), strict=True):
        assert (done.code, done.imported) == (0, []), command
