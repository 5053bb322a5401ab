"""DoLa decoding through every command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkpoints import tiny_checkpoint
from tests.support.command import Ended, call_main
from tracer import open_trace
from tracer.tracefile import TraceFile, check_file

pytestmark = pytest.mark.reference_only

COMMON = ("--prompt", "w10 w11", "--prompt", "w12", "--max-new-tokens", "4", "--seed", "7", "--no-html")
DOLA = ("--gen", "dola_layers=[0,1]")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Any:
    return lambda *arguments: call_main(capsys, *arguments)


@pytest.fixture
def run(checkpoint: Path, tmp_path: Path, call: Any) -> Any:
    """Run the checkpoint, with the two rows of the prompts."""

    def record(*arguments: str, name: str = "run", code: int = 0) -> tuple[Ended, Path]:
        out = tmp_path / f"{name}.trace"
        done: Ended = call("--model", checkpoint, *COMMON, "--out", out, *arguments)
        assert done.returncode == code, done.stderr
        return done, out

    return record


@pytest.mark.parametrize(
    ("value", "layers"),
    [
        ("low", [0]),
        ("high", [1]),
        ("[1]", [1]),
        ("[1, 0]", [1, 0]),
        ("[0,1,7]", [0, 1]),
        ("[-1,0,0]", [2, 0]),
    ],
)
def test_values_of_the_setting(value: str, layers: list[int], run: Any) -> None:
    _, out = run("--quiet", "--gen", f"dola_layers={value}")
    assert check_file(out).whole
    with open_trace(out) as recording:
        assert recording.header.loop == "_dola_decoding"
        for step in recording.steps:
            assert step.head.contrast is not None
            assert [each.layer for each in step.head.contrast.layers] == layers


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("middle", "it must be low, high or a list of layer numbers"),
        ("5", "it must be low, high or a list of layer numbers"),
        ("[]", "it must be low, high or a list of layer numbers"),
        ('["a"]', "it must be low, high or a list of layer numbers"),
        ("[true]", "it must be low, high or a list of layer numbers"),
        ("[9]", "has 2 layers; give numbers from 0, which is the embeddings, to 1"),
        ("[0,-4]", "has 2 layers; give numbers from 0, which is the embeddings, to 1"),
    ],
)
def test_a_value_that_cannot_be_is_one_line(value: str, said: str, run: Any) -> None:
    done, _ = run("--quiet", "--gen", f"dola_layers={value}", code=2)
    assert done.stderr.count("\n") == 1
    assert said in done.stderr


def test_with_beams_the_library_refuses_it(run: Any) -> None:
    done, _ = run("--gen", "dola_layers=high", "--gen", "num_beams=2", code=2)
    assert done.stderr.count("\n") == 1
    assert "dola_layers" in done.stderr


def test_the_walkthrough_shows_the_contrast(run: Any, call: Any) -> None:
    done, out = run(*DOLA)
    assert "decoding DoLa, sampling" in done.stdout or "decoding DoLa, greedy" in done.stdout
    assert done.stdout.count(" 5 contrast of layers ") == 2
    assert done.stdout.count("✓ checked: the scores are the contrast of the two layers") == 2
    assert call("show", out).stdout in done.stdout


def test_questions_are_answered(run: Any, call: Any) -> None:
    _, out = run("--quiet", *DOLA)
    with open_trace(out) as recording:
        step = recording.steps[0]
        assert step.head.contrast is not None
        left = [each.token for each in step.head.contrast.tokens[0]]
        assert len(left) == step.head.contrast.kept[0]
    gone = next(token for token in range(5, 99) if token not in left)
    done = call("why", out, "--step", "1", "--token", str(gone))
    assert done.returncode == 0, done.stderr
    assert "The contrast left it out" in done.stdout
    assert "does not say" not in done.stdout
    for arguments in (
        ("whatif", out, "--temperature", "2"),
        ("info", out),
        ("verify", out),
        ("verify", out, "--rerun"),
        ("tree", out),
    ):
        done = call(*arguments)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)


def test_saved_scores_are_the_contrast_and_the_lens_sees_the_logits(run: Any, call: Any) -> None:
    saved = ("--capture", "tensors", "--save", "logits", "--lens")
    _, out = run("--quiet", *DOLA, *saved)
    with TraceFile(out) as file:
        run_of_it = file.run()
        for step in run_of_it.steps:
            logits = run_of_it.tensor(step.number, "logits")
            contrast = step.head.contrast
            assert contrast is not None
            for row, tokens in enumerate(contrast.tokens):
                assert logits[row, tokens[0].token] == logits[row].max()
            assert (logits > -float("inf")).sum(axis=-1).tolist() == [*contrast.kept]
            assert step.head.uncaptured == ()
    done = call("lens", out, "--step", "2")
    assert done.returncode == 0, done.stderr
    done = call("verify", out, "--rerun")
    assert done.returncode == 0, done.stderr
    assert "gave the same 8 ids, bit for bit" in done.stdout
    assert "ids were compared: no forward pass returns what _dola_decoding saves as logits" in done.stdout


def test_forks_repeat_the_run(run: Any, call: Any) -> None:
    _, out = run("--quiet", *DOLA)
    done = call("fork", out, "--at", "3")
    assert done.returncode == 0, done.stderr
    assert "✓ the steps before step 3 repeat run 1 bit for bit" in done.stdout
    done = call("fork", out, "--run", "1", "--at", "2", "--token", "9")
    assert done.returncode == 0, done.stderr
    with open_trace(out) as recording:
        assert [each.header.loop for each in recording.runs] == ["_dola_decoding"] * 3
        for each in recording.runs:
            assert all(step.head.contrast is not None for step in each.steps)
            assert [
                check for step in each.steps for check in step.head.checks if check.result == "failed"
            ] == []
        ends = [each.end and each.end.sequences for each in recording.runs]
        assert ends[1] == ends[0] != ends[2]
    assert check_file(out).whole


def test_a_plain_run_differs_by_its_loop_first(run: Any, call: Any) -> None:
    _, plain = run("--quiet", name="plain")
    _, dola = run("--quiet", *DOLA, name="dola")
    done = call("diff", plain, dola)
    assert done.returncode == 1
    assert "They differ: other decoding loops" in done.stdout
    facts = done.stdout.split("what differs before the first step", 1)[1]
    assert "decoding loop" in facts.split("dola_layers", 1)[0]
    found = json.loads(call("diff", plain, dola, "--json").stdout)
    assert found["reason"] == "loop"


@pytest.mark.parametrize("vary", ["cache", "attn"])
def test_pairs_are_compared(vary: str, checkpoint: Path, tmp_path: Path, call: Any) -> None:
    done = call(
        *("compare", "--model", checkpoint, "--prompt", "w10 w11 w12", "--max-new-tokens", "4"),
        *(
            "--vary",
            vary,
            *DOLA,
            "--gen",
            "repetition_penalty=1.2",
            "--html",
            tmp_path / "pair.html",
            "--json",
        ),
    )
    assert done.stderr == ""
    assert json.loads(done.stdout)["reason"] in ("rounding", "cache", "numerics", "identical")


def test_exports_have_the_contrast(run: Any, call: Any, tmp_path: Path) -> None:
    _, out = run("--quiet", *DOLA)
    done = call("export", out, "--format", "jsonl", "--out", tmp_path / "run.jsonl")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    contrasts = [line["head"]["contrast"] for line in lines if "head" in line]
    assert len(contrasts) == 4
    assert {layer["layer"] for layer in contrasts[0]["layers"]} == {0, 1}


def test_a_condition_halts_in_it(run: Any) -> None:
    done, _ = run(*DOLA, "--steps", "none", "--break", "step == 2 and p_chosen >= 0")
    assert done.stdout.count(" 5 contrast of layers ") == 1
