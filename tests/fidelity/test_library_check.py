"""The check that runs transformers' own tests traced finds what it is for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationMixin, TextStreamer

from hooks.loop import run_capture, step_builder
from hooks.loop.installation import Installation
from hooks.scores.random_state import generator_state
from tests.fidelity import library_tests
from tests.fidelity.library_check.checked_calls import CheckedCalls
from tests.fidelity.library_check.findings import Findings
from tests.fidelity.library_check.outcomes import differences
from tests.support.decoding import scorer_of_ones_own
from tests.support.models import GREEDY, SAMPLING, batch, generate, tiny_model
from tracer.schema.checks import Check, Violation

REPO = Path(__file__).parents[2]
REFUSED = "Beam search with a scorer of one's own (Scorer)"


@pytest.fixture
def findings(tmp_path: Path) -> Iterator[Findings]:
    """Findings of calls that are checked while a test runs."""
    found = Findings()
    with CheckedCalls(tmp_path, found).installed():
        yield found


def kinds(findings: Findings) -> set[tuple[str, str]]:
    return {(found.kind, found.message) for found in findings.examples.values()}


@pytest.mark.parametrize("settings", [GREEDY, SAMPLING], ids=["greedy", "sampling"])
def test_a_sound_call_is_traced_compared_and_has_no_findings(
    findings: Findings, settings: dict[str, Any]
) -> None:
    generate(tiny_model(), batch(2), **settings)
    tally = findings.classes["Qwen2ForCausalLM"]
    assert (tally.calls, tally.traced, tally.compared, tally.steps) == (1, 1, 1, 6)
    assert (findings.examples, findings.exit_code) == ({}, 0)


def test_a_capture_that_the_model_does_not_show_is_left_out_and_said(findings: Findings) -> None:
    model = tiny_model()
    model.config._attn_implementation = "flash_attention_2"  # it was made with another, and runs that
    generate(model, batch())
    assert findings.classes["Qwen2ForCausalLM"].traced == 1
    assert "captures refused: Qwen2ForCausalLM: attention" in findings.lines()


def test_the_library_is_as_before_afterwards(tmp_path: Path) -> None:
    before = GenerationMixin.generate
    with CheckedCalls(tmp_path, Findings()).installed():
        assert GenerationMixin.generate is not before
    assert GenerationMixin.generate is before


def test_a_tracer_that_draws_a_random_number_is_a_difference(
    findings: Findings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def state_after_a_draw(device: torch.device) -> torch.Tensor:
        torch.rand(1)
        return generator_state(device)

    monkeypatch.setattr(run_capture, "generator_state", state_after_a_draw)
    generate(tiny_model(), batch(), **SAMPLING)
    assert ("difference", "leaves another random state") in kinds(findings)
    assert ("difference", "result.sequences differs") in kinds(findings)
    assert findings.exit_code == 1


def test_a_check_that_fails_and_a_capture_that_fails_are_alarms(
    findings: Findings, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = Violation(check="positions", message="planted")
    failed = Check.made("positions", holds=False, checked=1, total=1)
    monkeypatch.setattr(step_builder, "check_positions", lambda *_, **__: (failed, (wrong,)))
    generate(tiny_model(), batch())
    assert kinds(findings) == {("alarm", "check positions failed: planted")}
    assert findings.exit_code == 1


def test_what_is_left_on_a_model_is_an_alarm(findings: Findings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Installation, "_close", lambda _: None)
    generate(tiny_model(), batch())
    assert ("alarm", "left on the model: the model: _sample") in kinds(findings)


def test_what_a_model_keeps_of_every_call_is_its_own(findings: Findings) -> None:
    model = tiny_model()
    model.register_forward_hook(lambda module, _, outputs: setattr(module, "last_logits", outputs.logits))
    generate(model, batch())
    assert findings.examples == {}


def test_a_refused_mode_is_counted_and_runs_untraced(
    findings: Findings, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer_of_ones_own(monkeypatch)
    model, inputs = tiny_model(), batch()
    result = generate(model, inputs, num_beams=2)
    torch.manual_seed(1)
    alone = GenerationMixin.generate.__wrapped__(
        model,
        **inputs,
        max_new_tokens=6,
        pad_token_id=0,
        num_beams=2,
        output_logits=True,
        return_dict_in_generate=True,
    )
    assert torch.equal(result.sequences, alone.sequences)
    tally = findings.classes["Qwen2ForCausalLM"]
    (refused,) = tally.refused.items()
    assert refused == (REFUSED, 1)
    assert (tally.traced, findings.examples) == (0, {})
    assert findings.exit_code == 2, "nothing was traced, which is not to pass for success"


def test_a_call_that_changes_its_arguments_is_not_repeated(findings: Findings) -> None:
    calls = 0

    class Streamer(TextStreamer):  # type: ignore[misc]
        def __init__(self) -> None:
            pass

        def put(self, value: torch.Tensor) -> None:
            nonlocal calls
            calls += 1

        def end(self) -> None:
            pass

    def as_it_is(_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return scores

    generate(tiny_model(), batch(), streamer=Streamer())
    assert calls == 7
    generate(tiny_model(), batch(), logits_processor=[as_it_is])
    assert calls == 7 + 6
    tally = findings.classes["Qwen2ForCausalLM"]
    assert (tally.traced, tally.compared, findings.examples) == (2, 0, {})


def test_an_exception_is_the_same_and_no_finding(findings: Findings) -> None:
    with pytest.raises(ValueError, match="planted_name"):
        generate(tiny_model(), batch(), planted_name=1)
    assert findings.classes["Qwen2ForCausalLM"].compared == 1
    assert findings.examples == {}


def test_findings_that_differ_in_figures_alone_are_one_line() -> None:
    found = Findings()
    for number in (7, 8):
        found.add("alarm", "Tiny", f"test {number}", f"position {number}, expected 0")
    assert "alarm: Tiny: position 7, expected 0 (2 times, first in test 7)" in found.lines()
    assert found.classes["Tiny"].found["alarm"] == 2


def test_results_are_compared_bit_for_bit() -> None:
    nan, zero = torch.tensor([float("nan")]), torch.tensor([0.0])
    assert differences({"a": (nan,)}, {"a": (nan.clone(),)}) == []
    assert differences({"a": (zero,)}, {"a": (-zero,)}) == ["result.a.0 differs"]
    assert differences([zero], [zero, zero]) == ["result has [0], untraced [0, 1]"]
    assert differences(zero, [zero]) == ["result is Tensor, untraced list"]


MODEL = """
import torch
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.generation import utils

def model():
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=None)
    return GPT2LMHeadModel(config).eval()

IDS = torch.tensor([[5, 9, 17]])

def test_generate_sampling():
    assert model().generate(IDS, do_sample=True, max_new_tokens=3).shape == (1, 6)

class Scorer(utils.BeamSearchScorer):
    pass

def test_generate_with_beams(monkeypatch):
    monkeypatch.setattr(utils, "BeamSearchScorer", Scorer)
    assert model().generate(IDS, num_beams=2, max_new_tokens=3).shape == (1, 6)

def test_nothing_of_the_kind():
    raise AssertionError("left out")
"""
FAILING = """
def test_generate_fails_anyhow():
    raise AssertionError("for a reason of its own")
"""
BROKEN_TRACER = """
import torch
from hooks.loop import run_capture

true_state = run_capture.generator_state

def state_after_a_draw(device):
    torch.rand(1)
    return true_state(device)

run_capture.generator_state = state_after_a_draw
"""
ONLY_TRACED = """
from tests.generation.test_utils import IDS, model

def test_generate_sees_a_trace():
    seen = []
    traced = model()
    traced.register_forward_hook(lambda *_: seen.append("generate" in vars(traced)))
    traced.generate(IDS, max_new_tokens=1)
    assert seen[-1:] == [False]
"""


def checkout(folder: Path, **files: str) -> Path:
    """A folder that looks like the tests of transformers."""
    tests = folder / "tests/generation"
    tests.mkdir(parents=True)
    for package in (tests.parent, tests):
        (package / "__init__.py").touch()
    (tests / "test_utils.py").write_text(MODEL)
    for name, text in files.items():
        (tests / f"{name}.py").write_text(text)
    return folder


def run(*arguments: str | Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fidelity.library_tests", *map(str, arguments)],
        cwd=REPO,
        env={**os.environ, "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_the_script_runs_a_checkout_and_writes_a_table(tmp_path: Path) -> None:
    code, text = run(checkout(tmp_path, test_more=FAILING + "# model.generate(ids)\n"))
    assert code == 0, text
    row = next(line for line in text.splitlines() if line.startswith("GPT2LMHeadModel"))
    assert row.split()[1:] == ["2", "1", "1", "1", "3", "0", "0"]
    assert f"refused by name: {REFUSED}" in text
    assert "fail untraced too: 1 tests" in text
    assert "1 failed, 2 passed, 1 deselected" in text


@pytest.mark.slow
def test_the_script_fails_where_the_tracer_is_broken(tmp_path: Path) -> None:
    folder = checkout(tmp_path, conftest=BROKEN_TRACER, test_more=ONLY_TRACED, test_unusable="import nowhere")
    code, text = run(folder, "tests/generation", "-k", "not beams")
    assert code == 1, text
    assert (
        "difference: GPT2LMHeadModel: result differs (1 times, first in tests/generation/test_utils.py"
        in text
    )
    assert "the test fails only traced: assert [True] == [False]" in text
    assert "not collected: tests/generation/test_unusable.py: ModuleNotFoundError" in text


def test_a_folder_that_is_no_checkout_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert library_tests.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"{tmp_path} has no tests/generation/test_utils.py; give the folder of transformers that holds it.\n"
    )
    package = checkout(tmp_path) / "src/transformers"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('__version__ = "4.30.0"\n')
    assert library_tests.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"{tmp_path} is transformers 4.30.0; the tests of 4.44.2 are needed.\n"
    )
    assert library_tests.main([]) == 2
    assert capsys.readouterr().err.count("\n") == 1
