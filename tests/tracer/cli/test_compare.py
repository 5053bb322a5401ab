"""`compare`: the pair is run, kept where told, and judged as `diff` judges it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkpoints import tiny_checkpoint
from tests.support.command import Ended, call_main
from tests.tracer.cli.test_bad_input import check
from tracer.tracefile import TraceFile

Call = Callable[..., Ended]
PROMPT = ("--prompt", "w10 w11 w12", "--max-new-tokens", "5")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def call(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, checkpoint: Path
) -> Call:
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: call_main(capsys, "compare", "--model", checkpoint, *arguments)


def compared(call: Call, *arguments: str) -> tuple[int, Any]:
    done = call(*PROMPT, *arguments, "--json")
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize(
    ("vary", "kind", "values"),
    [
        ("cache", "cache", ("DynamicCache", "none")),
        ("attn", "attention", ("eager", "sdpa")),
        ("batch", "batch", ("1", "2")),
    ],
)
def test_the_same_computation_in_another_order(
    call: Call, vary: str, kind: str, values: tuple[str, str]
) -> None:
    code, found = compared(call, "--vary", vary)
    assert code == 0
    assert (found["same"], found["tokens"]) == (True, [])
    assert found["reason"] in ("rounding", "identical")
    assert values in [(fact["a"], fact["b"]) for fact in found["facts"] if fact["kind"] == kind]
    assert len(found["logits"]) == 5
    assert max(distance["divergence"] for distance in found["logits"]) < 1e-6


def test_another_dtype(call: Call) -> None:
    code, found = compared(call, "--vary", "dtype", "--seed", "1")
    facts = [(fact["kind"], fact["a"], fact["b"]) for fact in found["facts"]]
    assert facts == [("dtype", "float32", "bfloat16")]
    assert code == (0 if found["same"] else 1)
    assert max(distance["largest"] for distance in found["logits"]) > 1e-4


def test_another_seed_is_a_draw(call: Call) -> None:
    code, found = compared(call, "--vary", "seed", "--seed", "3", "--temperature", "4")
    assert (code, found["reason"]) == (1, "draw")
    assert [(fact["a"], fact["b"]) for fact in found["facts"]] == [("3", "4")]


def test_a_batch_uses_up_other_random_numbers(call: Call) -> None:
    # On a GPU the first row may well draw the same numbers in a batch of any size.
    options = ("--device-map", "cpu", "--sample", "--temperature", "9", "--seed", "3")
    code, found = compared(call, "--vary", "batch", *options)
    assert (code, found["reason"]) == (1, "draw")
    assert "a batch of another size" in found["explanation"]


def test_a_prompt_is_padded_beside_its_companion(call: Call) -> None:
    _, found = compared(call, "--vary", "batch")
    assert found["rows"][0]["padding_a"] == 0
    assert found["rows"][0]["padding_b"] > 0
    _, found = compared(call, "--vary", "batch", "--prompt", "w1 " * 20)
    assert found["rows"][0]["padding_b"] == 17


def test_messages_are_taken_as_by_run(call: Call, tmp_path: Path) -> None:
    messages = tmp_path / "chat.json"
    messages.write_text('[{"role": "user", "content": "w1 w2"}, {"role": "user", "content": "w3"}]')
    options = ("--vary", "attn", "--max-new-tokens", "2", "--messages", str(messages))
    done = call(*options, "--out-dir", "kept")
    assert (done.returncode, done.stderr) == (0, "")
    with TraceFile("kept/attn-eager.trace") as recording:
        text = recording.header.prompt[0].text
        assert text is not None
        assert "user w1 w2 </s> <s> user w3 </s>" in text
    check(call(*options, "--prompt", "w1"), 2, ["not both"])
    check(call(*options, "--system", "w1"), 2, ["--system"])
    check(call("--vary", "batch", "--messages", str(messages)), 2, ["--vary batch needs a --prompt"])


def test_traces_are_kept_where_told(call: Call, tmp_path: Path) -> None:
    done = call(*PROMPT, "--vary", "attn", "--out-dir", "kept")
    assert done.returncode == 0
    assert "kept/attn-eager.trace" in done.stdout
    assert sorted(path.name for path in Path("kept").iterdir()) == ["attn-eager.trace", "attn-sdpa.trace"]
    with TraceFile("kept/attn-sdpa.trace") as recording:
        assert recording.header.model.attention == "sdpa"
        assert recording.header.do_sample is False
        assert recording.complete
    check(call(*PROMPT, "--vary", "attn", "--out-dir", "kept"), 5, ["exists already", "--force"])
    assert call(*PROMPT, "--vary", "attn", "--out-dir", "kept", "--force").returncode == 0


def test_a_page_of_the_pair(call: Call, tmp_path: Path) -> None:
    done = call(*PROMPT, "--vary", "attn", "--html")
    assert done.returncode == 0
    assert done.stdout.endswith("report: compare-attn.html\n")
    assert [path.name for path in tmp_path.iterdir()] == ["compare-attn.html"]
    check(call(*PROMPT, "--vary", "attn", "--html"), 5, ["compare-attn.html exists already", "--force"])
    assert call(*PROMPT, "--vary", "attn", "--html", "--force", "--out-dir", "kept").returncode == 0
    assert (tmp_path / "kept" / "compare-attn.html").exists()


def test_nothing_is_left_otherwise(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    assert call(*PROMPT, "--vary", "attn").returncode == 0
    assert list(folder.iterdir()) == []
    assert list(tmp_path.iterdir()) == [folder]


def test_bad_input(call: Call, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    check(call("--vary", "attn"), 2, ["--prompt"])
    check(call(*PROMPT), 2, ["--vary"])
    check(call(*PROMPT, "--vary", "weather"), 2, ["weather"])
    check(call(*PROMPT, "--vary", "cache", "--values", "a,b"), 2, ["no meaning"])
    check(call(*PROMPT, "--vary", "attn", "--values", "sdpa,sdpa"), 2, ["two different"])
    check(call(*PROMPT, "--vary", "attn", "--values", "sdpa"), 2, ["two different"])
    check(call(*PROMPT, "--vary", "seed", "--values", "1,two"), 2, ["whole numbers"])
    check(call(*PROMPT, "--vary", "seed", "--values", "1,-2"), 2, ["at least 0"])
    check(call(*PROMPT, "--vary", "dtype", "--values", "float32,float3"), 2, ["float3"])
    check(call(*PROMPT, "--vary", "attn", "--out-dir", "file"), 5, ["file"])
    check(call(*PROMPT, "--vary", "attn", "--tolerance", "-1"), 2, ["tolerance"])
