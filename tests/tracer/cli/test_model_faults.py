"""A fault of the model or of the device in the middle of a run: one line, and the trace up to there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen2ForCausalLM

from tests.support.checkpoints import tiny_checkpoint
from tests.support.command import call_main
from tracer import open_trace

FAULTS = {
    "device": (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), 6, "Out of memory"),
    "host": (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), 6, "Out of memory"),
    "model": (RuntimeError("shapes cannot be multiplied\n(1x2 and 3x4)"), 10, "shapes cannot be multiplied"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_step_three(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error, code, words = FAULTS[fault]
    checkpoint, out = tiny_checkpoint(tmp_path / "tiny"), tmp_path / "run.trace"
    original, calls = Qwen2ForCausalLM.forward, 0

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise error
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Qwen2ForCausalLM, "forward", forward)
    monkeypatch.chdir(tmp_path)
    done = call_main(capsys, "--model", checkpoint, "--prompt", "w10", "--out", out, "--greedy", "--quiet")
    assert done.returncode == code
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    with open_trace(out) as recording:
        assert recording.end is not None
        assert recording.end.status == "failed"
        assert recording.end.error is not None
        assert [step.head.failure is None for step in recording.steps] == [True, True, False]


def test_the_line_says_where_and_what_was_not_finite_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "tiny")
    model = Qwen2ForCausalLM.from_pretrained(checkpoint)
    model.model.layers[1].mlp.up_proj.weight.data[3, 7] = torch.nan
    model.save_pretrained(checkpoint)
    monkeypatch.chdir(tmp_path)
    out, page = tmp_path / "t", tmp_path / "t.html"
    arguments = ("--model", checkpoint, "--prompt", "w1", "--out", out, "--html", page, "--sample")
    done = call_main(capsys, *arguments)
    assert done.returncode == 10
    assert done.stderr.count("\n") == 1
    assert page.read_text().startswith("<!doctype html>")
    assert "(step 1, at choice; first non-finite output: model.layers.1.mlp.up_proj (step 1); " in done.stderr
