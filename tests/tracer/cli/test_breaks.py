"""Conditions end a run, or only say where they hold; without one nothing waits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.checkpoints import tiny_checkpoint, tiny_tokenizer
from tests.support.command import Ended, call_main, trace_generate
from tests.support.models import SAMPLING, batch, tiny_model
from tracer import open_trace, trace
from tracer.analysis.conditions.condition import Hit
from tracer.errors import CheckFailedError, UsageError
from tracer.schema.run import RunStatus
from tracer.tracefile import Recorder, check_file

CARD = "prepare inputs"
"""Stands in each step that is printed in full, and nowhere else."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def command(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    common = ("--model", checkpoint, "--prompt", "w10 w11", "--max-new-tokens", "8", "--seed", "1", "--gen")

    def run(*arguments: str) -> Ended:
        return call_main(
            capsys, *common, "eos_token_id=null", "--force", "--out", tmp_path / "run.trace", *arguments
        )

    return run


def test_report_says_so_and_prints_the_step_in_full(command: Any) -> None:
    plain = command("--steps", "none").stdout
    done = command("--steps", "none", "--break", "step == 3", "--break", "step in (3, 5)")
    assert done.returncode == 0
    lines = [line.strip() for line in done.stdout.splitlines() if "break:" in line]
    assert lines == [
        "! break: step == 3 holds in step 3: step is 3",
        "! break: step in (3, 5) holds in step 3: step is 3",
        "! break: step in (3, 5) holds in step 5: step is 5",
    ]
    assert done.stdout.count(CARD) == 2
    assert CARD not in plain
    assert done.stdout.index("break:") < done.stdout.index(CARD)


def test_stop_ends_the_run_after_that_step(command: Any, tmp_path: Path) -> None:
    whole = json.loads(command("--json").stdout)
    done = command("--break", "step == 3", "--on-break", "stop")
    assert done.returncode == 0
    assert "Ended by a break: step == 3 holds in step 3: step is 3" in done.stdout
    report = check_file(tmp_path / "run.trace")
    assert report.ok
    assert report.complete
    with open_trace(tmp_path / "run.trace") as recording:
        end = recording.end
        assert end is not None
        assert (end.status, end.steps, len(recording.steps)) == (RunStatus.COMPLETE, 3, 3)
        assert end.ended_by == "step == 3 holds in step 3: step is 3"
        assert list(end.sequences[0][-3:]) == whole["token_ids"][0][:3]
        assert recording.steps[2].head.unfinished == (0,)


@pytest.mark.slow
def test_exit_ends_with_its_code(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "run.trace"
    done = trace_generate(
        *("--model", checkpoint, "--prompt", "w10", "--max-new-tokens", "6", "--seed", "1", "--out", out),
        *("--break", "step == 2", "--on-break", "exit", "--quiet"),
    )
    assert done.returncode == 9
    assert len(done.stdout.split()) == 2
    assert done.stderr.splitlines() == [
        "break: step == 2 holds in step 2: step is 2",
        f"trace-generate: --break step == 2 holds in step 2: step is 2 (the run ended there; {out} has it).",
    ]
    with open_trace(out) as recording:
        assert recording.complete
    shown = trace_generate("info", out)
    assert "complete, ended by a break" in shown.stdout


def test_exit_without_a_hit_is_a_success(command: Any) -> None:
    done = command("--break", "step == 99", "--on-break", "exit", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["breaks"] == []


def test_json_lists_what_held(command: Any) -> None:
    done = command("--break", "step == 2", "--json")
    assert json.loads(done.stdout)["breaks"] == [
        {"condition": "step == 2", "run": 1, "step": 2, "row": None, "reason": "step is 2"}
    ]


def test_a_wrong_expression_is_refused_before_anything_is_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ["--break", "p_chosn < 0.3"],
        ["--break", "step == 1", "--break", "().__class__"],
        ["--on-break", "stop"],
    ):
        done = call_main(capsys, "--prompt", "w10", "--model", "./none", *arguments)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
    done = call_main(capsys, "--prompt", "w10", "--model", "./none", "--break", "p_chosn < 0.3")
    assert "character 1: unknown name p_chosn (did you mean p_chosen?); known are token," in done.stderr


def test_show_finds_them_in_a_trace(command: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command("--quiet")
    found = call_main(
        capsys, "show", tmp_path / "run.trace", "--only", "--steps", "none", "--break", "step >= 7"
    )
    assert found.stdout.count(CARD) == 2
    assert found.stdout.count("break: step >= 7 holds in step") == 2
    assert "run header" not in found.stdout


def test_from_python_a_batch_ends_for_all_rows(tmp_path: Path) -> None:
    model, inputs = tiny_model(), batch(3)
    settings = {**SAMPLING, "max_new_tokens": 8, "pad_token_id": 0, "eos_token_id": None}
    torch.manual_seed(1)
    whole = model.generate(**inputs, **settings)
    heard: list[Hit] = []
    torch.manual_seed(1)
    with trace(
        model,
        path=tmp_path / "run.trace",
        breaks=["row == 1 and step == 2"],
        on_break="stop",
        on_hit=heard.append,
    ) as session:
        output = model.generate(**inputs, **settings)
        assert [(hit.step, hit.row) for hit in session.hits] == [(2, 1)]
        # The next run is watched anew.
        again = model.generate(**inputs, **settings)
    assert output.shape == again.shape == (3, 8)
    assert output.equal(whole[:, :8])
    assert [(hit.run, hit.step) for hit in heard] == [(1, 2), (2, 2)]


def test_from_python_exit_raises_at_the_end_of_the_block(tmp_path: Path) -> None:
    model = tiny_model()
    with (
        pytest.raises(CheckFailedError, match="step == 2 holds in step 2"),
        trace(model, path=tmp_path / "run.trace", breaks="step == 2", on_break="exit"),
    ):
        assert model.generate(**batch(), max_new_tokens=8, eos_token_id=None, do_sample=False).shape[1] == 8
    with (
        pytest.raises(UsageError, match="on_break"),
        trace(model, path=tmp_path / "b.trace", on_break="dance"),  # type: ignore[arg-type]
    ):
        pass


def test_a_token_is_found_by_text_though_no_step_mentioned_it(tmp_path: Path) -> None:
    model = tiny_model()
    with trace(
        model, tiny_tokenizer(), tmp_path / "run.trace", breaks=['removed("w60")'], candidates=1
    ) as session:
        model.generate(**batch(), max_new_tokens=4, do_sample=True, top_k=1, eos_token_id=None)
    with open_trace(tmp_path / "run.trace") as recording:
        assert recording.tokens[60].text == "w60"
        choices = [step.choice() for step in recording.steps]
    kept = sum(choice is not None and choice.token == 60 for choice in choices)
    assert len(session.hits) == 4 - kept > 0


def test_generation_waits_for_the_record_only_when_it_may_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, waits = tiny_model(), []
    monkeypatch.setattr(Recorder, "flush", lambda self: waits.append(self))
    for breaks in ([], ["step == 2"]):
        with trace(model, path=tmp_path / f"{len(breaks)}.trace", breaks=breaks):
            model.generate(**batch(), max_new_tokens=4, do_sample=False)
    assert waits == []
